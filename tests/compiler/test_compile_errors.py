"""What a compiled function cannot do is an error at its first call, with the user's line and the way out."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim


def fails(function, *args, match: str, line: str | None = None) -> str:
    with pytest.raises(cr.TransformError) as caught:
        cr.compile(function)(*args)
    message = str(caught.value)
    assert re.search(match, message), message
    assert "test_compile_errors.py" in message, message
    if line is not None:
        assert line in message, message
    return message


X = cr.tensor([1.0, 2.0])


def test_control_flow_by_values():
    def function(x):
        loss = x.sum()
        if loss > 1:
            return loss
        return -loss

    message = fails(function, X, match=r"cr\.where.*cr\.cond", line="if loss > 1:")
    assert "computed by greater" in message
    fails(lambda x: x if x.sum() else -x, X, match="bool()")

    def loop(x):
        while x.sum() < 100:
            x = x * 2
        return x

    fails(loop, X, match=r"cr\.where", line="while x.sum() < 100:")


@pytest.mark.parametrize(
    "convert",
    [lambda x: x.sum().item(), lambda x: float(x.sum()), lambda x: int(x.sum()), lambda x: x.numpy(),
     lambda x: x.tolist(), lambda x: np.asarray(x), lambda x: np.sin(x)],
)  # fmt: skip
def test_values_as_numbers(convert):
    fails(convert, X, match="Return it from the function")


def test_a_tensor_as_a_python_index_or_length():
    fails(lambda x: [1, 2][x], cr.tensor(1), match=r"cr\.scan")
    fails(lambda x, n: x[: int(n)], X, cr.tensor(1), match="int()")


def test_a_mask_as_an_index():
    fails(lambda x: x[x > 1], X, match=r"cr\.where\(mask, x, 0\)")


def test_printing_shows_the_shape_and_a_format_is_an_error(capsys):
    @cr.compile
    def function(x):
        print(x, f"{x}", repr(x * 2))
        return x

    function(X)
    assert capsys.readouterr().out.count("float32[2]") == 3
    fails(lambda x: print(f"{x.sum():.3f}"), X, match=r"format\(\)")


def test_a_traced_value_in_a_list():
    kept = []

    def function(x):
        y = x * 2
        kept.append(y)
        return y

    fails(function, X, match="stored outside.*Return it", line="y = x * 2")
    with pytest.raises(cr.TransformError, match="kept from inside"):
        kept[0] + 1
    with pytest.raises(cr.TransformError, match="kept from inside"):
        kept[0].numpy()
    with pytest.raises(cr.TransformError, match="kept from inside"):
        cr.compile(lambda x: x + kept[0])(X)


def test_a_traced_value_in_an_attribute_of_a_module():
    class Remembers(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return self.last

    fails(Remembers(), X, match="nn.Buffer", line="self.last = x * 2")


def test_a_traced_value_written_into_an_outside_tensor():
    table = cr.zeros(3)

    def function(x):
        table[0] = x.sum()
        return x

    fails(function, X, match="stored outside")
    assert cr.zeros(3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("result", [1, 2.5, "text", {"a": 3}, np.zeros(2)])
def test_results_that_are_no_tensors(result):
    fails(lambda x: (x, result), X, match="returned a")


def test_a_schedule_stepped_inside():
    w = nn.Parameter(cr.tensor([1.0]))
    optimizer = optim.SGD([w], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1)

    def step():
        w.sum().backward()
        optimizer.step()
        schedule.step()

    fails(step, match="call it outside")
    assert schedule.last_epoch == 0


def test_an_argument_changed_in_place():
    def function(x):
        x[0] = 5.0
        return x.sum()

    fails(function, X, match="changes its argument 0 in place.*copy", line="x[0] = 5.0")
    assert X.tolist() == [1.0, 2.0]

    @cr.compile
    def with_copy(x):
        x = cr.asarray(x, copy=True)
        x[0] = 5.0
        return x

    assert with_copy(X).tolist() == [5.0, 2.0] and X.tolist() == [1.0, 2.0]


def test_a_module_that_counts_its_calls():
    class Counts(nn.Module):
        def __init__(self):
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    with pytest.raises(cr.TransformError, match=r"changes calls of Counts from 0 to 1.*nn\.Buffer"):
        cr.compile(Counts())(X)


def test_arrays_of_other_types():
    with pytest.raises(cr.DTypeError):
        cr.compile(lambda x: x)(np.array([object()]))
    assert cr.compile(lambda x: x * 2)(np.array([1.0, 2.0], ">f4")).tolist() == [2.0, 4.0]


def test_shape_errors_are_those_of_eager_mode():
    with pytest.raises(cr.ShapeError, match="inner lengths"):
        cr.compile(lambda x: x @ cr.ones((3, 3)))(cr.ones((2, 2)))


def test_what_is_no_function():
    with pytest.raises(cr.DTypeError, match="expected a function"):
        cr.compile(3)
