"""Progress, tables and plots."""

import builtins
import io

import pytest

from chainrule.train import MetricsLog
from chainrule.train.plots import PlotError, plot_training
from chainrule.train.progress import BarReporter, Reporter, Status, duration, reporter_for, text_table

STATUS = Status(2, 5, 30, 100, {"loss": 0.5, "accuracy": 0.875}, 1234.0, 200.0, "images")


def test_a_pipe_gets_plain_lines():
    out = io.StringIO()
    reporter = reporter_for(out)
    assert type(reporter) is Reporter
    reporter.interval = 0.0
    with reporter:
        reporter.update(STATUS)
        reporter.say("done")
    assert out.getvalue() == (
        "epoch 2/5  step 30/100  loss 0.5000  accuracy 87.50%  1,234 images/s  3:20 min left\ndone\n"
    )


def test_a_terminal_gets_a_bar_with_everything_on_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    reporter = reporter_for(out)
    assert type(reporter) is BarReporter
    with reporter:
        reporter.update(STATUS)
        reporter.say("a line that stays")
    reporter.say("after the bar")
    text = out.getvalue()
    for part in ("epoch 2/5", "30 %", "loss 0.5000", "accuracy 87.50%", "1,234 images/s", "3:20 min left"):
        assert part in text
    assert "a line that stays" in text and text.endswith("after the bar\n")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (65, "1:05 min"), (7500, "2:05 h")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_tables_align():
    assert text_table(["a", "bb"], [["xyz", "1"], ["", "22"]]) == "a    bb\n───  ──\nxyz   1\n     22"


@pytest.fixture
def metrics(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(event="step", step=1, loss=float("nan"))
    log.append(event="epoch", epoch=1, step=2, loss=0.5, accuracy=0.9, test_loss=0.6, test_accuracy=0.8)
    log.append(event="layers", step=0, layers=[{"name": "fc", "grad_norm": 0.1, "update_ratio": 0.001}, {"name": "f"}])
    log.close()
    return log.path


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_plots_are_files_of_the_kind_asked_for(metrics, tmp_path, name, start):
    assert plot_training(metrics, tmp_path / name, "title").read_bytes().startswith(start)


def test_an_empty_run_can_be_plotted(tmp_path):
    assert plot_training(tmp_path / "none", tmp_path / "a.png").exists()


def test_without_matplotlib_the_message_names_the_extra(metrics, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(PlotError, match=r"pip install 'chainrule\[plots\]'"):
        plot_training(metrics, tmp_path / "a.png")
