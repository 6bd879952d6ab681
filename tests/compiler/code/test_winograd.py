"""Convolutions in Winograd's form, and the gradients, against double precision within a bound that can be proved.

A sum of n rounded products of numbers that took s rounded additions differs from the exact one by at most
(n + s) u / (1 - (n + s) u) times the sum of the magnitudes that enter, u = 2⁻²⁴ (Higham 2002, section 3.1). For a tile
these magnitudes are those of the transforms' absolute values.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.code import conv, conv_weights, winograd_plan
from chainrule.compiler.code.dense import plan_of
from chainrule.compiler.code.expression import Affine, Call, Load, Outside
from chainrule.compiler.code.target import assembly, can_run, target
from chainrule.compiler.code.winograd_plan import WinogradPlan, WinogradWeightsPlan
from chainrule.compiler.schedule.kernels import Store
from chainrule.primitives.conv import conv as conv_primitive
from chainrule.primitives.conv import conv_transpose, conv_weight

from .dense_work import Buffer, module_of, run

TARGETS = [name for name in ("native", "avx2", "generic") if can_run(target(name))]
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float)  # Bᵀ
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float)  # Aᵀ
_ADDITIONS = 4 + 4 + 4  # of the three transforms, along both axes


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    """Wherever it is possible."""
    monkeypatch.setattr(winograd_plan, "_gain", lambda *shape: float("inf"))


def tiles_of(x, low, counts):
    """(image, channel, row of tiles, column of tiles, 4, 4), with zeros around the images."""
    n, c, height, width = x.shape
    around = np.zeros((n, c, 2 * counts[0] + 2, 2 * counts[1] + 2))
    rows, columns = (np.arange(a.size) + at for a, at in ((around[0, 0, :, 0], low[0]), (around[0, 0, 0], low[1])))
    inside_y, inside_x = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    around[:, :, np.ix_(inside_y, inside_x)[0], np.ix_(inside_y, inside_x)[1]] = x[
        :, :, rows[inside_y][:, None], columns[inside_x]
    ]
    windows = np.lib.stride_tricks.sliding_window_view(around, (4, 4), (2, 3))
    return windows[:, :, ::2, ::2]


def windows(x, padding, out):
    """For each tap the pixels that it meets."""
    around = np.pad(x, ((0, 0), (0, 0), *padding))
    return np.lib.stride_tricks.sliding_window_view(around, out, (2, 3))


def magnitudes(x, w, low, out):
    """For each output the sum of the magnitudes that enter it."""
    counts = [-(-size // 2) for size in out]
    v = np.einsum("ip,nctupq,jq->nctuij", np.abs(B), tiles_of(np.abs(x), low, counts), np.abs(B), optimize=True)
    u = np.einsum("ip,ocpq,jq->ocij", np.abs(G), np.abs(w), np.abs(G), optimize=True)
    m = np.einsum("nctuij,ocij->notuij", v, u, optimize=True)
    y = np.einsum("pi,notuij,qj->notpuq", np.abs(A), m, np.abs(A), optimize=True)
    return y.reshape(*y.shape[:2], 2 * counts[0], 2 * counts[1])[:, :, : out[0], : out[1]]


def weight_magnitudes(x, g, low):
    counts = [-(-size // 2) for size in g.shape[2:]]
    v = np.einsum("ip,nctupq,jq->nctuij", np.abs(B), tiles_of(np.abs(x), low, counts), np.abs(B), optimize=True)
    even = np.zeros((*g.shape[:2], 2 * counts[0], 2 * counts[1]))
    even[:, :, : g.shape[2], : g.shape[3]] = np.abs(g)
    even = even.reshape(*g.shape[:2], counts[0], 2, counts[1], 2)
    d = np.einsum("pi,notpuq,qj->notuij", np.abs(A), even, np.abs(A), optimize=True)
    m = np.einsum("nctuij,notuij->ocij", v, d, optimize=True)
    return np.einsum("ip,ocij,jq->ocpq", np.abs(G), m, np.abs(G), optimize=True)


def bound(count, scale):
    n = (count + _ADDITIONS) * 2.0**-24
    return n / (1 - n) * scale + 1e-44


class Case:
    """Images, weights and cotangents, and what is wanted of them."""

    def __init__(self, x, w, padding):
        self.x, self.w, self.padding = Buffer(x), Buffer(w), padding
        self.params = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
        self.out = tuple(n + sum(p) - 2 for n, p in zip(x.shape[2:], padding, strict=True))
        rng = np.random.default_rng(1)
        self.g = Buffer(rng.normal(size=(x.shape[0], w.shape[0], *self.out)).astype(x.dtype))

    @property
    def low(self):
        return tuple(-p[0] for p in self.padding)

    def exact(self, op):
        """The result in double precision, and the bound of the error."""
        x, w, g = (b.array.astype(np.float64) for b in (self.x, self.w, self.g))
        if op == "f":
            return conv_primitive.value(x, w, **self.params), bound(x.shape[1], magnitudes(x, w, self.low, self.out))
        if op == "b":
            turned = w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
            low = tuple(p[0] - 2 for p in self.padding)
            scale = magnitudes(g, turned, low, x.shape[2:])
            return conv_transpose.value(g, w, **self.params, size=x.shape[2:]), bound(w.shape[0], scale)
        count = x.shape[0] * np.prod([-(-n // 2) for n in self.out])
        value = conv_weight.value(x, g, **self.params, kernel=(3, 3))
        return value, bound(count, weight_magnitudes(x, g, self.low))

    def work(self, op, result, expression, product):
        made = {"axes": (0, 1, 2, 3), "product": product, "stores": [Store(result, result.index(), expression)]}
        x, w, g = self.x.view(), self.w.view(), self.g.view()
        if op == "f":
            return conv.forward(x, w, self.out, **self.params, **made)
        if op == "b":
            return conv.backward(g, w, x.shape[2:], **self.params, **made)
        return conv_weights.weight_gradient(x, g, (3, 3), **self.params, **made)

    def result(self, op, name="native", threads=1, parts=None, bias=None):
        """What the generated code computes; plus a bias for each output channel, cut off at zero, if there is one."""
        shape = {"f": self.g, "b": self.x, "w": self.w}[op].array.shape
        result = Buffer(np.full(shape, 77, np.float32))
        product = Outside("product", np.dtype("float32"))
        expression = product
        if bias is not None:
            added = Call("add", [product, Load(bias, Affine(0, [(1, 1)]), "float32")], product.dtype)
            expression = Call("relu", [added], product.dtype)
        plan = run(self.work(op, result, expression, product), name, threads, parts)
        assert isinstance(plan, WinogradWeightsPlan if op == "w" else WinogradPlan)
        return result.array

    def check(self, ops="fbw", **options):
        for op in ops:
            true, bound = self.exact(op)
            error = np.abs(self.result(op, **options) - true)
            assert np.all(error <= bound), (op, float(np.nanmax(error / bound)), int(np.isnan(error).sum()))


def random_case(x_shape, outputs, padding=((1, 1), (1, 1)), seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=x_shape).astype(np.float32)
    return Case(x, rng.normal(size=(outputs, x_shape[1], 3, 3)).astype(np.float32), padding)


CASES = {
    "whole vectors of tiles": ((2, 8, 32, 32), 16),
    "odd sizes": ((3, 9, 13, 17), 20),
    "seven by seven": ((8, 16, 7, 7), 33),
    "wider than vectors": ((2, 3, 5, 71), 7),
    "one row": ((3, 5, 1, 40), 4),
    "one column": ((3, 5, 21, 1), 4),
    "single pixels": ((5, 7, 1, 1), 18),
    "one channel": ((2, 1, 6, 6), 1),
    "no padding": ((2, 4, 9, 12), 5, ((0, 0), (0, 0))),
    "three by three, no padding": ((4, 4, 3, 3), 5, ((0, 0), (0, 0))),
    "padding of two": ((2, 4, 6, 7), 5, ((2, 2), (2, 2))),
    "unequal padding": ((2, 4, 6, 7), 5, ((2, 0), (0, 3))),
    "many channels": ((2, 70, 4, 6), 90),
    "an odd batch": ((7, 6, 14, 14), 12),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", TARGETS)
def test_within_the_bound(case, name):
    random_case(*CASES[case]).check(name=name, threads=2)


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_any_number_of_parts(parts):
    random_case((6, 20, 20, 20), 40).check(threads=2, parts=parts)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", ["odd sizes", "wider than vectors", "whole vectors of tiles", "no padding"])
def test_images_that_are_cut_into_bands(case, name, monkeypatch):
    """What large images need, tried on small ones: a cache that holds a row of tiles."""
    monkeypatch.setattr(winograd_plan, "_held", lambda *arguments: 1)
    monkeypatch.setattr(winograd_plan, "_ENOUGH", 1)
    random_case(*CASES[case]).check(name=name, threads=2)


def test_bias_and_activation_in_the_epilogue():
    for shape in ((3, 9, 13, 17), (4, 8, 14, 14)):
        case = random_case(shape, 20)
        bias = Buffer(np.linspace(-3, 3, 64, dtype=np.float32))
        for op, channels in (("f", 20), ("b", shape[1])):
            true, bound = case.exact(op)
            shift = bias.array[:channels].reshape(-1, 1, 1).astype(float)
            error = np.abs(case.result(op, bias=bias) - np.maximum(true + shift, 0))
            assert np.all(error <= bound + 2.0**-23 * (np.abs(true) + np.abs(shift)))


def test_typical_errors_are_those_of_sums_tap_by_tap():
    """Root mean squares, on normal numbers: at most twice that of NumPy's sums in the same precision."""
    case = random_case((4, 64, 16, 16), 64)
    x, w, g = case.x.array, case.w.array, case.g.array
    plain = {
        "f": conv_primitive.value(x, w, **case.params),
        "b": conv_transpose.value(g, w, **case.params, size=x.shape[2:]),
        "w": conv_weight.value(x, g, **case.params, kernel=(3, 3)),
    }
    for op, value in plain.items():
        true, _ = case.exact(op)
        errors = [np.sqrt(np.mean((v - true) ** 2)) for v in (case.result(op), value)]
        assert errors[0] <= 2 * errors[1], (op, errors)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("where", ["x", "w", "g"])
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_finite_reaches_those_that_see_it(name, where, number):
    """The results are finite, infinite or NaN where NumPy's are."""
    case = random_case((2, 5, 9, 22), 18)
    array = {"x": case.x, "w": case.w, "g": case.g}[where].array
    array[-1, 2, 1, 2] = number
    array[0, 0, 0, 0] = -number
    with np.errstate(all="ignore"):
        x, w, g = case.x.array, case.w.array, case.g.array
        wanted = {
            "f": conv_primitive.value(x, w, **case.params),
            "b": conv_transpose.value(g, w, **case.params, size=x.shape[2:]),
            # Tap by tap: NumPy's value of the primitive multiplies pixels with zeros between rows of cotangents.
            "w": np.einsum("ncijyx,noyx->ocij", windows(x, case.padding, case.out), g),
        }
    for op, value in wanted.items():
        got = case.result(op, name=name)
        finite = np.isfinite(value)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(value), err_msg=op)
        np.testing.assert_array_equal(got[~finite], value[~finite], err_msg=op)
        assert np.isfinite(got[finite]).all()
        if not np.isfinite(number) or number < 1e38:
            scale = np.abs(value[finite]).max()
            np.testing.assert_allclose(got[finite], value[finite], atol=1e-4 * scale, rtol=1e-4, err_msg=op)


@pytest.mark.parametrize("size", [1e-42, 1e-38, 1e-20, 1e15])
def test_small_and_large_numbers(size):
    case = random_case((2, 8, 10, 10), 8)
    case.x.array[...] *= np.float32(size)
    case.g.array[...] *= np.float32(size)
    for op in "fb":
        true, bound = case.exact(op)
        # A product below the normal numbers is rounded to a multiple of the smallest one.
        least = 2.0**-149 * 16 * 8 * 4
        assert np.all(np.abs(case.result(op) - true) <= bound + least)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_convolutions(data):
    padding = tuple(data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in range(2))
    size = tuple(max(1, 3 - sum(p) + data.draw(st.integers(0, 24))) for p in padding)
    shape = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40)), *size)
    case = random_case(shape, data.draw(st.integers(1, 40)), padding)
    threads = data.draw(st.integers(1, 3))
    case.check(name=data.draw(st.sampled_from(TARGETS)), threads=threads, parts=data.draw(st.integers(1, 5)))


def test_it_is_chosen_where_it_pays(monkeypatch):
    monkeypatch.undo()
    product = Outside("product", np.dtype("float32"))
    shapes = ((4, 64, 64, 16), True), ((4, 32, 64, 16), True), ((4, 3, 32, 16), False), ((1, 64, 64, 7), False)
    for (images, channels, outputs, size), pays in shapes:
        case = random_case((images, channels, size, size), outputs)
        result = Buffer(case.g.array)
        plan = plan_of(case.work("f", result, product, product), target("native"), 1)
        assert isinstance(plan, WinogradPlan) == pays


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(64, 128, 7, 7), (64, 32, 28, 28), (5, 16, 9, 9)])
def test_every_thread_has_as_many_parts(shape, threads):
    case = random_case(shape, 32)
    product = Outside("product", np.dtype("float32"))
    plan = plan_of(case.work("f", Buffer(case.g.array), product, product), target("native"), threads)
    assert isinstance(plan, WinogradPlan)
    assert plan.parts % threads == 0


def test_another_architecture_assembles_it():
    case = random_case((2, 8, 8, 8), 8)
    product = Outside("product", np.dtype("float32"))
    for op, like in (("f", case.g), ("b", case.x), ("w", case.w)):
        work = case.work(op, Buffer(like.array), product, product)
        assert "fmla" in assembly(module_of(work, target("neon"), 2)[0], target("neon"))
