"""Methods of tensors, PyTorch's habits among them, and the messages where a habit has another name here."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.array.elsewhere import Elsewhere


@pytest.fixture
def x() -> cr.Tensor:
    return cr.tensor(np.arange(24.0).reshape(2, 3, 4))


def test_methods_are_the_functions(x: cr.Tensor) -> None:
    for name in ("sum", "mean", "max", "min", "prod", "var", "std", "argmax", "argmin", "all", "any", "logsumexp"):
        expected = getattr(cr, name)(x, axis=1)
        for found in (getattr(x, name)(axis=1), getattr(x, name)(1)):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
        np.testing.assert_array_equal(getattr(x, name)().numpy(), getattr(cr, name)(x).numpy())
    for name in ("abs", "exp", "sqrt", "tanh", "floor", "sign", "isnan"):
        np.testing.assert_array_equal(getattr(x, name)().numpy(), getattr(cr, name)(x).numpy())
    assert x.clip(2, max=5).max().item() == 5
    assert x.astype(cr.int32).dtype == cr.int32


def test_transposes(x: cr.Tensor) -> None:
    np.testing.assert_array_equal(x.mT.numpy(), x.numpy().swapaxes(-1, -2))
    np.testing.assert_array_equal(x[0].T.numpy(), x.numpy()[0].T)
    with pytest.raises(cr.ShapeError, match=r"T: needs 2 axes, got shape \(2, 3, 4\)"):
        _ = x.T
    with pytest.raises(cr.ShapeError, match="at least 2 axes"):
        _ = x[0, 0].mT


def test_habits_from_pytorch_that_cannot_be_mistaken_work(x: cr.Tensor) -> None:
    assert x.view(6, 4).shape == x.view((6, -1)).shape == x.reshape(6, 4).shape == (6, 4)
    assert x.permute(2, 0, 1).shape == x.permute((2, 0, 1)).shape == (4, 2, 3)
    assert x.transpose(0, 2).shape == (4, 3, 2)
    assert x.transpose(-1, -2).shape == (2, 4, 3)
    assert x.transpose().shape == (4, 3, 2)
    assert x.transpose(1, 0, 2).shape == (3, 2, 4)
    assert x[0].t().shape == x[0].transpose(0, 1).shape == (4, 3)
    assert x.unsqueeze(-1).shape == (2, 3, 4, 1)
    assert x.unsqueeze(1).squeeze(1).shape == x.shape
    assert x[:, :1].expand(-1, 3, 4).shape == x.shape
    assert x[0, 0].expand(2, -1).shape == (2, 4)
    assert (x.float().dtype, x.double().dtype) == (cr.float32, cr.float64)
    assert (x.long().dtype, x.int().dtype, x.bool().dtype) == (cr.int64, cr.int32, cr.bool)
    assert (x.numel(), x.dim()) == (24, 3)
    assert x.cpu() is x.contiguous() is x.to("cpu") is x.to_device("cpu") is x.to(x.dtype)
    assert x.to(cr.float32).dtype == x.to(dtype="float32").dtype == cr.float32
    assert x.detach().cpu().numpy().shape == x.shape
    np.testing.assert_array_equal(x.masked_fill(x > 3, 0).numpy(), np.where(x.numpy() > 3, 0, x.numpy()))
    assert x.flatten(1).shape == (2, 12)
    assert x.ravel().shape == (24,)


def test_clone_passes_gradients_and_can_be_assigned_into() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    y[0] = 5.0
    assert x.tolist() == [1, 2]
    assert cr.grad(y.sum(), x).tolist() == [0, 1]
    assert copy.deepcopy(x.detach()).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.sum(dim=1), "sum: there is no argument 'dim'; the standard's name is axis"),
        (lambda x: cr.mean(x, dim=1), "mean: there is no argument 'dim'; the standard's name is axis"),
        (lambda x: x.max(axis=1, keepdim=True), "max: .*'keepdim'; the standard's name is keepdims"),
        (lambda x: x.var(unbiased=False), "the standard's name is correction"),
        (lambda x: cr.concat([x, x], dim=1), "concat: .*axis"),
        (lambda x: x.squeeze(dim=0), "squeeze: .*axis"),
        (lambda x: cr.sum(x, 1), "sum: too many positional arguments"),
        (lambda x: cr.sum(), r"sum missing 1 required positional argument"),
        (lambda x: cr.sum(input=x), "the first argument, which has no name"),
    ],
)
def test_arguments_with_other_names_are_named(x: cr.Tensor, call: Any, message: str) -> None:
    with pytest.raises(cr.ArgumentError, match=message) as caught:
        call(x)
    assert isinstance(caught.value, TypeError)
    assert "test_methods.py" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "chainrule computes on the CPU"),
        ("data", "use detach"),
        ("add_", r"write x = x \+ y; parameters have assign"),
        ("relu_", r"write x = x.relu\(...\)"),
        ("zero_", "zeros_like"),
        ("softmax", "nn.functional.softmax"),
        ("cumsum", "cumulative_sum"),
        ("gather", "take_along_axis"),
        ("nonsense", "no attribute 'nonsense'"),
    ],
)
def test_attributes_of_other_libraries_are_translated(x: cr.Tensor, name: str, message: str) -> None:
    assert not hasattr(x, name)
    with pytest.raises(AttributeError, match=message):
        getattr(x, name)


def test_a_devices_name_other_than_cpu_is_refused(x: cr.Tensor) -> None:
    assert x.device == "cpu"
    for call in (lambda: x.to("cuda"), lambda: x.to(device="cuda:0"), lambda: x.to_device("mps")):
        with pytest.raises(cr.OperationError, match="the only device"):
            call()


def test_advice_is_given_only_for_attributes_that_do_not_exist(x: cr.Tensor) -> None:
    advised = [name for name, value in vars(cr.Tensor).items() if isinstance(value, Elsewhere)]
    assert len(advised) > 150
    assert not [name for name in advised if hasattr(cr.Tensor, name) or name in dir(x)]
    assert {"sum", "grad", "T"} <= set(dir(x))


def test_attributes_of_a_tensor_are_looked_up_the_fast_way() -> None:
    # A __getattr__ on the class would keep Python from specialising every attribute access of every tensor.
    assert not hasattr(cr.Tensor, "__getattr__")


def test_the_namespace_is_this_library_for_the_versions_it_follows(x: cr.Tensor) -> None:
    assert x.__array_namespace__() is cr
    assert x.__array_namespace__(api_version="2024.12") is cr
    with pytest.raises(cr.OperationError, match=r"array API version '2035\.12'"):
        x.__array_namespace__(api_version="2035.12")


@pytest.mark.parametrize("name", ["sum", "max", "flip", "squeeze", "permute_dims", "sort", "concat", "roll", "take"])
@pytest.mark.parametrize("axis", [3, -4])
def test_axes_out_of_range_are_named_with_the_range(x: cr.Tensor, name: str, axis: int) -> None:
    calls: dict[str, Any] = {
        "permute_dims": lambda: cr.permute_dims(x, (axis, 0, 1)),
        "squeeze": lambda: cr.squeeze(x, axis),
        "concat": lambda: cr.concat([x], axis=axis),
        "roll": lambda: cr.roll(x, 1, axis=axis),
        "take": lambda: cr.take(x, cr.tensor([0]), axis=axis),
    }
    with pytest.raises(cr.ShapeError, match=rf"{name}: axis {axis} is out of range for a tensor with 3 axes") as caught:
        calls.get(name, lambda: getattr(cr, name)(x, axis=axis))()
    assert isinstance(caught.value, IndexError)


def test_axes_given_twice_or_as_something_else_are_refused(x: cr.Tensor) -> None:
    with pytest.raises(cr.ShapeError, match=r"sum: an axis occurs twice in \(0, -3\)"):
        x.sum(axis=(0, -3))
    with pytest.raises(cr.ArgumentError, match=r"sum: an axis is an integer, got 1\.5"):
        x.sum(axis=1.5)  # type: ignore[arg-type]
    with pytest.raises(cr.ShapeError, match="names 2 of the 3 axes"):
        cr.permute_dims(x, (0, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: cr.reshape(x, (5, 5)), r"reshape\(float64\[2, 3, 4\], shape=\(5, 5\)\): 24 elements do not fill"),
        (lambda x: cr.reshape(x, (-1, -1)), "one -1"),
        (lambda x: cr.reshape(x, (-1, 7)), r"24 elements \(shape \(2, 3, 4\)\) do not fill shape \(-1, 7\)"),
        (lambda x: cr.reshape(x, (-2, 12)), "no other negative length"),
        (lambda x: cr.squeeze(x, 1), "squeeze: axis 1 has length 3, not 1"),
        (lambda x: cr.broadcast_to(x, (2, 3)), r"shape \(2, 3, 4\) cannot be broadcast to \(2, 3\)"),
        (lambda x: cr.concat([x, x[0]], axis=0), "all shapes must agree except along axis 0"),
        (lambda x: cr.stack([x, x[0]]), r"stack: all shapes must be equal, got \(2, 3, 4\) and \(3, 4\)"),
        (lambda x: cr.stack([]), "stack: there are no tensors to join"),
        (lambda x: cr.concat(x), "concat: expected a tuple or list of tensors"),
        (lambda x: cr.split(x, 5, axis=2), "split: 5 equal parts of length 4"),
        (lambda x: cr.repeat(x, -1), "repeat: the number of repeats is negative"),
        (lambda x: cr.repeat(x, cr.tensor([1, 2]), axis=1), r"repeats of shape \(2,\) for an axis of length 3"),
        (lambda x: cr.pad(x, ((1, 1), (0, 0))), "no pair for each of the 3 axes"),
        (lambda x: cr.tile(x, (-1,)), "tile: a length cannot be negative"),
        (lambda x: cr.take(x, cr.tensor([0])), "take: give the axis"),
        (lambda x: cr.take(x, cr.tensor([0.5]), axis=0), "take: indices are integers, got float32"),
        (lambda x: cr.take_along_axis(x, cr.tensor([0])), "take_along_axis: indices of shape"),
        (lambda x: cr.cumulative_sum(x), "cumulative_sum: give the axis"),
        (lambda x: x @ cr.ones((3, 3)), "the inner lengths 4 and 3 must be equal"),
        (lambda x: cr.matmul(x, cr.tensor(1.0)), "matmul: operands must have axes"),
        (lambda x: cr.tensordot(x, x, axes=2), "differ in length"),
        (lambda x: cr.tensordot(x, x, axes=4), "tensordot: 4 axes of shapes"),
        (lambda x: cr.vecdot(x, x[..., :2]), "vecdot: axis -1 of shapes"),
        (lambda x: cr.outer(x, x), "outer: operands are 1-d"),
        (lambda x: cr.searchsorted(x, x), "the sorted values have one axis"),
        (lambda x: cr.nonzero(x[0, 0, 0]), "nonzero: a 0-d tensor"),
        (lambda x: cr.diff(x, n=-1), "diff: n is negative"),
        (lambda x: cr.roll(x, (1, 2), axis=0), "roll: 2 shifts for 1 axes"),
    ],
)
def test_shapes_that_do_not_fit_are_named(x: cr.Tensor, call: Any, message: str) -> None:
    with pytest.raises(cr.ChainruleError, match=message) as caught:
        call(x)
    assert "test_methods.py" in str(caught.value)


def test_every_public_function_says_what_it_does_and_is_typed() -> None:
    for name in cr.array.__all__:
        function = getattr(cr, name)
        if callable(function):
            assert function.__doc__, name
            signature = inspect.signature(function)
            assert all(p.annotation is not p.empty for p in signature.parameters.values()), name
            assert signature.return_annotation is not signature.empty, name
