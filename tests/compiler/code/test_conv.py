"""Generated convolutions and their gradients against the primitives' NumPy values in double precision."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.code import conv, conv_plans, conv_weights, dense
from chainrule.compiler.code.dense import plan_of
from chainrule.compiler.code.expression import Affine, Call, Load, Outside
from chainrule.compiler.code.target import assembly, can_run, target
from chainrule.compiler.schedule.kernels import Store
from chainrule.primitives.conv import conv as conv_primitive
from chainrule.primitives.conv import conv_transpose, conv_weight, output_size

from .dense_work import Buffer, module_of, run

TARGETS = [name for name in ("native", "avx2", "generic") if can_run(target(name))]


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    """Tap by tap also where Winograd's form pays, which has tests of its own."""
    for name in ("suits_winograd", "suits_winograd_weights"):
        monkeypatch.setattr(dense, name, lambda *arguments: False)


def check(x_shape, w_shape, params, *, dtype="float32", name="native", threads=1, relu=False, ops="fbw"):
    """Forward, the gradient of the images and that of the weights, each with plain or fused stores."""
    rng = np.random.default_rng(0)
    size, kernel = x_shape[2:], w_shape[2:]
    out = output_size(size, kernel, params["stride"], params["padding"], params["dilation"])
    x, w = (Buffer(rng.normal(size=s).astype(dtype)) for s in (x_shape, w_shape))
    g = Buffer(rng.normal(size=(x_shape[0], w_shape[0], *out)).astype(dtype))
    bias = Buffer(rng.normal(size=4096).astype(dtype))
    exact = [b.array.astype(np.float64) for b in (x, w, g)]
    sizes = [np.abs(e) for e in exact]
    wanted = {
        "f": (conv_primitive, (0, 1), params, g.array.shape),
        "b": (conv_transpose, (2, 1), {**params, "size": size}, x_shape),
        "w": (conv_weight, (0, 2), {**params, "kernel": kernel}, w_shape),
    }
    for op in ops:
        primitive, operands, options, shape = wanted[op]
        true = primitive.value(*(exact[i] for i in operands), **options)
        scale = primitive.value(*(sizes[i] for i in operands), **options)
        result = Buffer(np.full(shape, np.nan, dtype))
        total = Outside("product", np.dtype(dtype))
        expression = total
        if relu:
            added = Call("add", [total, Load(bias, Affine(0, [(1, 1)]), dtype)], total.dtype)
            expression = Call("relu", [added], total.dtype)
            shift = bias.array[: shape[1]].reshape(-1, 1, 1).astype(np.float64)
            true, scale = np.maximum(true + shift, 0), scale + np.abs(shift)
        made = {"axes": (0, 1, 2, 3), "product": total, "stores": [Store(result, result.index(), expression)]}
        if op == "f":
            work = conv.forward(x.view(), w.view(), out, **params, **made)
        elif op == "b":
            work = conv.backward(g.view(), w.view(), size, **params, **made)
        else:
            work = conv_weights.weight_gradient(x.view(), g.view(), kernel, **params, **made)
        run(work, name, threads)
        bound = 4 * np.finfo(dtype).eps * np.sqrt(true.size and x_shape[0] * np.prod(kernel) * max(out)) * scale
        error = np.abs(result.array.astype(np.float64) - true)
        assert np.all(error <= bound + 1e-300), (op, float(np.nanmax(error)), int(np.isnan(error).sum()))


def settings_of(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


SAME = settings_of(padding=((1, 1), (1, 1)))
CASES = {
    "three by three": ((2, 3, 10, 12), (16, 3, 3, 3), SAME),
    "many channels": ((2, 20, 9, 9), (33, 20, 3, 3), SAME),
    "one by one": ((3, 17, 8, 8), (20, 17, 1, 1), settings_of()),
    "step of two": ((2, 5, 11, 12), (7, 5, 3, 3), settings_of((2, 2), ((1, 1), (1, 1)))),
    "large step": ((2, 4, 20, 20), (8, 4, 8, 8), settings_of((4, 4))),
    "step beyond the kernel": ((2, 4, 11, 10), (6, 4, 1, 2), settings_of((3, 3))),
    "unequal": ((2, 6, 9, 13), (4, 6, 2, 5), settings_of((2, 1), ((0, 1), (3, 2)))),
    "dilated": ((1, 4, 12, 15), (5, 4, 3, 3), settings_of((1, 2), ((2, 1), (0, 3)), (2, 3))),
    "groups": ((2, 12, 7, 9), (8, 3, 3, 3), settings_of(padding=((1, 1), (1, 1)), groups=4)),
    "depthwise": ((3, 10, 8, 10), (10, 1, 3, 3), settings_of((1, 2), ((1, 1), (1, 1)), groups=10)),
    "one axis": ((4, 6, 1, 40), (9, 6, 1, 5), settings_of(padding=((0, 0), (2, 2)))),
    "kernel as large as the image": ((5, 3, 6, 6), (4, 3, 6, 6), settings_of()),
    "padding beyond the kernel": ((2, 3, 5, 4), (4, 3, 2, 2), settings_of(padding=((3, 3), (4, 2)))),
    "single pixels": ((6, 9, 1, 1), (5, 9, 1, 1), settings_of()),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", TARGETS)
def test_convolutions_and_their_gradients(case, name):
    check(*CASES[case], name=name)


@pytest.mark.parametrize("case", CASES)
def test_bias_and_activation_in_the_epilogue(case):
    check(*CASES[case], relu=True, ops="fb", threads=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_convolutions_are_shared(dtype, threads):
    check((6, 16, 20, 20), (40, 16, 3, 3), SAME, dtype=dtype, threads=threads)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_images_that_are_cut_into_bands(case, name, monkeypatch):
    """What large images need, tried on small ones: a cache that holds a few rows."""
    known = conv_plans.bands

    def few_rows(layout, rows, images, type, wanted, threads):
        return known(layout, rows, images, type, dataclasses.replace(wanted, l2=1), threads)

    monkeypatch.setattr(conv_plans, "bands", few_rows)
    monkeypatch.setattr(conv_weights, "bands", few_rows)
    check(*CASES[case], name=name, threads=2)


# Batches that fill vectors of images: (height, width), kernel, parameters.
SMALL_IMAGES = {
    "seven by seven": ((7, 7), (3, 3), SAME),
    "wider than a vector": ((5, 40), (3, 3), SAME),
    "fourteen by fourteen": ((14, 14), (5, 3), settings_of(padding=((2, 2), (1, 1)))),
    "step of two": ((9, 7), (3, 3), settings_of((2, 2), ((1, 1), (1, 1)))),
    "step of two, one tap across": ((8, 8), (2, 1), settings_of((2, 2))),
    "rows in steps": ((8, 9), (3, 2), settings_of((3, 1), ((0, 1), (1, 0)))),
    "columns in steps": ((6, 9), (2, 3), settings_of((1, 2), ((1, 0), (2, 2)), (2, 1))),
    "one axis": ((1, 40), (1, 5), settings_of(padding=((0, 0), (2, 2)))),
    "one column, in steps": ((16, 1), (4, 4), settings_of((1, 2), ((3, 1), (2, 1)), (2, 1))),
    "padding beyond the kernel": ((4, 5), (2, 2), settings_of(padding=((3, 3), (4, 2)))),
    "groups": ((7, 6), (3, 3), settings_of(padding=((1, 1), (1, 1)), groups=2)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", SMALL_IMAGES)
def test_vectors_along_images(case, name, dtype):
    size, kernel, params = SMALL_IMAGES[case]
    groups = params["groups"]
    shapes = (32, 16 * groups, *size), (20 * groups, 16, *kernel)
    check(*shapes, params, name=name, dtype=dtype, ops="fb", relu=dtype == "float32", threads=3)
    x, w = (Buffer(np.zeros(s, dtype)) for s in shapes)
    out = output_size(size, kernel, params["stride"], params["padding"], params["dilation"])
    made = {"axes": (0, 1, 2, 3), "product": Outside("product", np.dtype(dtype)), "stores": []}
    plan = plan_of(conv.forward(x.view(), w.view(), out, **params, **made), target(name), 1)
    assert isinstance(plan, conv_plans.LanesPlan)


def test_one_large_image_is_shared_by_its_rows():
    check((1, 24, 150, 130), (10, 24, 3, 3), SAME, threads=2)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_random_convolutions(data):
    def pair(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups, kernel, dilation = data.draw(st.sampled_from([1, 1, 2, 3])), pair(1, 4), pair(1, 2)
    padding = (pair(0, 3), pair(0, 3))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(max(1, r - sum(p) + data.draw(st.integers(0, 12))) for r, p in zip(reach, padding, strict=True))
    channels, outputs = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    params = settings_of(pair(1, 3), padding, dilation, groups)
    x_shape = (data.draw(st.integers(1, 4)), channels * groups, *size)
    check(x_shape, (outputs * groups, channels, *kernel), params, name=data.draw(st.sampled_from(TARGETS)), threads=2)


def test_convolutions_assemble_for_another_architecture():
    x, w, y = (Buffer(np.zeros(s, np.float32)) for s in ((2, 8, 8, 8), (8, 8, 3, 3), (2, 8, 8, 8)))
    total = Outside("product", np.dtype(np.float32))
    stores = [Store(y, y.index(), total)]
    work = conv.forward(x.view(), w.view(), (8, 8), **SAME, axes=(0, 1, 2, 3), product=total, stores=stores)
    assert "fmla" in assembly(module_of(work, target("neon"), 2)[0], target("neon"))
