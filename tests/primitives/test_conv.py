"""Convolution and pooling primitives: the defining sums, transposes, batches, blocks of any size, empty batches."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import func
from chainrule.core.errors import DTypeError, ShapeError
from chainrule.core.tensor import Tensor
from chainrule.primitives import columns
from chainrule.primitives.conv import conv, conv_transpose, conv_weight, output_size
from chainrule.primitives.window import (
    window_argmax,
    window_max,
    window_put,
    window_spread,
    window_sum,
    window_take,
)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@st.composite
def geometries(draw: st.DrawFn, low: int = -1) -> dict[str, Any]:
    """Arguments of a convolution that fits; paddings of their own on both sides, negative ones too."""
    rank = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(least, most), min_size=rank, max_size=rank)))

    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    padding = tuple(zip(each(low, 2), each(low, 2), strict=True))
    size = tuple(
        max(d * (k - 1) + 1 - sum(p), 1) + more
        for k, d, p, more in zip(kernel, dilation, padding, each(0, 4), strict=True)
    )
    return {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


def operands(c: dict[str, Any], groups: int, count: int, each: tuple[int, int]) -> tuple[Any, ...]:
    """An image, a weight and a cotangent that fit, and the parameters of conv."""
    out = output_size(**c)
    x = numbers(count, groups * each[0], *c["size"])
    w = numbers(groups * each[1], each[0], *c["kernel"], seed=1)
    g = numbers(count, groups * each[1], *out, seed=2)
    params = {"stride": c["stride"], "padding": c["padding"], "dilation": c["dilation"], "groups": groups}
    return x, w, g, params


def by_definition(x: np.ndarray, w: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    """The sum over channels and taps, position by position."""
    size, kernel = x.shape[2:], w.shape[2:]
    out = output_size(size, kernel, stride, padding, dilation)
    y = np.zeros((x.shape[0], w.shape[0], *out))
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for position, tap in itertools.product(np.ndindex(*out), np.ndindex(*kernel)):
        pixel = tuple(
            p * s + k * d - before
            for p, s, k, d, (before, _) in zip(position, stride, tap, dilation, padding, strict=True)
        )
        if all(0 <= i < n for i, n in zip(pixel, size, strict=True)):
            for group in range(groups):
                channels, rows = (slice(group * n, (group + 1) * n) for n in (inputs, outputs))
                y[(slice(None), rows, *position)] += x[(slice(None), channels, *pixel)] @ w[(rows, slice(None), *tap)].T
    return y


sizes = {"groups": st.integers(1, 3), "count": st.integers(0, 3), "each": st.tuples(*[st.integers(1, 5)] * 2)}


@settings(max_examples=60, deadline=None)
@given(c=geometries(), **sizes, block=st.sampled_from([8, 600, 1 << 20]))
def test_conv_is_its_defining_sum_in_blocks_of_any_size(
    c: dict[str, Any], groups: int, count: int, each: tuple[int, int], block: int
) -> None:
    x, w, _, params = operands(c, groups, count, each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK_BYTES", block)
        y = conv(Tensor(x), Tensor(w), **params)
    # Cropping is the same as convolving what is left.
    kept = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(c["size"], c["padding"], strict=True))
    padding = tuple((max(a, 0), max(b, 0)) for a, b in c["padding"])
    expected = by_definition(x[(slice(None), slice(None), *kept)], w, **{**params, "padding": padding})
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(c=geometries(), **sizes, block=st.sampled_from([8, 600, 1 << 20]))
def test_the_three_convolutions_are_transposes_of_each_other(
    c: dict[str, Any], groups: int, count: int, each: tuple[int, int], block: int
) -> None:
    x, w, g, params = operands(c, groups, count, each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK_BYTES", block)
        y = conv(Tensor(x), Tensor(w), **params).numpy()
        dx = conv_transpose(Tensor(g), Tensor(w), size=c["size"], **params).numpy()
        dw = conv_weight(Tensor(x), Tensor(g), kernel=c["kernel"], **params).numpy()
    assert (dx.shape, dw.shape) == (x.shape, w.shape)
    assert np.vdot(y, g) == pytest.approx(np.vdot(x, dx), rel=1e-9, abs=1e-9)
    assert np.vdot(y, g) == pytest.approx(np.vdot(w, dw), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("batched", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("size", [0, 3])
def test_vmap_of_a_convolution_is_a_loop(groups: int, batched: tuple[bool, bool], size: int) -> None:
    params: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": groups}
    shapes = {"x": (2, 2 * groups, 5, 4), "w": (3 * groups, 2, 3, 2), "g": (2, 3 * groups, 2, 5)}
    for primitive, names, more in (
        (conv, "xw", {}), (conv_transpose, "gw", {"size": (5, 4)}), (conv_weight, "xg", {"kernel": (3, 2)}),
    ):  # fmt: skip
        arrays = [
            numbers(*((size,) if b else ()), *shapes[name]) for name, b in zip(names, batched, strict=True)
        ]  # fmt: skip

        def apply(a: Tensor, b: Tensor, primitive: Any = primitive, more: Any = more) -> Tensor:
            return primitive(a, b, **more, **params)

        y = func.vmap(apply, in_dims=tuple(0 if b else None for b in batched))(*map(Tensor, arrays))
        each = [
            apply(*(Tensor(a[i] if b else a) for a, b in zip(arrays, batched, strict=True))).numpy()
            for i in range(size)
        ]
        assert y.shape[0] == size
        if size:
            np.testing.assert_allclose(y.numpy(), np.stack(each), atol=1e-12)


def test_per_sample_gradients_of_a_weight_by_vmap() -> None:
    x, w = Tensor(numbers(4, 3, 6, 6)), Tensor(numbers(5, 3, 3, 3))
    params: dict[str, Any] = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return cr.sum(cr.tanh(conv(cr.reshape(image, (1, *image.shape)), weight, **params)) ** 2)

    each = func.vmap(func.grad(loss), in_dims=(None, 0))(w, x)
    for i in range(4):
        np.testing.assert_allclose(each.numpy()[i], func.grad(loss)(w, x[i]).numpy(), rtol=1e-10)


def test_strided_views_and_broadcast_cotangents_give_the_values_of_copies() -> None:
    x, w = numbers(6, 5, 4, 3).T, numbers(2, 2, 2, 6).T
    params: dict[str, Any] = {"stride": (1, 2), "padding": ((1, 1), (0, 1)), "dilation": (1, 1), "groups": 2}
    y = conv(Tensor(x), Tensor(w), **params)
    np.testing.assert_array_equal(y.numpy(), conv(Tensor(x.copy()), Tensor(w.copy()), **params).numpy())
    for kernel in ((1, 1), (2, 3)):
        image, weight = (cr.tensor(numbers(*s), requires_grad=True) for s in ((2, 3, 5, 5), (4, 3, *kernel)))
        plain: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
        cr.check_grad(lambda a, b, p=plain: cr.sum(conv(a, b, **p)), image, weight, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_the_result_has_the_type_of_the_operands_and_its_precision(dtype: str) -> None:
    x, w = numbers(3, 8, 9, 9), numbers(6, 8, 3, 3)
    params: dict[str, Any] = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
    y = conv(Tensor(x.astype(dtype)), Tensor(w.astype(dtype)), **params)
    assert y.dtype == dtype
    rounding = 2e-5 if dtype in ("float32", "complex64") else 1e-12
    np.testing.assert_allclose(y.numpy(), by_definition(x, w, **params), atol=rounding * 10)


def test_operands_that_do_not_fit_are_refused_with_shapes_and_advice() -> None:
    params: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}

    def refuse(error: type[Exception], match: str, x: tuple[int, ...], w: tuple[int, ...], **changed: Any) -> None:
        with pytest.raises(error, match=match):
            conv(Tensor(numbers(*x)), Tensor(numbers(*w)), **{**params, **changed})

    refuse(ShapeError, "has 3 channels.*takes 4", (2, 3, 5, 5), (6, 4, 3, 3))
    refuse(ShapeError, "groups=4", (2, 8, 5, 5), (6, 2, 3, 3), groups=4)
    refuse(ShapeError, "does not fit into the padded input", (2, 3, 2, 5), (6, 3, 3, 3))
    refuse(ShapeError, "spatial axes", (2, 3, 5), (6, 3, 3, 3))
    refuse(ShapeError, "length of 1 or more", (2, 3, 0, 5), (6, 3, 3, 3), padding=((2, 2), (0, 0)))
    with pytest.raises(DTypeError, match="floating"):
        conv(Tensor(np.ones((1, 1, 3, 3), np.int64)), Tensor(np.ones((1, 1, 2, 2), np.int64)), **params)
    with pytest.raises(DTypeError, match="float32 and float64"):
        conv(Tensor(np.ones((1, 1, 3, 3), np.float32)), Tensor(np.ones((1, 1, 2, 2))), **params)
    with pytest.raises(ShapeError, match="belongs to an input of size"):
        conv_transpose(Tensor(numbers(1, 2, 3, 3)), Tensor(numbers(2, 2, 2, 2)), size=(9, 9), **params)


@settings(max_examples=60, deadline=None)
@given(geometries(low=0), st.integers(0, 2))
def test_windows_hold_the_pixels_of_their_definition(c: dict[str, Any], front: int) -> None:
    size, kernel = c.pop("size"), c["kernel"]
    x = np.round(numbers(front, 2, *size) * 2)
    out = output_size(size, **c)
    params = {k: c[k] for k in ("kernel", "stride", "padding", "dilation")}
    largest, total = (p(Tensor(x), **params).numpy() for p in (window_max, window_sum))
    winner = window_argmax(Tensor(x), Tensor(largest), **params)
    taken = window_take(Tensor(x), winner, **params).numpy()
    for position in np.ndindex(*out):
        members = []
        for tap in np.ndindex(*kernel):
            pixel = tuple(
                p * s + k * d - before
                for p, s, k, d, (before, _) in zip(position, c["stride"], tap, c["dilation"], c["padding"], strict=True)
            )
            inside = all(0 <= i < n for i, n in zip(pixel, size, strict=True))
            members.append(x[(..., *pixel)] if inside else np.full(x.shape[:2], np.nan))
        values = np.stack(members)
        at = (..., *position)
        np.testing.assert_array_equal(total[at], np.nansum(values, 0))
        some = ~np.isnan(values).all(0)
        np.testing.assert_array_equal(largest[at], np.where(np.isnan(values), -np.inf, values).max(0))
        first = (values == largest[at]).argmax(0)
        np.testing.assert_array_equal(winner.numpy()[at][some], first[some])
        np.testing.assert_array_equal(taken[at], np.where(some, largest[at], 0))


@settings(max_examples=60, deadline=None)
@given(geometries(low=0))
def test_reading_and_writing_windows_are_transposes(c: dict[str, Any]) -> None:
    size = c.pop("size")
    out = output_size(size, **c)
    params = {k: c[k] for k in ("kernel", "stride", "padding", "dilation")}
    x, g = numbers(3, *size), numbers(3, *out, seed=1)
    winner = window_argmax(Tensor(x), window_max(Tensor(x), **params), **params)
    read, written = window_take(Tensor(x), winner, **params), window_put(Tensor(g), winner, size=size, **params)
    assert np.vdot(read.numpy(), g) == pytest.approx(np.vdot(x, written.numpy()), rel=1e-10, abs=1e-10)
    read, written = window_sum(Tensor(x), **params), window_spread(Tensor(g), size=size, **params)
    assert np.vdot(read.numpy(), g) == pytest.approx(np.vdot(x, written.numpy()), rel=1e-10, abs=1e-10)


def test_an_infinite_cotangent_reaches_the_winner_only() -> None:
    x = cr.tensor([[1.0, 3.0, 2.0, 0.0]], requires_grad=True)
    params: dict[str, Any] = {"kernel": (2,), "stride": (2,), "padding": ((0, 0),), "dilation": (1,)}
    window_max(x, **params).backward(cr.tensor([[np.inf, 1.0]]))
    assert x.grad.tolist() == [[0.0, np.inf, 1.0, 0.0]]


@pytest.mark.parametrize("primitive", [window_max, window_sum])
def test_vmap_of_pooling_is_a_loop(primitive: Any) -> None:
    params: dict[str, Any] = {"kernel": (2, 3), "stride": (1, 2), "padding": ((0, 1), (1, 1)), "dilation": (1, 1)}
    x = Tensor(numbers(4, 2, 3, 6, 7))

    def loss(image: Tensor) -> Tensor:
        return cr.sum(primitive(image, **params) ** 2)

    value, slope = func.vmap(loss)(x), func.vmap(func.grad(loss))(x)
    for i in range(4):
        assert value.numpy()[i] == pytest.approx(loss(x[i]).item())
        np.testing.assert_allclose(slope.numpy()[i], func.grad(loss)(x[i]).numpy(), atol=1e-12)
