"""vmap: the loop over samples without the loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce


def t(data: Any) -> Tensor:
    return Tensor(np.array(data, np.float64))


def rand(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape))


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a.numpy(), b, rtol=1e-12, atol=1e-12)


def f(a: Tensor, b: Tensor) -> Tensor:
    return p.tanh(a @ b) + a[0]


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0), (1, 2), (-1, 0), (2, None)])
@pytest.mark.parametrize("out", [0, 1, -1])
def test_in_dims_and_out_dims(dims: tuple[Any, Any], out: int) -> None:
    n = 3
    shapes = [(2, 4), (4, 4)]
    full = [rand(*s, seed=i) for i, s in enumerate(shapes)]
    given = []
    for i, (shape, d) in enumerate(zip(shapes, dims, strict=True)):
        if d is None:
            given.append(full[i])
        else:
            place = d % (len(shape) + 1)
            given.append(rand(*shape[:place], n, *shape[place:], seed=i + 5))
    got = func.vmap(f, in_dims=dims, out_dims=out)(*given)
    samples = []
    for k in range(n):
        args = [g if d is None else Tensor(np.take(g.numpy(), k, axis=d)) for g, d in zip(given, dims, strict=True)]
        samples.append(f(*args).numpy())
    close(got, np.stack(samples, axis=out))


def test_containers_in_and_out() -> None:
    def g(tree: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
        return tree["a"] * tree["b"][0], [tree["a"] + 1]

    a, b = t([1.0, 2.0]), t(3.0)
    product, (more,) = func.vmap(g, in_dims=({"a": 0, "b": None},))({"a": a, "b": [b]})
    close(product, [3, 6])
    close(more, [2, 3])


def test_outputs_that_do_not_depend_on_the_batch_are_repeated() -> None:
    close(func.vmap(lambda x: t(7.0))(t([1.0, 2.0])), [7, 7])


def test_nested_vmap_is_the_outer_product() -> None:
    a, b = t([1.0, 2.0, 3.0]), t([10.0, 100.0])
    outer = func.vmap(func.vmap(lambda x, y: x * y, in_dims=(None, 0)), in_dims=(0, None))
    close(outer(a, b), np.outer([1, 2, 3], [10, 100]))


def test_per_sample_gradients() -> None:
    """The gradients of the loss of each sample by the shared weights, as a loop over samples gives them."""
    w, x, y = rand(3, 2), rand(5, 3, seed=1), rand(5, 2, seed=2)

    def loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return total((p.tanh(x @ w) - y) ** 2)

    got = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(w, x, y)
    assert got.shape == (5, 3, 2)
    loop = [func.grad(loss)(w, Tensor(x.numpy()[i]), Tensor(y.numpy()[i])).numpy() for i in range(5)]
    close(got, np.stack(loop))
    np.testing.assert_allclose(
        got.numpy().sum(0), func.grad(lambda w: total((p.tanh(x @ w) - y) ** 2))(w).numpy(), rtol=1e-12
    )


def test_per_sample_gradients_with_backward() -> None:
    """The imperative style works inside a batch, too."""

    def g(x: Tensor) -> Tensor:
        x.requires_grad_()
        total(x * x).backward()
        return x.grad

    close(func.vmap(g)(t([[1.0, 2.0], [3.0, 4.0]])), [[2, 4], [6, 8]])


def test_gradients_flow_through_vmap_to_its_arguments_and_closures() -> None:
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    w = Tensor(np.array(3.0), requires_grad=True)
    total(func.vmap(lambda v: v * v * w)(x)).backward()
    close(x.grad, [6, 12])
    close(w.grad, 5)


def test_per_sample_hessians_and_jvps() -> None:
    x = rand(4, 3)
    h = func.vmap(func.hessian(lambda v: total(v**3)))(x)
    close(h, np.stack([np.diag(6 * row) for row in x.numpy()]))
    tangents = func.vmap(lambda v, d: func.jvp(p.sin, (v,), (d,))[1])(x, x)
    close(tangents, np.cos(x.numpy()) * x.numpy())
    _, outside = func.jvp(func.vmap(p.sin), (x,), (x,))
    close(outside, np.cos(x.numpy()) * x.numpy())


def test_indexing_assignment_and_where_in_a_batch() -> None:
    def g(x: Tensor, i: Tensor) -> Tensor:
        y = Tensor(np.zeros(4))
        y[1:3] = x[:2]
        y[0] = x[i]
        return p.where(p.greater(y, 0.0), y, -y)

    x, i = rand(3, 5), Tensor([4, 0, 2])
    got = func.vmap(g)(x, i)
    a = x.numpy()
    wanted = np.zeros((3, 4))
    wanted[:, 1:3] = a[:, :2]
    wanted[:, 0] = a[np.arange(3), [4, 0, 2]]
    close(got, np.abs(wanted))


def test_a_batched_matrix_product_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = Primitive.__call__

    def counting(self: Primitive, *args: Any, **params: Any) -> Any:
        if all(isinstance(a._value, np.ndarray) for a in args):
            calls.append(self.name)
        return original(self, *args, **params)

    monkeypatch.setattr(Primitive, "__call__", counting)
    func.vmap(lambda a, b: a @ b)(rand(50, 2, 3), rand(50, 3, 4))
    assert calls.count("matmul") == 1


def test_random_numbers_are_shared_by_the_samples() -> None:
    cr.manual_seed(0)
    a = func.vmap(lambda x: x * 0.0 + cr.rand(dtype="float64"))(t([1.0, 2.0])).tolist()
    assert a[0] == a[1]


def test_a_batch_of_size_zero() -> None:
    assert func.vmap(lambda x: p.exp(x @ x))(Tensor(np.zeros((0, 3)))).shape == (0,)


class TestBadInput:
    def test_values_cannot_be_looked_at(self) -> None:
        for look in (bool, float, lambda x: x.item(), lambda x: x.numpy(), lambda x: x.tolist()):
            with pytest.raises(cr.TransformError, match=r"stands for 2 samples[\s\S]*test_vmap"):
                func.vmap(look)(t([1.0, 2.0]))

    def test_sizes_must_agree(self) -> None:
        with pytest.raises(cr.ShapeError, match=r"lengths \[2, 3\][\s\S]*test_vmap"):
            func.vmap(lambda a, b: a * b)(rand(2), rand(3))

    def test_something_must_be_batched(self) -> None:
        with pytest.raises(cr.ShapeError, match="at least one"):
            func.vmap(lambda a: a, in_dims=None)(rand(2))

    def test_axes_must_exist(self) -> None:
        with pytest.raises(cr.ShapeError, match=r"in_dims 2 is out of range for a tensor of shape \(2,\)"):
            func.vmap(lambda a: a, in_dims=2)(rand(2))
        with pytest.raises(cr.ShapeError, match="out_dims 3"):
            func.vmap(lambda a: a, out_dims=3)(rand(2))

    def test_in_dims_must_match_the_arguments(self) -> None:
        with pytest.raises(cr.OperationError, match="does not match the structure"):
            func.vmap(lambda a, b: a, in_dims=(0, 0, 0))(rand(2), rand(2))

    def test_shape_errors_name_the_shapes_of_one_sample(self) -> None:
        with pytest.raises(cr.ShapeError, match=r"3[\s\S]*4[\s\S]*test_vmap"):
            func.vmap(lambda a, b: a + b)(rand(2, 3), rand(2, 4))
