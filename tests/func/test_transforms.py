"""grad, vjp, jvp, jacobians, hessian, hvp: against each other, against differences, nested in every order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce, table


def t(data: Any) -> Tensor:
    return Tensor(np.array(data, np.float64))


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def close(a: Any, b: Any, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(a.numpy(), b, rtol=rtol, atol=1e-12)


X = t([[0.3, -0.7], [1.1, 0.4]])


def network(x: Tensor) -> Tensor:
    """A vector of 4 that depends on every entry of x in several ways."""
    h = p.tanh(x @ t([[1.0, 0.5], [-0.3, 2.0]]))
    parts = table["concat"](h[0], p.sigmoid(h[1] * x[0]), axis=0)
    return parts * reduce.logsumexp(x, axis=(0, 1), keepdims=False)


def differences(f: Callable[[Tensor], Tensor], x: Tensor, eps: float = 1e-6) -> np.ndarray:
    y = f(x)
    jacobian = np.zeros((*y.shape, *x.shape))
    for at in np.ndindex(x.shape):
        ends = []
        for side in (eps, -eps):
            moved = x.numpy().copy()
            moved[at] += side
            ends.append(f(Tensor(moved)).numpy())
        jacobian[(..., *at)] = (ends[0] - ends[1]) / (2 * eps)
    return jacobian


def test_jacobians_by_reverse_mode_forward_mode_and_differences() -> None:
    wanted = differences(network, X)
    close(func.jacrev(network)(X), wanted, 1e-7)
    close(func.jacfwd(network)(X), func.jacrev(network)(X).numpy(), 1e-12)
    assert func.jacrev(network)(X).shape == (4, 2, 2)


def test_grad_is_the_jacobian_of_a_scalar() -> None:
    f = lambda x: total(network(x) ** 2)  # noqa: E731
    close(func.grad(f)(X), func.jacfwd(f)(X).numpy())
    value, gradient = func.value_and_grad(f)(X)
    close(value, f(X).numpy())
    close(gradient, func.grad(f)(X).numpy())


def test_grad_by_several_arguments_and_containers() -> None:
    f = lambda a, tree: total(a * tree["b"] + tree["c"][0])  # noqa: E731
    a, tree = t([1.0, 2.0]), {"b": t([3.0, 4.0]), "c": [t([5.0, 6.0])]}
    ga, gtree = func.grad(f, argnums=(0, 1))(a, tree)
    close(ga, [3, 4])
    close(gtree["b"], [1, 2])
    close(gtree["c"][0], [1, 1])
    (only,) = func.grad(f, argnums=(-2,))(a, tree)
    close(only, [3, 4])


def test_aux_is_passed_on() -> None:
    f = lambda x: (total(x * x), {"doubled": x * 2})  # noqa: E731
    gradient, aux = func.grad(f, has_aux=True)(t([3.0]))
    close(gradient, [6])
    close(aux["doubled"], [6])
    (value, aux), gradient = func.value_and_grad(f, has_aux=True)(t([3.0]))
    close(value, 9)
    _, pull, aux = func.vjp(f, t([3.0]), has_aux=True)
    close(pull(t(2.0)), [12])
    _, dy, aux = func.jvp(f, (t([3.0]),), (t([1.0]),), has_aux=True)
    close(dy, 6)
    close(aux["doubled"], [6])


def test_vjp_can_be_called_again_and_jvp_agrees() -> None:
    _, pull = func.vjp(network, X)
    rng = np.random.default_rng(0)
    for _ in range(3):
        w, v = rng.standard_normal(4), rng.standard_normal((2, 2))
        _, tangent = func.jvp(network, (X,), (Tensor(v),))
        assert np.sum(w * tangent.numpy()) == pytest.approx(np.sum(pull(Tensor(w)).numpy() * v), rel=1e-12)


def test_jvp_is_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vjp is called, no node is made, and the function runs once."""
    calls = []
    monkeypatch.setattr(Primitive, "vjp", lambda *_: pytest.fail("reverse mode"))

    def f(x: Tensor) -> Tensor:
        calls.append(1)
        y = p.exp(x)
        assert y._value.primal._node is None
        return y

    _, tangent = func.jvp(f, (t([0.0, 1.0]),), (t([1.0, 2.0]),))
    close(tangent, np.exp([0, 1]) * [1, 2])
    assert calls == [1]


def test_outputs_without_dependence_have_zero_tangents() -> None:
    _, (da, db) = func.jvp(lambda x: (x * 2, t([5.0, 5.0])), (t([1.0, 1.0]),), (t([1.0, 3.0]),))
    close(da, [2, 6])
    close(db, [0, 0])


def test_unused_arguments_have_zero_gradients_even_where_they_are_infinite() -> None:
    g = func.grad(lambda x, y: total(x), argnums=(0, 1))(t([1.0]), t([np.inf, np.nan]))
    close(g[1], [0, 0])
    close(func.grad(lambda x: total(p.floor(x)))(t([1.5])), [0])


def test_detach_stops_every_mode() -> None:
    f = lambda x: x.detach() * x  # noqa: E731
    x, one = t([2.0]), t([1.0])
    close(func.grad(lambda v: total(f(v)))(x), [2])
    close(func.jvp(f, (x,), (one,))[1], [2])
    close(func.grad(lambda v: total(func.vmap(f)(v)))(x), [2])
    close(func.vmap(func.grad(f))(x), [2])
    close(func.jvp(lambda v: func.jvp(f, (v,), (one,))[1], (x,), (one,))[1], [0])


class TestPerturbationConfusion:
    """Derivatives inside derivatives must not mix up their infinitesimals (Siskind and Pearlmutter 2005)."""

    def test_forward_in_forward(self) -> None:
        inner = lambda x: func.jvp(lambda y: x + y, (t(1.0),), (t(1.0),))[1]  # noqa: E731
        close(func.jvp(lambda x: x * inner(x), (t(1.0),), (t(1.0),))[1], 1.0)

    def test_reverse_in_reverse(self) -> None:
        close(func.grad(lambda x: x * func.grad(lambda y: x + y)(t(1.0)))(t(1.0)), 1.0)

    def test_reverse_in_forward_and_forward_in_reverse(self) -> None:
        by_grad = lambda x: x * func.grad(lambda y: x * y)(t(1.0))  # noqa: E731
        close(func.jvp(by_grad, (t(3.0),), (t(1.0),))[1], 6.0)
        by_jvp = lambda x: x * func.jvp(lambda y: x * y, (t(1.0),), (t(1.0),))[1]  # noqa: E731
        close(func.grad(by_jvp)(t(3.0)), 6.0)

    def test_an_inner_function_that_ignores_its_argument(self) -> None:
        close(func.jvp(lambda x: func.jvp(lambda y: x * x, (t(2.0),), (t(1.0),))[1], (t(3.0),), (t(1.0),))[1], 0.0)


@pytest.mark.parametrize("outer", ["jvp", "grad"])
@pytest.mark.parametrize("inner", ["jvp", "grad"])
def test_second_derivatives_by_every_combination(outer: str, inner: str) -> None:
    def derivative(kind: str, f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return func.grad(f) if kind == "grad" else lambda x: func.jvp(f, (x,), (t(1.0),))[1]

    f = lambda x: p.sin(x) * p.exp(x)  # noqa: E731
    x = 0.7
    close(derivative(outer, derivative(inner, f))(t(x)), 2 * np.cos(x) * np.exp(x))


def test_fifth_derivatives_by_nested_forward_mode() -> None:
    f: Callable[[Tensor], Tensor] = p.sin
    for _ in range(5):
        f = (lambda g: lambda x: func.jvp(g, (x,), (t(1.0),))[1])(f)
    close(f(t(0.4)), np.cos(0.4))


def test_hessian_is_symmetric_and_that_of_differences() -> None:
    f = lambda x: total(network(x) ** 2)  # noqa: E731
    h = func.hessian(f)(X)
    assert h.shape == (2, 2, 2, 2)
    close(h, differences(func.grad(f), X), 1e-6)
    flat = h.numpy().reshape(4, 4)
    np.testing.assert_allclose(flat, flat.T, rtol=1e-10)
    close(func.jacrev(func.jacrev(f))(X), h.numpy(), 1e-10)


def test_hvp_is_the_hessian_times_a_vector() -> None:
    f = lambda x: total(network(x) ** 2)  # noqa: E731
    v = t([[1.0, -2.0], [0.5, 3.0]])
    wanted = np.einsum("ijkl,kl->ij", func.hessian(f)(X).numpy(), v.numpy())
    close(func.hvp(f, X, v), wanted, 1e-10)
    (product,) = func.hvp(f, (X,), (v,))
    close(product, wanted, 1e-10)


def test_hvp_costs_a_few_function_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    original = Primitive.__call__

    def counting(self: Primitive, *args: Any, **params: Any) -> Any:
        count[0] += 1
        return original(self, *args, **params)

    monkeypatch.setattr(Primitive, "__call__", counting)
    x = t(np.ones(200))

    def calls(f: Callable[[], Any]) -> int:
        count[0] = 0
        f()
        return count[0]

    f = lambda v: total(p.tanh(v) * v)  # noqa: E731
    forward = calls(lambda: f(x))
    assert calls(lambda: func.hvp(f, x, x)) < 40 * forward  # and not in proportion to the 200 inputs


def test_jacobians_of_several_arguments() -> None:
    a, b = t([1.0, 2.0]), t([3.0])
    ja, jb = func.jacrev(lambda x, y: x * y, argnums=(0, 1))(a, b)
    close(ja, [[3, 0], [0, 3]])
    close(jb, [[1], [2]])
    fa, fb = func.jacfwd(lambda x, y: x * y, argnums=(0, 1))(a, b)
    close(fa, ja.numpy())
    close(fb, jb.numpy())


def test_transforms_leave_grad_attributes_and_leaves_alone() -> None:
    x = Tensor([1.0], requires_grad=True)
    func.grad(lambda v: total(v * v))(x)
    assert x.grad is None
    assert x.requires_grad


def test_gradients_of_closed_over_leaves_flow_through_func_grad() -> None:
    """d/dw of (d/dx w x³) = 3 x²."""
    w, x = Tensor(np.array(2.0), requires_grad=True), t(3.0)
    g = func.grad(lambda v: w * v**3)(x)
    close(cr.grad(g, w), 27.0)


def test_transforms_inside_no_grad_still_differentiate() -> None:
    with cr.no_grad():
        close(func.grad(lambda v: v * v)(t(3.0)), 6.0)
        close(func.jvp(lambda v: v * v, (t(3.0),), (t(1.0),))[1], 6.0)


def test_complex_jvp_is_linear_over_the_reals() -> None:
    z, v = Tensor(np.array([1 + 2j])), Tensor(np.array([0.5 - 1j]))
    close(func.jvp(lambda x: x * x, (z,), (v,))[1], 2 * z.numpy() * v.numpy())
    close(func.jvp(lambda x: p.conj(x), (z,), (v,))[1], np.conj(v.numpy()))


class TestBadInput:
    def test_the_function_must_return_a_scalar(self) -> None:
        with pytest.raises(cr.GradientError, match=r"must return a scalar, it returned \(2,\)[\s\S]*test_transforms"):
            func.grad(lambda x: x * x)(t([1.0, 2.0]))

    def test_tangents_must_fit(self) -> None:
        with pytest.raises(cr.ShapeError, match=r"\(3,\) for a primal of shape \(2,\)[\s\S]*test_transforms"):
            func.jvp(lambda x: x, (t([1.0, 2.0]),), (t([1.0, 2.0, 3.0]),))
        with pytest.raises(cr.DTypeError, match="float32"):
            func.jvp(lambda x: x, (t([1.0]),), (Tensor([1.0]),))
        with pytest.raises(cr.ShapeError, match="1 tangents for 2 primals"):
            func.jvp(lambda x, y: x, (t(1.0), t(1.0)), (t(1.0),))
        with pytest.raises(cr.DTypeError, match="tuples"):
            func.jvp(lambda x: x, t(1.0), t(1.0))

    def test_argnums_must_exist(self) -> None:
        with pytest.raises(cr.OperationError, match=r"argnums=2 for a call with 1 arguments"):
            func.grad(lambda x: x, argnums=2)(t(1.0))

    def test_cotangents_must_fit(self) -> None:
        _, pull = func.vjp(lambda x: x * 2, t([1.0, 2.0]))
        with pytest.raises(cr.ShapeError, match=r"cotangent of shape \(3,\) for an output of shape \(2,\)"):
            pull(t([1.0, 2.0, 3.0]))
        with pytest.raises(cr.ShapeError, match="2 cotangents for 1 outputs"):
            pull((t([1.0, 2.0]), t([1.0, 2.0])))

    def test_integers_cannot_be_differentiated_by(self) -> None:
        with pytest.raises(cr.DTypeError, match="int64"):
            func.grad(lambda x: total(x * 2.0))(Tensor([1, 2]))


class TestCheckGrad:
    def test_right_gradients_pass(self) -> None:
        cr.check_grad(network, X, order=2)
        cr.check_grad(lambda z: p.real(z * p.conj(z)), Tensor(np.array([1 + 2j])), order=2)
        cr.check_grad(lambda x, n: x[n], t([1.0, 2.0]), Tensor([1, 0, 1]))

    def test_the_first_wrong_entry_is_named_with_both_numbers(self) -> None:
        def wrong(x: Tensor) -> Tensor:
            return table["concat"](x[:1], x[1:] * x[1:].detach(), axis=0)

        with pytest.raises(cr.GradientError) as caught:
            cr.check_grad(wrong, t([1.0, 2.0, 3.0]))
        message = str(caught.value)
        assert "output 0[1] by input 0[1] is 2, finite differences give 4" in message
        assert "test_transforms.py" in message

    def test_there_must_be_something_to_check(self) -> None:
        with pytest.raises(cr.DTypeError, match="no floating input"):
            cr.check_grad(lambda x: x, Tensor([1, 2]))
