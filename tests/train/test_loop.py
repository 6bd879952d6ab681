"""The loop: exact resume, Ctrl-C, and a NaN whose origin is named."""

import functools
import io
import os
import signal
import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import DataLoader, TensorDataset
from chainrule.nn import functional as F
from chainrule.train import (
    CheckpointError,
    Interrupted,
    NonFiniteError,
    OutputError,
    Reporter,
    RunError,
    accuracy,
    evaluate,
    fit,
    latest_run,
    load_checkpoint,
    new_run,
    open_run,
    read_metrics,
)

EPOCHS, BATCH = 3, 8


class Net(nn.Module):
    def __init__(self):
        self.fc1 = nn.Linear(5, 6)
        self.drop = nn.Dropout(0.3)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(x))))


def samples(n=44):
    generator = cr.Generator(9)
    x = cr.randn(n, 5, generator=generator)
    return TensorDataset(x, cr.Tensor((x.numpy().sum(1) > 0).astype(np.int64)))


def trainer(run, epochs=EPOCHS, **options):
    """A training of the same network from the same seed, ready to begin: call it."""
    cr.manual_seed(4)
    model = Net()
    loader = DataLoader(samples(), BATCH, shuffle=True)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(loader))
    options = {
        "loss": F.cross_entropy,
        "metrics": {"accuracy": accuracy},
        "scheduler": schedule,
        "validation": DataLoader(samples(), 20),
        "validation_name": "test",
        "reporter": Reporter(io.StringIO()),
    } | options
    return functools.partial(fit, model, loader, optimizer, run=run, epochs=epochs, **options)


def final_state(run):
    state = load_checkpoint(run.last)
    del state["elapsed"], state["metrics"]
    return state


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return a.tobytes() == b.tobytes()
    return a == b


def metrics(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run.metrics)]


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("runs"), "test", {}, "whole")
    trainer(run)()
    return run


@pytest.mark.parametrize("stop", [1, 3, 6, 7, 12, 17])
def test_a_run_stopped_after_any_step_continues_bit_for_bit(tmp_path, uninterrupted, stop):
    run = new_run(tmp_path, "test", {}, "a")

    class Stopping(Reporter):
        steps = 0

        def update(self, status):
            self.steps += 1
            if self.steps == stop + 1:  # the checkpoint of step `stop` exists, work was done since
                raise Stop

    with pytest.raises(Stop):
        trainer(run, checkpoint_steps=1, reporter=Stopping(io.StringIO()))()
    cr.manual_seed(1234)
    trainer(open_run(run.folder))(resume=True)
    assert equal(final_state(run), final_state(uninterrupted))
    assert metrics(run) == metrics(uninterrupted)


def test_resuming_a_finished_run_changes_nothing(uninterrupted):
    before = final_state(uninterrupted), metrics(uninterrupted)
    result = trainer(uninterrupted)(resume=True)
    assert result.validation == before[0]["validation"]
    assert equal(before[0], final_state(uninterrupted)) and before[1] == metrics(uninterrupted)


def test_metrics_hold_every_epoch_and_layer(uninterrupted):
    epochs = read_metrics(uninterrupted.metrics, "epoch")
    assert [e["epoch"] for e in epochs] == [1, 2, 3]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    layers = read_metrics(uninterrupted.metrics, "layers")
    assert [row["name"] for row in layers[0]["layers"]] == ["fc1", "drop", "fc2"]
    fc1 = layers[0]["layers"][0]
    assert {"mean", "std", "zeros", "grad", "grad_norm", "weight_norm", "update_ratio"} <= fc1.keys()
    # Adam's first step changes every weight by the learning rate.
    assert fc1["update_ratio"] == pytest.approx(0.05 * 6 ** (1 / 2) * 6 ** (1 / 2) / fc1["weight_norm"], rel=1e-3)


def test_the_best_model_is_kept(uninterrupted):
    best = load_checkpoint(uninterrupted.best)
    accuracies = [e["test_accuracy"] for e in read_metrics(uninterrupted.metrics, "epoch")]
    assert best["validation"]["accuracy"] == max(accuracies)
    model = Net()
    model.load_state_dict(best["model"])
    found = evaluate(model, DataLoader(samples(), 20), F.cross_entropy, {"accuracy": accuracy})
    assert found["accuracy"] == max(accuracies)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_continue(tmp_path, uninterrupted, number):
    run = new_run(tmp_path, "test", {}, "a")

    class Signalling(Reporter):
        def update(self, status):
            if status.step == 8:
                os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match="continue with: resume me") as caught:
        trainer(run, reporter=Signalling(io.StringIO()), resume_hint="resume me")()
    assert caught.value.signal == number and signal.getsignal(number) is handler
    assert load_checkpoint(run.last)["step"] == 8
    trainer(run)(resume=True)
    assert equal(final_state(run), final_state(uninterrupted))


def test_a_thread_that_is_not_the_main_one_can_train(tmp_path):
    run = new_run(tmp_path, "test", {}, "a")
    thread = threading.Thread(target=lambda: trainer(run)())
    thread.start()
    thread.join()
    assert load_checkpoint(run.last)["epoch"] == EPOCHS


class Broken(Net):
    def forward(self, x):
        h = self.drop(F.relu(self.fc1(x)))
        masked = cr.where(h > 1e9, h, -float("inf"))  # an infinity that is absorbed
        h = h + cr.exp(masked)
        return self.fc2(cr.log(h - h))  # the culprit


def broken(run, model, x=None, loss_fn=F.cross_entropy):
    data = samples() if x is None else TensorDataset(x, cr.Tensor(np.zeros(len(x), np.int64)))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fit(model, DataLoader(data, 4), optimizer, run=run, epochs=1, reporter=Reporter(io.StringIO()), loss=loss_fn)


def test_a_nan_loss_names_operation_module_line_and_operands(tmp_path):
    run = new_run(tmp_path, "test", {})
    with pytest.raises(NonFiniteError) as caught:
        broken(run, Broken())
    message = str(caught.value)
    assert "in step 1 (epoch 1)" in message
    assert "`log`" in message and "test_loop.py" in message and "self.fc2(cr.log(h - h))" in message
    assert "infinity from finite operands" in message and "[0, 0] = 0" in message
    assert str(run.last) in message


def test_a_nan_in_the_data_is_called_that(tmp_path):
    with pytest.raises(
        NonFiniteError, match=r"The input x already holds NaN\. Look at the data.*`affine` in module fc1 at .*test_loop"
    ):
        broken(new_run(tmp_path, "test", {}), Net(), cr.Tensor(np.full((8, 5), np.nan, np.float32)))


def test_a_diverged_parameter_is_named(tmp_path):
    model = Net()
    model.fc2.weight.assign(np.full((3, 6), np.inf, np.float32))
    with pytest.raises(NonFiniteError, match=r"parameter fc2\.weight already holds infinity.*lower the learning rate"):
        broken(new_run(tmp_path, "test", {}), model)


def test_a_gradient_that_is_not_finite_names_the_derivative(tmp_path):
    def loss_fn(output, _):
        return cr.sqrt(cr.sum(output * 0.0))  # value 0, derivative 0 · infinity

    with pytest.raises(NonFiniteError, match=r"a gradient is not finite.*The derivative of `sqrt` at .*test_loop\.py"):
        broken(new_run(tmp_path, "test", {}), Net(), loss_fn=loss_fn)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, uninterrupted):
    with pytest.raises(CheckpointError, match="18 steps, this one has 24"):
        trainer(open_run(uninterrupted.folder), epochs=4)(resume=True)


def test_runs_are_named_found_and_not_overwritten(tmp_path):
    a, b = new_run(tmp_path, "r", {"x": 1}), new_run(tmp_path, "r", {})
    assert a.folder != b.folder and open_run(a.folder).settings == {"x": 1}
    new_run(tmp_path, "r", {}, "mine")
    with pytest.raises(OutputError, match="--resume"):
        new_run(tmp_path, "r", {}, "mine")
    with pytest.raises(OutputError, match="letters"):
        new_run(tmp_path, "r", {}, "../up")
    with pytest.raises(RunError, match="no run of r to resume"):
        latest_run(tmp_path, "r")
    with pytest.raises(RunError, match="is not a run's folder"):
        open_run(tmp_path)
    for run in (a, b):
        run.last.write_bytes(b"")
    os.utime(a.last, (2e9, 2e9))
    assert latest_run(tmp_path).folder == a.folder
    (b.folder / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        open_run(b.folder)


def test_gradients_that_are_finite_one_by_one_are_not_blamed_on_an_operation(tmp_path):
    def loss_fn(output, _):
        return cr.sum(output) * 1e36

    with pytest.raises(NonFiniteError, match="finite one by one; their norm overflows"):
        broken(new_run(tmp_path, "test", {}), Net(), loss_fn=loss_fn)
