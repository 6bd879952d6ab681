"""The report: a person can follow a line of their Python to the kernel that runs it."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim


class Net(nn.Module):
    def __init__(self):
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.fc2(cr.tanh(self.fc1(x)))


def compiled_step():
    model = Net()
    optimizer = optim.Adam(model.parameters())

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, cr.compile(step)


BATCH = cr.asarray(np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)), cr.asarray(np.arange(32) % 4)


def test_kernels_name_lines_modules_and_costs():
    _model, step = compiled_step()
    step(*BATCH)
    report = step.report()
    products = [k for k in report.kernels if "affine" in k.operations or "matmul" in k.operations]
    first = next(k for k in products if "fc1" in k.modules)
    assert any("return self.fc2(cr.tanh(self.fc1(x)))" in line for line in first.lines)
    assert first.operations["affine"] == 1
    # The product, the bias, and what was fused with them.
    assert first.flops >= 2 * 32 * 8 * 16 + 32 * 16
    assert report.flops == sum(k.flops for k in report.kernels)
    updates = [k for k in report.kernels if any("optimizer.step()" in line for line in k.lines)]
    assert updates
    assert all(k.seconds is not None and k.seconds > 0 for k in report.kernels)
    assert report.handed_over == []
    assert report.arguments == ["float32[32, 8]", "int64[32]"]
    assert 0 < report.arena < report.values
    assert set(report.seconds) == {"trace", "passes", "code"}


def test_the_printed_report_is_a_table():
    _model, step = compiled_step()
    step(*BATCH)
    text = str(step.report())
    assert "handed to NumPy: none" in text and "kernels" in text and "GF/s" in text
    assert "optimizer.step()" in text and "fc1" in text
    assert "µs" not in str(step.report(time=False))


def test_the_report_changes_nothing():
    model, step = compiled_step()
    step(*BATCH)
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    draws = cr.random.default_generator.state.numpy().copy()
    step.report(code=True)
    assert all(np.array_equal(t.numpy(), before[name]) for name, t in model.state_dict().items())
    np.testing.assert_array_equal(cr.random.default_generator.state.numpy(), draws)


def test_hand_overs_are_listed():
    step = cr.compile(lambda x: cr.linalg.inv(x) @ x)
    step(cr.asarray(np.eye(3) * 2.0))
    report = step.report()
    assert [k.operations for k in report.handed_over] == [{"inv": 1}]
    assert "handed to NumPy: inv" in str(report)


def test_code_and_graph_on_request():
    _model, step = compiled_step()
    step(*BATCH)
    assert "define void @" in step.report(time=False, code=True).code
    assert "affine" in str(step.graph) and "return" in str(step.graph)


def test_before_the_first_call_there_is_nothing_to_report():
    _model, step = compiled_step()
    with pytest.raises(cr.OperationError, match="has not been called yet"):
        step.report()


def test_debug_prints_the_report_when_something_is_compiled(monkeypatch, capsys):
    monkeypatch.setenv("CHAINRULE_DEBUG", "1")
    _model, step = compiled_step()
    step(*BATCH)
    printed = capsys.readouterr().err
    assert "operations traced" in printed and "optimizer.step()" in printed
    step(*BATCH)
    assert capsys.readouterr().err == ""


def test_convolutions_count_their_products():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    step = cr.compile(lambda x: conv(x))
    step(cr.zeros((2, 3, 5, 5)))
    assert step.report(time=False).flops == 2 * (2 * 8 * 5 * 5) * (3 * 3 * 3)
