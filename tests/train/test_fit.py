"""`fit` with any model and loss: accumulation, clipping, schedules, early stopping, logs, compilation."""

import io
import math
import os
import signal
import struct
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import DataLoader, TensorDataset
from chainrule.nn import functional as F
from chainrule.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from chainrule.train import (
    Interrupted,
    NonFiniteError,
    OutputError,
    Reporter,
    accuracy,
    evaluate,
    fit,
    load_checkpoint,
    read_metrics,
)
from tests.train.stopping import Stop, StopAfter

N, FEATURES = 44, 5


def samples():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, FEATURES)).astype(np.float32)
    return TensorDataset(x, (x.sum(1) > 0).astype(np.int64))


def network(seed=1):
    cr.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.Linear(6, 2))


def weights(model):
    return {name: p.numpy().copy() for name, p in model.named_parameters()}


def train(model=None, batch=8, lr=0.1, data=None, optimizer=None, **options):
    model = model or network()
    options = {"loss": F.cross_entropy, "epochs": 2, "reporter": Reporter(io.StringIO())} | options
    loader = DataLoader(samples(), batch) if data is None else data
    done = fit(model, loader, optimizer or optim.SGD(model.parameters(), lr=lr), **options)
    return model, done


def test_without_a_folder_nothing_is_written_and_the_history_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, done = train(metrics={"accuracy": accuracy}, validation=DataLoader(samples(), 20), epochs=3)
    assert list(tmp_path.iterdir()) == []
    assert [row["epoch"] for row in done.history] == [1, 2, 3] and done.steps == 18 and not done.stopped_early
    assert done.history[-1]["validation_accuracy"] == done.validation["accuracy"]
    assert done.history[-1]["loss"] < done.history[0]["loss"]
    assert done.best["accuracy"] == max(row["validation_accuracy"] for row in done.history)


def test_an_objective_may_be_any_function_of_model_and_batch():
    def reconstruct(model, batch):
        error = cr.mean(cr.abs(model(batch["x"]) - batch["x"]))
        return error**2, {"error": error}

    data = [{"x": cr.tensor(np.random.default_rng(i).normal(size=(4, 3)).astype(np.float32))} for i in range(5)]
    cr.manual_seed(0)
    model = nn.Linear(3, 3)
    _, done = train(model, data=data, loss=None, objective=reconstruct, epochs=20, lr=0.3, validation=data)
    assert done.history[-1]["error"] < done.history[0]["error"] / 2
    assert done.best["loss"] == min(row["validation_loss"] for row in done.history)


def test_accumulated_batches_make_the_update_of_one_large_batch():
    # 6 batches of 8, 8, 8, 8 and 8, 4 samples: the second group is shorter, its last batch smaller.
    small, _ = train(batch=8, accumulate=4)
    large, _ = train(batch=32)
    for name, value in weights(large).items():
        np.testing.assert_allclose(weights(small)[name], value, rtol=2e-6, atol=1e-7)


def test_accumulation_holds_the_graph_of_one_batch_at_a_time():
    graphs, alive = [], []

    def objective(model, batch):
        alive.append(sum(graph() is not None for graph in graphs))
        output = model(batch[0])
        graphs.append(weakref.ref(output._node))
        loss = F.cross_entropy(output, batch[1])
        return loss, {"twice": 2 * loss}

    train(loss=None, objective=objective, accumulate=3, probes=0)
    assert alive == [0] * 12


def test_the_norm_of_the_gradient_is_clipped():
    before = weights(network())
    model, _ = train(batch=N, epochs=1, lr=1.0, clip_norm=1e-3)
    change = math.sqrt(sum(float(np.square(v - before[k]).sum()) for k, v in weights(model).items()))
    assert change == pytest.approx(1e-3, rel=1e-3)


def test_entries_of_the_gradient_are_clipped():
    before = weights(network())
    model, _ = train(batch=N, epochs=1, lr=1.0, clip_value=1e-3)
    largest = max(np.abs(v - before[k]).max() for k, v in weights(model).items())
    assert largest == pytest.approx(1e-3, rel=1e-3)


def test_the_averaged_weights_are_validated_kept_and_left_in_the_model(tmp_path):
    data = list(DataLoader(samples(), 8))
    seen, expected = [], []

    def validate():
        seen.append(weights(model))
        return {"loss": 1.0}

    model = network()
    train(model, data=data, epochs=1, average=0.9, steps=None, validation=validate, run=tmp_path)
    average, plain = weights(network()), network()
    optimizer = optim.SGD(plain.parameters(), lr=0.1)
    for n, (x, y) in enumerate(data, 1):
        optimizer.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        optimizer.step()
        decay = min(0.9, (1 + n) / (10 + n))
        average = {k: decay * average[k] + (1 - decay) * v for k, v in weights(plain).items()}
        expected.append(average)
    best = load_checkpoint(tmp_path / "best.safetensors")["model"]
    last = load_checkpoint(tmp_path / "last.safetensors")["model"]
    for name, value in expected[-1].items():
        for found in (weights(model)[name], seen[-1][name], best[name]):
            np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-8)
        np.testing.assert_array_equal(last[name], weights(plain)[name])


class Loss:
    """A validation whose losses are given."""

    def __init__(self, *losses):
        self.losses = list(losses)

    def __call__(self):
        return {"loss": self.losses.pop(0)}


def test_training_stops_when_it_has_waited_long_enough(tmp_path):
    validation = Loss(0.5, 0.4, 0.45, 0.4, 0.41, 0.1)
    model, done = train(epochs=6, validation=validation, patience=3, run=tmp_path)
    assert done.stopped_early and len(done.history) == 5 and done.best == {"loss": 0.4, "epoch": 2}
    assert load_checkpoint(tmp_path / "best.safetensors")["validation"]["epoch"] == 2
    after = weights(model)
    other, again = train(network(), epochs=6, validation=Loss(), patience=3, run=tmp_path, resume=True)
    assert again.stopped_early and again.history == done.history
    assert all(np.array_equal(after[k], v) for k, v in weights(other).items())


def test_the_monitored_number_and_its_direction_can_be_chosen():
    both = [{"loss": 1.0, "AP": 0.2}, {"loss": 2.0, "AP": 0.4}, {"loss": 0.5, "AP": 0.3}]
    for options, best in (({}, 3), ({"monitor": "AP"}, 2), ({"monitor": "AP", "mode": "min"}, 1)):
        numbers = iter(both)
        _, done = train(epochs=3, validation=lambda: next(numbers), **options)  # noqa: B023 (called within the loop)
        assert done.best["epoch"] == best
    with pytest.raises(cr.OperationError, match="there is loss, AP to monitor"):
        train(validation=lambda: both[0], monitor="mAP")


def test_steps_instead_of_epochs_with_validations_between():
    calls = []
    out = io.StringIO()
    _, done = train(
        epochs=None, steps=20, validate_every=8, validation=lambda: calls.append(1) or {"loss": 0.0},
        reporter=Reporter(out),
    )  # fmt: skip
    assert done.steps == 20 and [row["step"] for row in done.history] == [8, 16, 20] and len(calls) == 3
    assert "step  8/20" in out.getvalue()


def test_schedules_by_epoch_and_by_plateau():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    train(model, optimizer=optimizer, epochs=3, scheduler=StepLR(optimizer, 1, 0.5), scheduler_every="epoch")
    assert optimizer.param_groups[0]["lr"] == 0.125
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    train(model, optimizer=optimizer, epochs=3, scheduler=plateau, validation=Loss(1.0, 1.0, 0.5))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["accumulated", "list", "steps", "dropout and clipping", "averaged"])
def test_every_way_of_training_continues_bit_for_bit(tmp_path, kind):
    def again(folder, **more):
        cr.manual_seed(5)
        model = nn.Sequential(nn.Linear(FEATURES, 6), nn.Dropout(0.5), nn.Linear(6, 2))
        data = DataLoader(samples(), 8, shuffle=True)
        options = {}
        if kind == "accumulated":
            options = {"accumulate": 2}
        elif kind == "list":
            data = list(data)
        elif kind == "averaged":
            options = {"average": 0.8}
        elif kind == "steps":
            options = {"steps": 12, "epochs": None, "validate_every": 5}
        else:
            options = {"clip_norm": 0.1, "scheduler_every": "epoch"}
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        options["scheduler"] = StepLR(optimizer, 2, 0.5)
        options |= {"run": folder, "checkpoint_steps": 1, "validation": DataLoader(samples(), 20)}
        return train(model, data=data, optimizer=optimizer, **(options | more))

    model, done = again(tmp_path / "whole")
    for step in (2, 4, 5):
        folder = tmp_path / str(step)
        with pytest.raises(Stop):
            again(folder, reporter=StopAfter(step))
        cr.manual_seed(99)
        resumed, result = again(folder, resume=True)
        assert all(np.array_equal(v, weights(resumed)[k]) for k, v in weights(model).items())
        assert [r | {"seconds": 0} for r in result.history] == [r | {"seconds": 0} for r in done.history]


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    train(run=tmp_path / "a")
    with pytest.raises(OutputError, match="resume=True"):
        train(run=tmp_path / "a")


def events(folder):
    """(step, tag, value) of every scalar in a folder's event files, in order of writing."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found


def test_tensorboard_gets_the_same_numbers_as_metrics_jsonl(tmp_path):
    train(run=tmp_path, tensorboard=True, validation=DataLoader(samples(), 20), epochs=2)
    found = {(step, tag): value for step, tag, value in events(tmp_path / "tensorboard")}
    for line in read_metrics(tmp_path / "metrics.jsonl", "step"):
        assert found[line["step"], "step/loss"] == pytest.approx(line["loss"], rel=1e-6)
    for line in read_metrics(tmp_path / "metrics.jsonl", "epoch"):
        assert found[line["step"], "epoch/validation_loss"] == pytest.approx(line["validation_loss"], rel=1e-6)
    assert (0, "update_ratio/0") in found


class Logarithm(nn.Module):
    """Becomes NaN when its weight, pushed down in every update, falls below 0."""

    def __init__(self):
        self.weight = nn.Parameter(cr.tensor([0.35]))

    def forward(self, x):
        return cr.log(self.weight) + 0.0 * x


def test_a_nan_of_a_compiled_update_is_found_by_repeating_it_uncompiled(tmp_path):
    model, out = Logarithm(), io.StringIO()
    data = [(cr.zeros((2, 1)), cr.zeros((2, 1)))] * 3

    def push_down(model, batch):
        return cr.mean(model(batch[0])) + cr.sum(model.weight)

    with pytest.raises(NonFiniteError, match=r"loss became nan in step \d+ .*`log`.*cr\.log\(self\.weight\)"):
        train(
            model, data=data, loss=None, objective=push_down, epochs=5, lr=0.05, run=tmp_path, probes=1,
            compile=lambda update: update, reporter=Reporter(out),
        )  # fmt: skip
    assert "repeating from step" in out.getvalue()
    with pytest.raises(NonFiniteError, match="give run= a folder"):
        train(Logarithm(), data=data, loss=None, objective=push_down, epochs=5, lr=0.05, compile=lambda update: update)


def test_a_compiled_update_is_called_for_every_step_that_is_not_probed(tmp_path):
    calls = []

    def compiler(update):
        def compiled(*batches):
            calls.append(len(batches))
            return update(*batches)

        return compiled

    model, done = train(compile=compiler, accumulate=2, epochs=4, probes=3)
    assert calls == [2] * (done.steps - 3)
    plain, _ = train(accumulate=2, epochs=4)
    assert all(np.array_equal(v, weights(plain)[k]) for k, v in weights(model).items())


def test_compiled_training_takes_the_same_path():
    plain, _ = train(metrics={"accuracy": accuracy}, accumulate=2, clip_norm=0.5)
    model, done = train(metrics={"accuracy": accuracy}, accumulate=2, clip_norm=0.5, compile=True, probes=0)
    assert all(np.allclose(v, weights(plain)[k], rtol=1e-5, atol=1e-7) for k, v in weights(model).items())
    assert 0 < done.history[-1]["accuracy"] <= 1


def test_what_measures_a_batch_is_compiled_once_for_all_validations():
    made, calls = [], []

    def compiler(function):
        made.append(function)
        return lambda *batches: calls.append(function) or function(*batches)

    validation = DataLoader(samples(), 20)
    model, done = train(compile=compiler, validation=validation, metrics={"accuracy": accuracy}, epochs=3)
    assert calls.count(made[0]) == 9 and len(made) == 2
    plain = evaluate(model, validation, F.cross_entropy, {"accuracy": accuracy})
    assert done.validation == plain
    compiled = evaluate(model, validation, F.cross_entropy, {"accuracy": accuracy}, compile=True)
    assert compiled == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": None}, "give either epochs= or steps="),
        ({"steps": 3}, "give either epochs= or steps="),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"loss": None}, "give loss="),
        ({"objective": lambda model, batch: None}, "not the two together"),
        ({"patience": 2}, "needs a validation"),
        ({"average": 1.0}, "average is a decay"),
        ({"resume": True}, "give run="),
        ({"tensorboard": True}, "give run="),
        ({"scheduler_every": "day"}, "scheduler_every must be"),
        ({"loss": lambda output, target: output}, r"the loss must be a 0-d tensor .* got shape \(8, 2\)"),
        ({"loss": lambda output, target: 1.0}, "the loss must be a 0-d tensor .* got float"),
        ({"data": DataLoader(samples(), N + 1, drop_last=True)}, "no batch"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(cr.OperationError, match=message):
        train(**options)


class ReadOnce:
    """Batches that are gone after the first pass."""

    def __init__(self):
        self.batches = iter(DataLoader(samples(), 8))

    def __len__(self):
        return 6

    def __iter__(self):
        return self.batches


def test_data_that_can_be_read_only_once_is_refused():
    with pytest.raises(cr.OperationError, match="read once only"):
        train(data=ReadOnce())


def test_ctrl_c_in_the_last_step_of_an_epoch_finishes_the_epoch(tmp_path):
    class Signalling(Reporter):
        def update(self, status):
            if status.step == 6:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped at step 6 of 12"):
        train(run=tmp_path, validation=DataLoader(samples(), 20), reporter=Signalling(io.StringIO()))
    _, done = train(run=tmp_path, validation=DataLoader(samples(), 20), resume=True)
    assert [row["step"] for row in done.history] == [6, 12]
    with pytest.raises(Interrupted, match="nothing is saved"):
        train(reporter=Signalling(io.StringIO()))


def test_evaluate_weighs_batches_by_their_samples_and_keeps_the_mode():
    model = network()
    whole = evaluate(model, DataLoader(samples(), N), F.cross_entropy, {"accuracy": accuracy})
    parts = evaluate(model, DataLoader(samples(), 10), F.cross_entropy, {"accuracy": accuracy})
    assert parts["accuracy"] == pytest.approx(whole["accuracy"], abs=1e-12)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert model.training and round(whole["accuracy"] * N, 9).is_integer()
    with pytest.raises(cr.OperationError, match="no batch"):
        evaluate(model, [], F.cross_entropy)


def test_without_tensorboardx_the_message_names_the_extra(tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("tensorboardX"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'chainrule\[tensorboard\]'"):
        train(run=tmp_path, tensorboard=True)
