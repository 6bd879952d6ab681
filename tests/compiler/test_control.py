"""`cond` and `scan` compute the same in eager mode and in a trace, and so do their derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import func, nn, optim
from chainrule.core.tree import leaves

pytestmark = pytest.mark.usefixtures("program")

X = cr.tensor([0.5, -1.0, 2.0], dtype=cr.float64)
W = cr.tensor([[0.3, -0.2, 0.1], [0.5, 0.4, -0.6], [-0.1, 0.2, 0.7]], dtype=cr.float64)


def agree(function, *args, rtol: float = 1e-12) -> None:
    eager, compiled = function(*args), cr.compile(function)(*args)
    for a, b in zip(leaves(eager), leaves(compiled), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=1e-14)


def branchy(x, w):
    y = w @ x
    return cr.cond(y.sum() > 0, lambda a: {"out": (cr.tanh(a) * y,)}, lambda a: {"out": (a**2 + w.sum(),)}, x)["out"][0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
class TestCond:
    def test_value(self, sign):
        agree(branchy, X * sign, W)

    def test_gradient_of_operands_and_of_what_is_captured(self, sign):
        agree(func.grad(lambda x, w: branchy(x, w).sum(), argnums=(0, 1)), X * sign, W)

    def test_second_derivative(self, sign):
        agree(func.hessian(lambda x: (branchy(x, W) ** 2).sum()), X * sign)
        inner = func.grad(lambda x: (branchy(x, W) ** 2).sum())
        agree(func.grad(lambda x: (inner(x) * X).sum()), X * sign)

    def test_detached_captures_have_no_gradient(self, sign):
        def function(x):
            y = x * 2
            return cr.cond(x.sum() > 0, lambda: (y * y.detach()).sum(), lambda: y.detach().sum() + y.sum())

        agree(func.grad(function), X * sign)

    def test_vmap(self, sign):
        batch = cr.stack([X, -X, X * 2]) * sign
        agree(func.vmap(lambda x: branchy(x, W)), batch)
        agree(lambda b: func.vmap(lambda x: cr.cond(b[0, 0] > 0, cr.sin, cr.cos, x))(b), batch)

    def test_nested(self, sign):
        def function(x):
            return cr.cond(
                x.sum() > 0,
                lambda a: cr.cond(a[0] > 0, lambda b: b * x, lambda b: b - x, a * 3),
                lambda a: a + 1,
                x * 2,
            )

        agree(function, X * sign)
        agree(func.grad(lambda x: function(x).sum()), X * sign)


def test_one_branch_runs_without_the_other_one():
    # The branch that is not chosen would give NaN, and NaN gradients.
    def function(x):
        return cr.cond(x > 0, lambda a: cr.sqrt(a), lambda a: a * 0.0, x)

    x = cr.tensor(-4.0)
    assert cr.compile(function)(x).item() == 0.0
    assert cr.compile(func.grad(function))(x).item() == 0.0


def test_branches_change_state_and_draw_random_numbers():
    count = nn.Buffer(cr.tensor(0.0))

    def function(x):
        def bump(a):
            count.assign(count + 1)
            return a + cr.rand(3, dtype=cr.float64)

        return cr.cond(x.sum() > 0, bump, lambda a: a, x)

    results = {}
    for name, run in (("eager", function), ("compiled", cr.compile(function))):
        cr.manual_seed(0)
        count.assign(0.0)
        results[name] = [run(X).tolist(), run(-X).tolist(), run(X).tolist(), count.item(), cr.rand(1).item()]
    np.testing.assert_allclose(results["eager"][0], results["compiled"][0])
    assert results["eager"][1:] == results["compiled"][1:]
    assert count.item() == 2.0


def test_branches_must_agree():
    with pytest.raises(cr.ShapeError, match=r"true_fn returns float64\[3\] where false_fn returns float64\[\]"):
        cr.compile(lambda x: cr.cond(x.sum() > 0, lambda a: a, lambda a: a.sum(), x))(X)
    with pytest.raises(cr.DTypeError, match="different structure"):
        cr.compile(lambda x: cr.cond(x.sum() > 0, lambda a: a, lambda a: (a,), x))(X)
    with pytest.raises(cr.ShapeError, match="one element"):
        cr.cond(X > 0, lambda: X, lambda: X)
    with pytest.raises(cr.TransformError, match=r"cond: true_fn returned a float"):
        cr.compile(lambda x: cr.cond(x.sum() > 0, lambda a: 1.0, lambda a: 2.0, x))(X)


def test_backward_inside_a_branch_says_what_to_do():
    w = nn.Parameter(cr.tensor([1.0]))

    def function(x):
        def branch():
            loss = (w * x).sum()
            loss.backward()
            return loss

        return cr.cond(x.sum() > 0, branch, lambda: x.sum())

    with pytest.raises(cr.TransformError, match=r"cr\.grad"):
        cr.compile(function)(cr.tensor([1.0]))


def rnn(h, xs, w):
    return cr.scan(lambda h, x: ((new := cr.tanh(w @ h + x)), {"h": new, "s": new.sum()}), h, xs)


XS = cr.asarray(np.random.default_rng(0).normal(size=(5, 3)))


class TestScan:
    def test_value(self):
        agree(rnn, X, XS, W)

    def test_gradients(self):
        def loss(h, xs, w):
            last, ys = rnn(h, xs, w)
            return (last**2).sum() + (ys["h"] * xs).sum() + ys["s"].sum()

        agree(func.grad(loss, argnums=(0, 1, 2)), X, XS, W)
        eager = func.grad(loss, argnums=(0, 1, 2))(X, XS, W)
        cr.check_grad(loss, X, XS, W)
        assert len(eager) == 3

    def test_second_derivative(self):
        inner = func.grad(lambda h: (rnn(h, XS, W)[0] ** 2).sum())
        agree(func.grad(lambda h: (inner(h) * X).sum()), X)
        agree(func.hessian(lambda h: (rnn(h, XS, W)[0] ** 2).sum()), X)

    def test_reverse_counters_and_lengths(self):
        agree(lambda h: cr.scan(lambda c, _: (c * 2, c), h, None, length=4), X)
        agree(lambda h, xs: cr.scan(lambda c, x: (c + x, c * x), h, xs, reverse=True), X, XS)
        count = lambda c, x: ((c[0] + 1, c[1] * c[0].astype("float64")), None)  # noqa: E731
        agree(lambda h: cr.scan(count, (cr.asarray(1), h), XS)[0], X)
        backwards = lambda h, xs: cr.scan(lambda c, x: (c * x, c), h, xs, reverse=True)[1].sum()  # noqa: E731
        agree(func.grad(backwards), X, XS)

    def test_integer_carry_has_no_gradient(self):
        def loss(h):
            (n, last), ys = cr.scan(lambda c, x: ((c[0] + 1, c[1] * 0.9 + x), c[1].sum()), (cr.asarray(0), h), XS)
            return last.sum() * n.astype("float64") + ys.sum()

        agree(func.grad(loss), X)

    def test_state_in_the_body(self):
        count = nn.Buffer(cr.tensor(0.0))

        def function(h):
            def body(c, x):
                count.assign(count + 1)
                return c + x * cr.rand(3, dtype=cr.float64), None

            return cr.scan(body, h, XS)[0]

        cr.manual_seed(0)
        want = function(X)
        assert count.item() == 5.0
        cr.manual_seed(0)
        np.testing.assert_allclose(cr.compile(function)(X).numpy(), want.numpy())
        assert count.item() == 10.0

    def test_the_body_is_traced_once_whatever_the_length(self):
        compiled = cr.compile(lambda h, xs: rnn(h, xs, W)[0])
        compiled(X, cr.zeros((100, 3), dtype=cr.float64))
        assert sum(op.primitive.name == "scan" for op in compiled.graph.ops) == 1

    def test_no_steps(self):
        count = nn.Buffer(cr.tensor(0.0))

        def body(c, x):
            count.assign(count + 1)
            return c * x, {"sum": (c + cr.rand(3, dtype=cr.float64)).sum(), "pair": (c, W)}

        for run in (cr.scan, cr.compile(lambda *args: cr.scan(body, *args))):
            carry, ys = run(body, X, XS[:0]) if run is cr.scan else run(X, XS[:0])
            assert carry.tolist() == X.tolist()
            assert ys["sum"].shape == (0,) and ys["pair"][0].shape == (0, 3) and ys["pair"][1].shape == (0, 3, 3)
        assert count.item() == 0.0

        def loss(h, xs):
            last, ys = cr.scan(lambda c, x: (c * x, c), h, xs)
            return (last**2).sum() + ys.sum()

        agree(func.grad(loss), X, XS[:0])
        assert cr.scan(lambda c, x: (c, None), X, None, length=0)[1] is None

    def test_errors(self):
        with pytest.raises(cr.ShapeError, match=r"a step changes the carry from float64\[3\] to float64\[\]"):
            cr.compile(lambda h: cr.scan(lambda c, x: (c.sum(), x), h, XS))(X)
        with pytest.raises(cr.OperationError, match="how many steps"):
            cr.scan(lambda c, x: (c, c), X)
        with pytest.raises(cr.ShapeError, match="must agree"):
            cr.scan(lambda c, x: (c, c), X, (XS, XS[:3]))
        with pytest.raises(cr.DTypeError, match="f returns"):
            cr.scan(lambda c, x: c, X, XS)


def recurrent_step():
    cr.manual_seed(0)
    cell, out = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizer = optim.Adam([*cell.parameters(), *out.parameters()])

    def step(xs):
        optimizer.zero_grad()
        h, _ = cr.scan(lambda h, x: (cr.tanh(cell(h) + x), None), cr.zeros((1, 3)), xs)
        y = out(h)
        loss = cr.cond((y > 0).all(), lambda: (y**2).sum(), lambda: (y - 1).abs().sum())
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_a_training_step_with_a_loop_and_a_branch():
    batches = [XS.astype("float32") * k for k in (1.0, -1.0, 0.5)]
    eager, compiled = recurrent_step(), cr.compile(recurrent_step())
    expected, got = [eager(b).item() for b in batches], [compiled(b).item() for b in batches]
    # The first loss is y² for a y of 0.002 whose terms are near 1: their rounding, 1e-7, times 2y.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)
