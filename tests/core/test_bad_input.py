"""Bad input: one clear message that names the operation, the shapes or types, and the user's own line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.errors import ChainruleError

ones = cr.ones


def leaf(*shape: int) -> cr.Tensor:
    return cr.tensor(np.ones(shape, np.float32), requires_grad=True)


# The exception's class, and the built-in class that NumPy or PyTorch would raise.
SHAPE = (cr.ShapeError, ValueError)
TYPE = (cr.DTypeError, TypeError)
INDEX = (cr.IndexingError, IndexError)
GRADIENT = (cr.GradientError, RuntimeError)
OPERATION = (cr.OperationError, ValueError)

Case = tuple[Callable[[], Any], tuple[type[Exception], type[Exception]], str]

SHAPES: list[Case] = [
    (lambda: ones((2, 3)) + ones(4), SHAPE,
     r"add\(float32\[2, 3\], float32\[4\]\): shapes \(2, 3\) and \(4,\) do not broadcast"),
    (lambda: ones((2, 3)) @ ones((2, 3)), SHAPE, r"matmul\(float32\[2, 3\], float32\[2, 3\].*inner lengths 3 and 2"),
    (lambda: ones(()) @ ones(2), SHAPE, r"matmul: .*shapes \(\) and \(2,\)"),
    (lambda: cr.reshape(ones((2, 3)), (4,)), SHAPE, r"reshape\(float32\[2, 3\].*6 elements do not fill shape \(4,\)"),
    (lambda: cr.reshape(ones((2, 3)), (-1, -1)), SHAPE, r"reshape: shape \(-1, -1\)"),
    (lambda: cr.concat([ones((2, 3)), ones((2, 4))]), SHAPE,
     r"concat\(.*except along axis 0, got \(2, 3\) and \(2, 4\)"),
    (lambda: cr.broadcast_to(ones(3), (2, 4)), SHAPE,
     r"broadcast_to\(float32\[3\].*\(3,\) cannot be broadcast to \(2, 4\)"),
    (lambda: cr.ones((2, -3)), SHAPE, r"ones: .*negative.*\(2, -3\)"),
    (lambda: cr.rand(-1), SHAPE, r"negative: \(-1,\)"),
    (lambda: cr.randn(2.5), SHAPE, r"integers, got \(2\.5,\)"),
    (lambda: cr.max(ones((0, 3)), axis=0), SHAPE, r"max\(float32\[0, 3\].*empty along axis"),
    (lambda: cr.argmin(ones(0)), SHAPE, r"argmin\(float32\[0\].*empty"),
    (lambda: bool(ones(2)), SHAPE, r"truth value of a tensor of shape \(2,\).*any\(\) or all\(\)"),
    (lambda: ones(2).item(), SHAPE, r"item\(\).*\(2,\)"),
    (lambda: float(ones((2, 2))), SHAPE, r"float\(\).*\(2, 2\)"),
    (lambda: len(ones(())), TYPE, r"len\(\) of a 0-d tensor"),
    (lambda: list(ones(())), TYPE, r"iteration over a 0-d tensor"),
]  # fmt: skip

DATA: list[Case] = [
    (lambda: cr.tensor([[1, 2], [3]]), SHAPE, r"ragged"),
    (lambda: cr.tensor([ones(2), ones(3)]), SHAPE, r"ragged"),
    (lambda: cr.tensor("abc"), TYPE, r"expected numbers, got 'abc'"),
    (lambda: cr.tensor([1.0, "two"]), TYPE, r"expected numbers, got 'two'"),
    (lambda: cr.tensor(None), TYPE, r"expected numbers, got None"),
    (lambda: cr.tensor([[1, 2], [3, None]]), TYPE, r"expected numbers, got"),
    (lambda: cr.tensor({"a": 1}), TYPE, r"expected numbers, got dict"),
    (lambda: cr.tensor(object()), TYPE, r"expected numbers, got object"),
    (lambda: cr.tensor([2**70]), TYPE, r"1180591620717411303424, an integer beyond 64 bits"),
    (lambda: cr.tensor([300], dtype="int8"), TYPE, r"int8 holds -128 to 127"),
    (lambda: cr.tensor([1e30], dtype="int32"), TYPE, r"int32 holds"),
    (lambda: cr.tensor([float("nan")], dtype="int32"), TYPE, r"NaN or infinity cannot become int32"),
    (lambda: cr.tensor([1j], dtype="float32"), TYPE, r"complex128 does not fit into float32"),
    (lambda: cr.tensor(np.array([1j]), dtype="float32"), TYPE, r"complex128 does not fit"),
    (lambda: cr.tensor([1], dtype="float33"), TYPE, r"not a data type: 'float33'"),
    (lambda: cr.tensor([1], dtype="float16"), TYPE, r"float16 is not supported; supported: bool"),
    (lambda: cr.tensor(np.array(["a"])), TYPE, r"<U1 is not supported"),
    (lambda: cr.tensor(eval("[" * 70 + "1" + "]" * 70)), SHAPE, r"the data is no array"),
    (lambda: cr.tensor(endless()), SHAPE, r"no array"),
    (lambda: cr.manual_seed("x"), TYPE, r"manual_seed: a seed is an integer, got 'x'"),
    (lambda: cr.randint(5, 5), OPERATION, r"randint: the range \[5, 5\) is empty"),
    (lambda: cr.set_default_dtype("int32"), TYPE, r"set_default_dtype: .*got int32"),
]  # fmt: skip

TYPES: list[Case] = [
    (lambda: ones(2) + "a", TYPE, r"got str"),
    (lambda: "a" * ones(2), TYPE, r"got str"),
    (lambda: ones(2) * [1, 2], TYPE, r"got list; asarray\(\) makes a tensor"),
    (lambda: None - ones(2), TYPE, r"got NoneType"),
    (lambda: cr.exp("a"), TYPE, r"exp: .*got str"),
    (lambda: ones(2) & ones(2), TYPE, r"integers or bools, got float32"),
    (lambda: ones(2) << 1, TYPE, r"bitwise_left_shift\(float32\[2\]"),
    (lambda: -cr.tensor([True]), TYPE, r"negative\(bool\[1\]\)"),
    (lambda: cr.tensor([1j]) < 2.0, TYPE, r"less: complex numbers have no order"),
    (lambda: cr.floor(cr.tensor([1j])), TYPE, r"floor.*complex"),
    (lambda: cr.sigmoid(cr.tensor([1j])), TYPE, r"sigmoid.*complex64"),
    (lambda: cr.tensor([1], dtype="int8") + 300, TYPE, r"300 does not fit into int8"),
    (lambda: cr.tensor([1], dtype="uint8") * -1, TYPE, r"-1 does not fit into uint8"),
    (lambda: [1, 2, 3][ones(())], TYPE, r"integer tensor is an index, this is float32"),
]  # fmt: skip

INDICES: list[Case] = [
    (lambda: ones((2, 3))[2], INDEX, r"index 2 is out of range for an axis of length 2 \(shape \(2, 3\)\)"),
    (lambda: ones((2, 3))[-3], INDEX, r"index -3"),
    (lambda: ones((2, 3))[0, 3], INDEX, r"index 3 is out of range for axis 1 of length 3"),
    (lambda: ones((2, 3))[0, 0, 0], INDEX, r"too many indices: 3 for a tensor of shape \(2, 3\)"),
    (lambda: ones(())[0], INDEX, r"too many indices: 1 for a tensor of shape \(\)"),
    (lambda: ones(2)["a"], INDEX, r"not 'a'"),
    (lambda: ones(2)[1.5], INDEX, r"not 1\.5"),
    (lambda: ones((2, 3))[..., ...], INDEX, r"one ellipsis"),
    (lambda: ones(2)[::0], INDEX, r"step cannot be zero"),
    (lambda: ones((2, 3))[cr.tensor([5])], INDEX, r"indices from 5 to 5 are out of range for axis 0 of length 2"),
    (lambda: ones((2, 3))[cr.tensor([0.5])], INDEX, r"integers or bools, not float32"),
    (lambda: ones((2, 3))[cr.tensor([True, False, True])], INDEX,
     r"mask of shape \(3,\) does not fit axes of shape \(2,\)"),
    (lambda: ones((2, 3))[[0, 1], [0, 1, 2]], INDEX, r"shape mismatch"),
    (lambda: setitem(ones((2, 3)), 0, ones(4)), SHAPE,
     r"value of shape \(4,\) does not fit the region of shape \(3,\)"),
    (lambda: setitem(ones((2, 3)), 5, 1.0), INDEX, r"index 5 is out of range for axis 0"),
    (lambda: setitem(ones((2, 3)), 0, 1j), TYPE, r"complex64 values into a tensor of float32"),
    (lambda: setitem(cr.tensor([1, 2]), 0, 1.5), TYPE, r"float32 values into a tensor of int64"),
    (lambda: setitem(ones((2, 3)), 0, "a"), TYPE, r"got 'a'"),
    (lambda: setitem(ones((2, 3)), 0, [[1], [2, 3]]), SHAPE, r"ragged"),
    (lambda: setitem(leaf(2), 0, 1.0), GRADIENT, r"leaf that requires a gradient"),
    (lambda: setitem(cr.Variable(ones(2), requires_grad=True), 0, 1.0), GRADIENT, r"optimiser"),
]  # fmt: skip

GRADIENTS: list[Case] = [
    (lambda: (leaf(2) * 2).backward(), GRADIENT, r"backward: the output has shape \(2,\); only a scalar"),
    (lambda: ones(()).backward(), GRADIENT, r"backward: nothing .* requires a gradient.*requires_grad=True"),
    (lambda: (leaf(2) * 2).backward(ones(3)), SHAPE, r"cotangent of shape \(3,\) for an output of shape \(2,\)"),
    (lambda: (leaf(2) * 2).backward("x"), TYPE, r"got 'x'"),
    (lambda: (leaf(2) * 2).backward(cr.tensor([1j, 1j])), TYPE,
     r"cotangent of type complex64 for an output of float32"),
    (lambda: cr.grad(ones(()), leaf(2)), GRADIENT, r"grad: a tensor in outputs does not require a gradient"),
    (lambda: cr.grad(leaf(), ones(())), GRADIENT, r"grad: a tensor in inputs does not require"),
    (lambda: cr.grad(leaf(), leaf()), GRADIENT, r"do not depend on input 0 \(shape \(\)\).*allow_unused"),
    (lambda: cr.grad(leaf(), "x"), TYPE, r"inputs must be tensors, got str"),
    (lambda: cr.grad(5, leaf()), TYPE, r"got int"),
    (lambda: cr.grad(leaf(), leaf(), [ones(()), ones(())]), SHAPE, r"2 cotangents for 1 outputs"),
    (lambda: cr.tensor([1, 2], requires_grad=True), TYPE, r"floating and complex.*int64"),
    (lambda: setattr(cr.tensor([True]), "requires_grad", True), TYPE, r"bool"),
    (lambda: (leaf(2) * 2).requires_grad_(False), GRADIENT, r"leaf tensors only"),
    (lambda: ones(2).retain_grad(), GRADIENT, r"retain_grad"),
    (lambda: setattr(leaf(2), "grad", 3), TYPE, r"grad must be a Tensor or None, got int"),
    (lambda: setattr(leaf(2), "grad", ones(3)), SHAPE, r"grad of shape \(3,\) for a tensor of shape \(2,\)"),
    (lambda: setattr(leaf(2), "grad", ones(2, dtype="float64")), TYPE, r"grad of type float64 .* float32"),
    (lambda: cr.Variable(ones(2), name="w").assign(ones(3)), SHAPE, r"shape \(3,\) to w of shape \(2,\)"),
    (lambda: cr.Variable(cr.tensor([1])).assign(ones(1)), TYPE, r"float32 to a variable of type int64"),
]  # fmt: skip


def endless() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


def setitem(x: cr.Tensor, key: Any, value: Any) -> None:
    x[key] = value


EVERY = [*SHAPES, *DATA, *TYPES, *INDICES, *GRADIENTS]


@pytest.mark.parametrize("case", EVERY, ids=[re.sub(r"\W+", "-", c[2])[:60] for c in EVERY])
def test_the_error_names_what_where_and_the_users_line(case: Case) -> None:
    call, (kind, builtin), pattern = case
    with pytest.raises(kind, match=pattern) as caught:
        call()
    assert isinstance(caught.value, ChainruleError)
    assert isinstance(caught.value, builtin)  # `except ValueError` keeps working
    assert re.search(r"\n  at \S*test_bad_input\.py:\d+: \S", str(caught.value)), str(caught.value)


def test_the_line_named_is_the_users_own() -> None:
    with pytest.raises(cr.ShapeError) as caught:
        ones((2, 3)) + ones(4)  # this very line
    assert str(caught.value).endswith("ones((2, 3)) + ones(4)  # this very line")


def test_numpy_s_complaint_stays_as_the_cause() -> None:
    with pytest.raises(cr.ShapeError) as caught:
        ones((2, 3)) + ones(4)
    assert isinstance(caught.value.__cause__, ValueError)


def test_huge_requests_fail_with_their_size() -> None:
    with pytest.raises(MemoryError, match=r"PiB.*\(1000000000, 1000000\)"):
        ones((10**9, 10**6))
    with pytest.raises(cr.ShapeError, match="too big"):
        ones((10**12, 10**12))


def test_comparing_with_something_else_is_false_not_an_error() -> None:
    assert (ones(2) == None) is False  # noqa: E711
    assert (ones(2) != "a") is True
    assert ones(2) not in ("a", None)


def test_a_failed_operation_changes_nothing() -> None:
    x = ones((2, 3))
    for wrong in (lambda: setitem(x, 0, ones(4)), lambda: setitem(x, 9, 0.0)):
        with pytest.raises(ChainruleError):
            wrong()
    assert x.tolist() == [[1.0] * 3] * 2
    assert cr.is_grad_enabled()
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ChainruleError):
        (w * 2.0).backward()
    assert w.grad is None
