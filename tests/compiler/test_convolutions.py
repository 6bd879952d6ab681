"""Convolutions of a graph, with what is computed from their results, against `evaluate`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chainrule.compiler.code.gemm import Gemm
from chainrule.compiler.graph import Graph
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.kernels import GemmKernel, HostKernel

from .programs import TARGETS, Builder, check, random_arrays

pytestmark = pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)

SAME = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def kernels_of(graph: Graph) -> list[str]:
    """What runs: for each kernel its operations."""
    kernels = schedule(graph).kernels
    assert not any(isinstance(k, HostKernel) for k in kernels)
    return ["+".join(op.primitive.name for op in k.ops) for k in kernels if isinstance(k, GemmKernel)]


def test_bias_activation_and_residual_are_part_of_the_convolution(wanted: Any) -> None:
    b = Builder()
    x, w, bias, skip = b.input(2, 5, 9, 11), b.input(6, 5, 3, 3), b.input(1, 6, 1, 1), b.input(2, 6, 9, 11)
    graph = b.graph(b.add(b.relu(b.add(b.conv(x, w, **SAME), bias)), skip))
    assert kernels_of(graph) == ["conv+add+relu+add"]
    check(graph, random_arrays(graph), wanted, scale=200)


def test_gradients_of_a_convolution(wanted: Any) -> None:
    b = Builder()
    x, w, g = b.input(3, 4, 8, 10), b.input(7, 4, 3, 3), b.input(3, 7, 8, 10)
    to_x = b.conv_transpose(g, w, size=(8, 10), **SAME)
    to_w = b.conv_weight(x, g, kernel=(3, 3), **SAME)
    masked = b.select_positive(to_x, x)
    graph = b.graph(masked, b.multiply(to_w, w))
    check(graph, random_arrays(graph), wanted, scale=500)


def test_operands_may_be_transposed_and_sliced_views(wanted: Any) -> None:
    b = Builder()
    x, w = b.input(2, 8, 9, 5), b.input(5, 3, 3, 6)
    images = b.permute_dims(x, axes=(0, 3, 1, 2))
    weights = b.permute_dims(w, axes=(3, 0, 1, 2))
    graph = b.graph(b.conv(images, weights, **SAME))
    assert len(schedule(graph).kernels) == 1
    check(graph, random_arrays(graph), wanted, scale=200)


@pytest.mark.parametrize("groups", [1, 3])
def test_one_spatial_axis(wanted: Any, groups: int) -> None:
    b = Builder()
    params = {"stride": (2,), "padding": ((2, 1),), "dilation": (1,), "groups": groups}
    x, w, g = b.input(3, 6, 21), b.input(9, 6 // groups, 4), b.input(3, 9, 11)
    y = b.relu(b.conv(x, w, **params))
    to_x = b.conv_transpose(g, w, size=(21,), **params)
    graph = b.graph(y, to_x, b.conv_weight(x, g, kernel=(4,), **params))
    check(graph, random_arrays(graph), wanted, scale=300)


def test_three_spatial_axes_are_handed_to_numpy(wanted: Any) -> None:
    b = Builder()
    x, w = b.input(1, 2, 4, 4, 4), b.input(3, 2, 2, 2, 2)
    params = {"stride": (1,) * 3, "padding": ((0, 0),) * 3, "dilation": (1,) * 3, "groups": 1}
    graph = b.graph(b.conv(x, w, **params))
    assert isinstance(schedule(graph).kernels[0], HostKernel)
    check(graph, random_arrays(graph), wanted, scale=100)


def test_equal_convolutions_share_code_and_results_keep_apart(wanted: Any) -> None:
    b = Builder()
    x, *w = b.input(2, 4, 6, 6), *(b.input(4, 4, 3, 3) for _ in range(3))
    for weights in w:
        x = b.relu(b.conv(x, weights, **SAME))
    graph = b.graph(x)
    check(graph, random_arrays(graph), wanted, scale=2000)


def test_a_result_is_reshaped_for_what_follows(wanted: Any) -> None:
    b = Builder()
    x, w, v = b.input(3, 2, 6, 6), b.input(4, 2, 3, 3), b.input(5, 4 * 6 * 6)
    flat = b.reshape(b.relu(b.conv(x, w, **SAME)), shape=(3, 144))
    graph = b.graph(b.matmul(flat, v, transpose_a=False, transpose_b=True))
    check(graph, random_arrays(graph), wanted, scale=500)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_without_padding_and_no_spare_channel(wanted: Any, dtype: str) -> None:
    b = Builder()
    params = {**SAME, "padding": ((0, 0), (0, 0))}
    x, w = b.input(1, 1, 3, 3, dtype=dtype), b.input(1, 1, 3, 3, dtype=dtype)
    graph = b.graph(b.conv(x, w, **params))
    check(graph, [np.ones(v.shape, v.dtype) for v in graph.inputs], wanted)


ONE = {**SAME, "padding": ((0, 0), (0, 0))}


@pytest.mark.parametrize("shape", [(3, 9, 7, 5), (2, 40, 14, 14), (1, 16, 3, 50), (5, 8, 1, 33)])
def test_one_tap_is_a_matrix_product(wanted: Any, shape: tuple[int, ...]) -> None:
    b = Builder()
    n, c, *size = shape
    x, w, bias, skip = b.input(*shape), b.input(19, c, 1, 1), b.input(1, 19, 1, 1), b.input(n, 19, *size)
    y = b.add(b.relu(b.add(b.conv(x, w, **ONE), bias)), skip)
    to_x = b.select_positive(b.conv_transpose(skip, w, size=tuple(size), **ONE), x)
    to_w = b.multiply(b.conv_weight(x, skip, kernel=(1, 1), **ONE), w)
    graph = b.graph(y, to_x, to_w)
    assert [type(k.gemm) for k in schedule(graph).kernels if isinstance(k, GemmKernel)] == [Gemm] * 3
    check(graph, random_arrays(graph), wanted, scale=500)


CHANGES = ["padded", "in steps", "in groups", "few channels", "channels last", "one column left out"]


@pytest.mark.parametrize("change", CHANGES)
def test_one_tap_that_is_no_matrix_product(wanted: Any, change: str) -> None:
    b = Builder()
    params = ONE | {
        "padded": {"padding": ((1, 0), (0, 1))},
        "in steps": {"stride": (2, 1)},
        "in groups": {"groups": 2},
    }.get(change, {})
    channels = 4 if change == "few channels" else 16
    x, w = b.input(3, channels, 8, 9), b.input(18, channels // params["groups"], 1, 1)
    if change == "channels last":
        x = b.permute_dims(b.input(3, 8, 9, channels), axes=(0, 3, 1, 2))
    if change == "one column left out":
        whole = b.input(3, channels, 8, 10)
        x = b.index(whole, pattern=tuple(("s", 0, n, 1) for n in (3, channels, 8, 9)))
    y = b.relu(b.conv(x, w, **params))
    graph = b.graph(y, b.conv_weight(x, y, kernel=(1, 1), **params))
    assert not any(isinstance(k.gemm, Gemm) for k in schedule(graph).kernels if isinstance(k, GemmKernel))
    check(graph, random_arrays(graph), wanted, scale=500)


@pytest.mark.parametrize("kernel", [1, 3])
def test_no_image_at_all(wanted: Any, kernel: int) -> None:
    b = Builder()
    params = SAME if kernel == 3 else ONE
    x, w, g = b.input(0, 16, 8, 8), b.input(16, 16, kernel, kernel), b.input(0, 16, 8, 8)
    to_x = b.conv_transpose(g, w, size=(8, 8), **params)
    graph = b.graph(b.conv(x, w, **params), to_x, b.conv_weight(x, g, kernel=(kernel, kernel), **params))
    check(graph, random_arrays(graph), wanted)
