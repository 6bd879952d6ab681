"""The command line: exit codes, one message an error, plain lines in a pipe, JSON."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.train import load_checkpoint, read_metrics

COMMAND = [sys.executable, "-m", "chainrule"]


def environment(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHAINRULE_")}
    return kept | {"CHAINRULE_CACHE": str(tmp_path / "cache"), "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def call(tmp_path, *args, **more):
    return subprocess.run(
        [*COMMAND, *args], cwd=tmp_path, env=environment(tmp_path) | more, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def inside(tmp_path, monkeypatch, capsys):
    """The command in this process: quicker, for what needs no process of its own."""
    for name in [n for n in os.environ if n.startswith("CHAINRULE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*args):
        capsys.readouterr()
        code = main(list(args))
        return subprocess.CompletedProcess(args, code, *capsys.readouterr())

    return run


def start(tmp_path, *args):
    return subprocess.Popen(
        [*COMMAND, *args],
        cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


TRAIN = ("train", "fashion-mnist", "--fast", "--batch-size", "16")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    return folder, call(folder, *TRAIN, "--name", "whole")


def test_training_prints_plain_lines_in_a_pipe(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "\r" not in done.stdout and done.stderr == ""
    assert re.search(r"^epoch 2/2  loss .*accuracy .*test loss .*images/s$", done.stdout, re.MULTILINE)
    assert re.search(r"^test accuracy [6-9]\d\.\d\d% ", done.stdout, re.MULTILINE)
    assert "hidden2 (Linear)" in done.stdout and "‖Δθ‖/‖θ‖" in done.stdout
    files = {p.name for p in (folder / "runs/fashion-mnist/whole").iterdir()}
    assert files == {"run.json", "last.safetensors", "best.safetensors", "metrics.jsonl", "training.png"}


def test_the_walk_through_has_the_textbook_steps_in_order(finished):
    text = finished[1].stdout
    steps = ["z = w·x + b =", "a = f(z) =", "1. ∂L/∂a", "2. ∂L/∂z = ∂L/∂a · f′(z)", "3. ∂L/∂W = ∂L/∂z · x",
             "4. ∂L/∂b = ∂L/∂z", "5. ∂L/∂x = ∂L/∂z · W"]  # fmt: skip
    positions = [text.index(step) for step in steps]
    assert positions == sorted(positions)


def test_the_walk_through_agrees_with_engine_and_differences(inside):
    for activation in ("relu", "sigmoid"):
        done = inside("train", "fashion-mnist", "--fast", "--epochs", "1", "--activation", activation, "--json")
        assert done.returncode == 0, done.stderr
        neuron = json.loads(done.stdout)["neuron"]
        assert "epoch 1/1" in done.stderr
        assert neuron["worst_engine"] < 1e-12 and neuron["worst_difference"] < 1e-6
        assert {c["name"].split("[")[0] for c in neuron["checks"]} == {f"∂L/∂{n}" for n in "azWbx"}


def state_of(run):
    state = load_checkpoint(run / "last.safetensors")
    return state["model"], state["optimizer"]["state"]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def metrics_of(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run / "metrics.jsonl")]


def test_kill_9_at_random_moments_and_resume_is_bit_for_bit_the_uninterrupted_run(finished, tmp_path):
    run = tmp_path / "runs/fashion-mnist/killed"
    moments = random.Random(os.environ.get("PYTEST_SEED", "7"))
    process = start(tmp_path, *TRAIN, "--name", "killed", "--save-every", "0.02")
    progress = []
    for _ in range(3):
        deadline = time.monotonic() + 60
        while not (run / "last.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        before = load_checkpoint(run / "last.safetensors")["step"]
        while process.poll() is None and load_checkpoint(run / "last.safetensors")["step"] == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        progress.append(load_checkpoint(run / "last.safetensors")["step"])
        process = start(tmp_path, "train", "--resume", "runs/fashion-mnist/killed", "--save-every", "0.02")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert progress == sorted(progress) and 0 < progress[0] < 126
    whole = finished[0] / "runs/fashion-mnist/whole"
    assert all(map(same, state_of(run), state_of(whole)))
    assert metrics_of(run) == metrics_of(whole)


def test_ctrl_c_saves_says_how_to_resume_and_exits_with_130(finished, tmp_path):
    process = start(tmp_path, *TRAIN, "--name", "stopped", "--epochs", "50")
    run = tmp_path / "runs/fashion-mnist/stopped"
    while process.poll() is None and not (run / "last.safetensors").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "chainrule train --resume runs/fashion-mnist/stopped" in errors and "Traceback" not in errors
    assert load_checkpoint(run / "last.safetensors")["step"] > 0


def fails(done, code, *parts):
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["train", "fashion-minst"], ["no recipe 'fashion-minst'", "did you mean fashion-mnist?"]),
        (["train", "zzz"], ["known: fashion-mnist"]),
        (["train", "fashion-mnist", "second"], ["name one recipe"]),
        (["train", "fashion-mnist", "--epoch", "3"], ["--epochs"]),
        (["train", "fashion-mnist", "--epochs", "0"], ["--epochs"]),
        (["train", "fashion-mnist", "--epochs", "many"], ["--epochs"]),
        (["train", "--resume", "--lr", "0.1", "--batch-size", "3"], ["leave out", "--lr", "--batch-size"]),
        (["train", "--resume", "a", "b"], ["no recipe 'a'"]),
        (["trian"], ["train"]),
        (["data", "fashion"], ["did you mean fashion-mnist"]),
        (["learn", "costs"], ["did you mean cost"]),
    ],
)
def test_wrong_usage_exits_with_2_and_suggests(inside, args, parts):
    fails(inside(*args), 2, *parts)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["train", "fashion-mnist", "--lr", "nan"], ["lr must be a finite number"]),
        (["train", "fashion-mnist", "--activation", "softplus"], ["activation must be one of tanh"]),
        (["train", "fashion-mnist", "--data", "nowhere"], ["nowhere, holds no complete Fashion-MNIST"]),
        (["train", "fashion-mnist", "--name", "../x"], ["a run's name is made of letters"]),
        (["train", "--resume"], ["no run to resume under runs (no such folder)"]),
        (["train", "--resume", "nowhere"], ["nowhere is not a run's folder"]),
        (["train", "fashion-mnist", "--fast", "--out", "/proc/nowhere"], ["cannot write /proc/nowhere/fashion-mnist"]),
        (
            ["train", "fashion-mnist", "--fast", "--lr", "1e30"],
            ["became nan in step", "parameter hidden1.weight", "lower the learning rate"],
        ),
    ],
)
def test_failures_exit_with_1_and_one_message(inside, tmp_path, args, parts):
    fails(inside(*args), 1, *parts)
    assert not list(tmp_path.glob("runs/*/*")) or "1e30" in args


def test_a_disk_that_refuses_the_checkpoint_is_reported(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [*COMMAND, *TRAIN], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, preexec_fn=limit
    )
    fails(done, 1, "cannot write runs/fashion-mnist/", "last.safetensors: File too large; free some space")
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_killed_before_its_first_checkpoint_starts_anew(finished, tmp_path):
    run = tmp_path / "runs/fashion-mnist/early"
    run.mkdir(parents=True)
    whole = finished[0] / "runs/fashion-mnist/whole"
    (run / "run.json").write_bytes((whole / "run.json").read_bytes())
    # A process of its own, like the first: the last bits depend on the number of BLAS threads.
    assert call(tmp_path, "train", "--resume", str(run)).returncode == 0
    assert all(map(same, state_of(run), state_of(whole)))


def test_a_damaged_checkpoint_is_named(finished, inside, tmp_path):
    run = tmp_path / "runs/fashion-mnist/a"
    run.mkdir(parents=True)
    for file in (finished[0] / "runs/fashion-mnist/whole").iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    content = (run / "last.safetensors").read_bytes()
    (run / "last.safetensors").write_bytes(content[: len(content) // 2])
    fails(inside("train", "--resume"), 1, "last.safetensors: damaged, truncated")
    (run / "run.json").write_text('{"recipe": "fashion-mnist", "settings": {"no such": 1}}')
    fails(inside("train", "--resume", str(run)), 1, "run.json")


def test_damaged_data_is_named(inside, tmp_path, monkeypatch):
    folder = tmp_path / "d" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(b"not IDX at all")
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "d"))
    fails(inside("train", "fashion-mnist"), 1, "train-images-idx3-ubyte: not an IDX file")


def test_help_is_everywhere(inside):
    for args in ([], ["train"], ["data"], ["learn"]):
        done = inside(*args, "--help")
        assert done.returncode == 0 and "Usage:" in done.stdout
    assert inside("--version").stdout.startswith("chainrule 0.")


def test_a_recipe_s_settings_are_options_with_their_defaults(inside):
    shown = " ".join(inside("train", "fashion-mnist", "--help").stdout.split())
    assert "--activation" in shown and "One of tanh, relu, sigmoid. [default: tanh]" in shown
    assert "[default: 10; 2 with --fast]" in shown
    assert "--activation" not in inside("train", "--help").stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": "many"}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": float("inf")}, "lr must be a finite number"),
        ({"fast": 1}, "fast must be true or false"),
        ({"data": 3}, "data must be str | None"),
        ({"blocks": 3}, "unexpected keyword argument 'blocks'"),
    ],
)
def test_settings_of_a_run_that_were_tampered_with_are_refused(inside, tmp_path, settings, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text(json.dumps({"recipe": "fashion-mnist", "settings": settings}))
    fails(inside("train", "--resume", "run"), 1, "run.json", message)


def test_a_terminal_without_unicode_gets_question_marks(finished, tmp_path):
    run = finished[0] / "runs/fashion-mnist/whole"
    done = call(tmp_path, "train", "--resume", str(run), PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "2. ?L/?z = ?L/?a" in done.stdout, done.stderr


def test_data_lists_sources_and_needs_no_network(inside, tmp_path):
    done = inside("data", "--json")
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert entries["fashion-mnist"]["embedded"] and entries["smollm2"]["folder"] is None
    assert "the subset inside the package" in inside("data").stdout
    done = inside("data", "fashion-mnist", "--address", (tmp_path / "none").as_uri())
    fails(done, 1, "could not be downloaded")
    assert list(Path(tmp_path / "cache").rglob("*.gz")) == []


def test_learn_cost_measures_and_says_what_was_extrapolated(inside, tmp_path):
    done = inside("learn", "cost", "--fast", "--json", "--plot", "cost.svg")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [r["weights"] for r in rows] == sorted(r["weights"] for r in rows)
    for r in rows:
        assert r["forward_mode"]["error"] < 1e-9 and r["finite_differences"]["error"] < 1e-5
    assert rows[0]["forward_mode"]["measured"] == rows[0]["weights"]
    assert rows[-1]["forward_mode"]["measured"] < rows[-1]["weights"] and "≈" in done.stderr
    # Backpropagation stays a small multiple of a forward pass while the others grow with the weights.
    assert rows[-1]["ratio"] < 30 and rows[-1]["forward_mode"]["seconds"] / rows[-1]["forward"] > 1000
    assert (tmp_path / "cost.svg").read_bytes().startswith(b"<?xml")
    assert "\ncost " in inside("learn").stdout
