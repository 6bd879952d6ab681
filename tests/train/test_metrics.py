"""metrics.jsonl survives kills: partial lines and lines beyond the checkpoint go."""

import errno
import os

import pytest

from chainrule.train import MetricsLog, OutputError, read_metrics


def test_lines_come_back_in_order_and_by_event(tmp_path):
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    log.append(event="epoch", loss=0.5)
    log.append(event="layers", layers=[{"zeros": float("nan")}])
    log.close()
    assert read_metrics(log.path) == [{"event": "epoch", "loss": 0.5}, {"event": "layers", "layers": [{"zeros": None}]}]
    assert read_metrics(log.path, "epoch") == [{"event": "epoch", "loss": 0.5}]
    assert read_metrics(tmp_path / "none") == []


def test_half_a_line_is_passed_over_and_then_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": ')
    assert [v["a"] for v in read_metrics(path)] == [1, 2]
    log = MetricsLog(path)
    log.append(a=3)
    log.close()
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_resuming_cuts_to_the_length_the_checkpoint_remembers(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(step=1)
    length = log.sync()
    log.append(step=2)
    log.close()
    log = MetricsLog(path, length)
    log.append(step=3)
    log.close()
    assert [v["step"] for v in read_metrics(path)] == [1, 3]


def test_a_file_shorter_than_remembered_is_no_error(tmp_path):
    log = MetricsLog(tmp_path / "m", 1000)
    log.append(a=1)
    assert log.sync() == len(b'{"a": 1}\n')
    log.close()


def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path / "m")

    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match="No space left"):
        log.sync()
    log.close()


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    log = MetricsLog(tmp_path / "m")
    with pytest.raises(OutputError, match="another process"):
        MetricsLog(tmp_path / "m")
    log.close()
    MetricsLog(tmp_path / "m").close()
