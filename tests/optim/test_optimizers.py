"""What every optimiser does, whatever its rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.core.tensor import Variable
from chainrule.optim.bundle import BLOCK

OPTIMISERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.2}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("RMSprop", {}),
    ("Adagrad", {"lr_decay": 0.1}),
    ("Adadelta", {}),
    ("Lion", {"weight_decay": 0.1}),
    ("Muon", {}),
]
every_optimiser = pytest.mark.parametrize(("name", "options"), OPTIMISERS)


def parameters(*shapes: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> list[Variable]:
    rng = np.random.default_rng(seed)
    return [Variable(rng.standard_normal(s).astype(dtype), requires_grad=True, name=f"w{s}") for s in shapes]


def set_gradients(params: list[Variable], step: int) -> None:
    rng = np.random.default_rng([7, step])
    for p in params:
        p.grad = cr.Tensor(np.asarray(rng.standard_normal(p.shape), p.dtype))


def run(optimiser: Any, params: list[Variable], steps: range) -> None:
    for step in steps:
        set_gradients(params, step)
        optimiser.step()


def values(params: list[Variable]) -> list[np.ndarray]:
    return [p.numpy().copy() for p in params]


@every_optimiser
def test_minimises_a_quadratic(name: str, options: dict[str, Any]) -> None:
    target = np.random.default_rng(1).standard_normal((4, 3))
    w = Variable(np.zeros((4, 3)), requires_grad=True)
    rate = {"Adadelta": 50.0, "Adagrad": 0.5, "SGD": 0.05}.get(name, 0.02)
    optimiser = getattr(optim, name)([w], lr=rate, **(options | {"weight_decay": 0}))
    losses = []
    for _ in range(300):
        optimiser.zero_grad()
        difference = w - cr.Tensor(target)
        loss = (difference * difference).sum()
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < 0.05 * losses[0]


@every_optimiser
def test_a_loaded_state_continues_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    shapes = ((3, 4), (5, 2), (130, 130))
    straight, first = parameters(*shapes), parameters(*shapes)
    run(getattr(optim, name)(straight, **options), straight, range(10))

    before = getattr(optim, name)(first, **options)
    run(before, first, range(5))
    second = [Variable(v, requires_grad=True) for v in values(first)]
    resumed = getattr(optim, name)(second)
    resumed.load_state_dict(before.state_dict())
    run(resumed, second, range(5, 10))
    for a, b in zip(straight, second, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@every_optimiser
def test_a_state_round_trips_exactly(name: str, options: dict[str, Any]) -> None:
    params = parameters((3, 4), (2, 2))
    optimiser = getattr(optim, name)([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}], **options)
    run(optimiser, params, range(3))
    saved = optimiser.state_dict()
    fresh = getattr(optim, name)([{"params": params[:1]}, {"params": params[1:]}])
    fresh.load_state_dict(saved)
    again = fresh.state_dict()
    assert again["param_groups"] == saved["param_groups"]
    assert again["state"].keys() == saved["state"].keys()
    for index, states in saved["state"].items():
        assert again["state"][index].keys() == states.keys()
        for key, value in states.items():
            assert again["state"][index][key].dtype == value.dtype
            np.testing.assert_array_equal(again["state"][index][key].numpy(), value.numpy())


@every_optimiser
def test_the_rule_on_tensors_is_the_rule_on_arrays(name: str, options: dict[str, Any]) -> None:
    arrays, tensors = parameters((3, 4), (5, 2), dtype="float64"), parameters((3, 4), (5, 2), dtype="float64")
    a, b = getattr(optim, name)(arrays, **options), getattr(optim, name)(tensors, **options)
    for step in range(5):
        set_gradients(arrays, step)
        a.step()
        set_gradients(tensors, step)
        group = b.param_groups[0]
        b._update_tensors(group, tensors, {option: group[option] for option in b._options})
    for p, q in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-6 if name == "NAdam" else 1e-12)


@every_optimiser
def test_bundles_and_blocks_do_not_change_a_bit(name: str, options: dict[str, Any]) -> None:
    shapes = ((3, 4), (2, 2), (300, BLOCK // 200))
    together, alone = parameters(*shapes), parameters(*shapes)
    if name == "Muon":
        together, alone = together[:2], alone[:2]
    one = getattr(optim, name)(together, **options)
    several = [getattr(optim, name)([p], **options) for p in alone]
    for step in range(3):
        set_gradients(together, step)
        set_gradients(alone, step)
        one.step()
        for optimiser in several:
            optimiser.step()
    for p, q in zip(together, alone, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


@every_optimiser
def test_a_step_changes_no_value_that_somebody_holds(name: str, options: dict[str, Any]) -> None:
    params = parameters((3, 4), (2, 2), (130, 130))
    optimiser = getattr(optim, name)(params, **options)
    run(optimiser, params, range(2))
    holders: list[Any] = [
        [p.numpy() for p in params],
        [p.detach() for p in params],
        [cr.Tensor(1.0) * p for p in params],  # graphs that will read the old weights
        [optimiser.state_dict()],
    ]
    for held in holders[:2]:
        copies = [np.array(h) for h in held]
        run(optimiser, params, range(2, 4))
        for h, copy in zip(held, copies, strict=True):
            np.testing.assert_array_equal(np.asarray(h), copy)
    saved = holders[3][0]["state"]
    copies = {(i, k): v.numpy().copy() for i, s in saved.items() for k, v in s.items()}
    run(optimiser, params, range(4, 6))
    for (i, k), copy in copies.items():
        np.testing.assert_array_equal(saved[i][k].numpy(), copy)


def test_gradients_of_a_graph_made_before_a_step_use_the_old_weights() -> None:
    w = Variable(np.array([2.0, 3.0]), requires_grad=True)
    optimiser = optim.SGD([w], lr=0.1)
    for _ in range(2):
        w.grad = cr.Tensor(np.ones(2))
        optimiser.step()
    old = w.numpy().copy()
    loss = (w * w * w).sum()
    w.grad = cr.Tensor(np.ones(2))
    optimiser.step()
    (gradient,) = cr.grad(loss, [loss_leaf(loss)])
    np.testing.assert_allclose(gradient.numpy(), 3 * old**2)


def loss_leaf(loss: cr.Tensor) -> cr.Tensor:
    """A handle on the leaf that a loss was computed from."""
    from chainrule.core.node import collect
    from chainrule.core.tensor import new_tensor

    assert loss._node is not None
    leaf = next(node for node in collect([loss._node]) if node.primitive is None)
    return new_tensor(leaf.value, leaf)


def test_values_that_nobody_holds_are_updated_in_place() -> None:
    params = parameters((3, 4), (200, 200))
    optimiser = optim.Adam(params)
    run(optimiser, params, range(2))
    arrays = [id(p._value) for p in params]
    run(optimiser, params, range(2, 4))
    assert [id(p._value) for p in params] == arrays


def test_an_assigned_parameter_is_taken_up() -> None:
    a, b = parameters((2, 2), (3,)), parameters((2, 2), (3,))
    one, other = optim.Adam(a), optim.Adam(b)
    run(one, a, range(3))
    run(other, b, range(3))
    for p, q in zip(a, b, strict=True):
        p.assign(np.ones(p.shape, np.float32))
        q.assign(np.ones(q.shape, np.float32))
        other.state[q]["exp_avg"].assign(other.state[q]["exp_avg"].numpy().copy())
    run(one, a, range(3, 5))
    run(other, b, range(3, 5))
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
        assert not np.array_equal(p.numpy(), np.ones(p.shape))


def test_a_cleared_state_begins_again() -> None:
    params, fresh = parameters((2, 2)), parameters((2, 2))
    optimiser = optim.Adam(params)
    run(optimiser, params, range(3))
    optimiser.state.clear()
    params[0].assign(fresh[0].numpy().copy())
    run(optimiser, params, range(3))
    run(optim.Adam(fresh), fresh, range(3))
    np.testing.assert_array_equal(params[0].numpy(), fresh[0].numpy())


def test_parameters_without_a_gradient_stay_and_keep_their_step_count() -> None:
    params = parameters((2, 2), (3,))
    optimiser = optim.Adam(params)
    run(optimiser, params, range(1))
    params[1].grad = None
    before = values(params)
    optimiser.step()
    assert not np.array_equal(params[0].numpy(), before[0])
    np.testing.assert_array_equal(params[1].numpy(), before[1])
    run(optimiser, params, range(2, 3))
    assert [optimiser.state[p]["step"].item() for p in params] == [3.0, 2.0]


def test_a_step_without_any_gradient_changes_nothing() -> None:
    params = parameters((2, 2))
    before = values(params)
    assert optim.Adam(params).step() is None
    np.testing.assert_array_equal(params[0].numpy(), before[0])


def test_groups_have_their_own_hyperparameters_and_read_them_at_each_step() -> None:
    params = parameters((2,), (2,), (2,), dtype="float64")
    optimiser = optim.SGD([{"params": [params[0]], "lr": 0.5}, {"params": [params[1]]}], lr=0.1)
    optimiser.add_param_group({"params": params[2], "lr": 2.0})
    optimiser.param_groups[1]["lr"] = 0.25
    before = values(params)
    for p in params:
        p.grad = cr.Tensor(np.ones(2))
    optimiser.step()
    for p, old, rate in zip(params, before, (0.5, 0.25, 2.0), strict=True):
        np.testing.assert_allclose(p.numpy(), old - rate)


def test_named_parameters_keep_their_names() -> None:
    params = parameters((2,), (3,))
    optimiser = optim.SGD([("first", params[0]), ("second", params[1])])
    assert optimiser.state_dict()["param_groups"][0]["param_names"] == ["first", "second"]


def test_the_closure_is_called_with_gradients_enabled_and_its_loss_returned() -> None:
    w = Variable(np.array([1.0, 2.0]), requires_grad=True)
    optimiser = optim.SGD([w], lr=0.5)

    def closure() -> cr.Tensor:
        optimiser.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with cr.no_grad():
        assert optimiser.step(closure).item() == 5.0
    np.testing.assert_array_equal(w.numpy(), [0.0, 0.0])


def test_zero_grad_forgets_or_clears() -> None:
    params = parameters((2,), (3,))
    optimiser = optim.SGD(params)
    set_gradients(params[:1], 0)
    optimiser.zero_grad(set_to_none=False)
    assert params[0].grad is not None and not np.any(params[0].grad.numpy())
    assert params[1].grad is None
    optimiser.zero_grad()
    assert params[0].grad is None


def test_a_step_releases_the_graph_of_the_gradients() -> None:
    w = Variable(np.array([1.0, 2.0]), requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    optim.SGD([w]).step()
    with pytest.raises(cr.GradientError, match="released when the weights"):
        loss.backward()


def test_plain_leaf_tensors_can_be_optimised() -> None:
    w = cr.Tensor([1.0, 2.0], requires_grad=True)
    optimiser = optim.SGD([w], lr=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        (w * w).sum().backward()
        optimiser.step()
    np.testing.assert_array_equal(w.numpy(), [0.0, 0.0])


def test_parameters_without_elements_and_without_axes_are_updated() -> None:
    params = parameters((0, 3), ())
    optimiser = optim.Adam(params)
    run(optimiser, params, range(2))
    assert params[0].shape == (0, 3) and params[1].shape == ()
    run(optim.Adam(params[:1]), params[:1], range(2))


def test_lion_moves_every_entry_by_the_learning_rate() -> None:
    params = parameters((4, 5), dtype="float64")
    optimiser = optim.Lion(params, lr=0.1)
    before = values(params)
    run(optimiser, params, range(1))
    np.testing.assert_allclose(np.abs(params[0].numpy() - before[0]), 0.1)


def test_lion_follows_its_definition() -> None:
    params = parameters((4,), dtype="float64")
    optimiser = optim.Lion(params, lr=0.1, betas=(0.8, 0.9), weight_decay=0.2)
    p, m = params[0].numpy().copy(), np.zeros(4)
    for step in range(20):
        set_gradients(params, step)
        assert params[0].grad is not None
        g = params[0].grad.numpy()
        p = (1 - 0.1 * 0.2) * p - 0.1 * np.sign(0.8 * m + 0.2 * g)
        m = 0.9 * m + 0.1 * g
        optimiser.step()
        np.testing.assert_allclose(params[0].numpy(), p, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 6), (12, 5), (5, 12)])
def test_muon_steps_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    params = parameters(shape, dtype="float64")
    optimiser = optim.Muon(params, lr=1.0, weight_decay=0.0)
    before = values(params)
    run(optimiser, params, range(1))
    singular = np.linalg.svd(params[0].numpy() - before[0], compute_uv=False)
    assert np.all((singular > 0.3) & (singular < 1.3 * max(1, shape[0] / shape[1]) ** 0.5))


def test_implementation_options_of_pytorch_are_accepted() -> None:
    params = parameters((2,))
    optim.Adam(params, fused=True, foreach=None, capturable=False)
    optim.SGD(params, foreach=True)


def test_the_representation_lists_the_groups() -> None:
    text = repr(optim.SGD(parameters((2,)), lr=0.25))
    assert "SGD" in text and "lr: 0.25" in text and "Parameter Group 0" in text
