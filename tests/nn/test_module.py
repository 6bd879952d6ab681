"""What a Module registers, how its state is saved and loaded, and what it says when something is wrong."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import weakref
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import DTypeError, OperationError, ShapeError
from chainrule.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.scale = nn.Parameter(cr.ones(width))
        self.register_buffer("seen", np.zeros(()))
        self.register_buffer("scratch", np.zeros(2), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.inner(x) * self.scale


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


STATE = [
    "first.weight", "first.bias", "blocks.0.scale", "blocks.0.seen", "blocks.0.inner.weight", "blocks.0.inner.bias",
    "blocks.1.scale", "blocks.1.seen", "blocks.1.inner.weight", "blocks.1.inner.bias", "head.weight",
]  # fmt: skip


def test_parameters_and_buffers_are_found_by_path_in_pytorchs_order() -> None:
    model = Network()
    assert list(model.state_dict()) == STATE
    assert [n for n, _ in model.named_parameters()] == [n for n in STATE if not n.endswith("seen")]
    assert [n for n, _ in model.named_buffers()] == [f"blocks.{i}.{b}" for i in (0, 1) for b in ("seen", "scratch")]
    assert [n for n, _ in model.named_modules()] == [
        "", "first", "blocks", "blocks.0", "blocks.0.inner", "blocks.1", "blocks.1.inner", "head",
    ]  # fmt: skip
    assert [n for n, _ in model.named_children()] == ["first", "blocks", "head"]
    assert model.get_submodule("blocks.1.inner") is model.blocks[1].inner
    assert model.get_parameter("blocks.1.inner.weight") is model.blocks[1].inner.weight


def test_a_shared_parameter_counts_once_and_is_saved_under_both_names() -> None:
    model = Network()
    model.blocks[1].inner.weight = model.blocks[0].inner.weight
    names = [n for n, _ in model.named_parameters()]
    assert "blocks.0.inner.weight" in names and "blocks.1.inner.weight" not in names
    assert "blocks.1.inner.weight" in model.state_dict()


def test_super_init_may_be_left_out() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 1)

    assert [n for n, _ in Bare().named_parameters()] == ["layer.weight", "layer.bias"] and Bare().training


def test_state_dict_is_a_snapshot_that_loads_back() -> None:
    model, x = Network(), cr.randn(5, 3)
    before, saved = model(x).numpy(), model.state_dict()
    for p in model.parameters():
        p.assign(p + 1.0)
    assert not np.allclose(model(x).numpy(), before)
    assert model.load_state_dict(saved) == ([], [])
    np.testing.assert_array_equal(model(x).numpy(), before)
    other = Network()
    other.load_state_dict({k: v.numpy() for k, v in saved.items()})
    np.testing.assert_array_equal(other(x).numpy(), before)


def test_a_state_dict_that_does_not_fit_is_refused_whole_with_everything_that_is_wrong() -> None:
    model = Network()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    wrong = {k: v.numpy() + 1 for k, v in model.state_dict().items()}
    del wrong["first.bias"], wrong["blocks.1.scale"]
    wrong["extra"] = np.zeros(3)
    wrong["head.weight"] = np.zeros((2, 5))
    wrong["first.weight"] = np.zeros((4, 3), complex)
    with pytest.raises(nn.StateDictError) as caught:
        model.load_state_dict(wrong)
    message = str(caught.value)
    for part in (
        "missing: first.bias, blocks.1.scale", "unexpected: extra", "head.weight: shape (2, 5) given, (2, 4) expected",
        "first.weight: complex128 given, float32 expected", "Network",
    ):  # fmt: skip
        assert part in message
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_loading_loosely_reports_the_keys_it_passed_over() -> None:
    model = Network()
    state = {**model.state_dict(), "extra": cr.zeros(1)}
    del state["first.bias"]
    assert model.load_state_dict(state, strict=False) == (["first.bias"], ["extra"])
    with pytest.raises(nn.StateDictError, match=r"head\.weight"):
        model.load_state_dict({"head.weight": np.zeros(7)}, strict=False)
    with pytest.raises(DTypeError, match="mapping"):
        model.load_state_dict([1, 2])  # type: ignore[arg-type]


def test_train_eval_requires_grad_and_zero_grad_reach_every_module() -> None:
    model = Network()
    assert all(not m.training for m in model.eval().modules())
    assert all(m.training for m in model.train().modules())
    model(cr.randn(2, 3)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    assert not model(cr.randn(2, 3)).requires_grad


def test_to_converts_floating_state_in_place_and_leaves_integers() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weight = model[0].weight
    model(cr.randn(4, 2)).sum().backward()
    assert model.double() is model and model[0].weight is weight
    assert weight.dtype == np.float64 and weight.grad.dtype == np.float64 and weight.requires_grad
    assert model[1].running_var.dtype == np.float64 and model[1].num_batches_tracked.dtype == np.int64
    assert model.float().to("cpu").to(np.float64)[0].bias.dtype == np.float64
    with pytest.raises(OperationError, match="CPU"):
        model.to("cuda")
    with pytest.raises(DTypeError, match="int64"):
        model.to(np.int64)


def test_a_converted_parameter_still_receives_its_gradient() -> None:
    layer = nn.Linear(2, 3).double()
    layer(cr.ones((1, 2), dtype=np.float64)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == np.float64


def test_apply_visits_children_first() -> None:
    seen: list[str] = []
    Network().apply(lambda m: seen.append(type(m).__name__))
    assert seen[0] == "Linear" and seen[-1] == "Network" and len(seen) == 8


def test_a_parameter_can_be_replaced_by_a_parameter_only() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(DTypeError, match="weight of Linear is a parameter"):
        layer.weight = cr.zeros((3, 2))  # type: ignore[assignment]
    layer.weight = nn.Parameter(cr.zeros((3, 2)))
    layer.bias = None
    assert [n for n, _ in layer.named_parameters()] == ["weight"]


def test_setting_a_buffer_assigns_to_the_same_cell() -> None:
    norm = nn.BatchNorm1d(3)
    cell = norm.running_mean
    norm.running_mean = cr.ones(3)  # type: ignore[assignment]
    assert norm.running_mean is cell and cell.numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["", "a.b", "forward", 3])
def test_impossible_names_are_refused(name: Any) -> None:
    for register in ("register_buffer", "add_module", "register_parameter"):
        with pytest.raises(OperationError):
            getattr(nn.Module(), register)(name, None)


def test_hooks_see_and_may_replace_arguments_and_result_until_removed() -> None:
    layer, x = nn.Linear(2, 2), cr.randn(3, 2)
    plain = layer(x).numpy()
    seen: list[tuple[int, ...]] = []
    before = layer.register_forward_pre_hook(lambda module, args: (args[0] * 0.0,))
    after = layer.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    doubled = layer.register_forward_hook(lambda module, args, output: output * 2.0)
    np.testing.assert_allclose(layer(x).numpy(), np.broadcast_to(2 * layer.bias.numpy(), (3, 2)), rtol=1e-6)
    assert seen == [(3, 2)]
    for handle in (before, after, doubled, doubled):
        handle.remove()
    np.testing.assert_array_equal(layer(x).numpy(), plain)


def test_copies_are_independent_and_receive_their_own_gradients() -> None:
    model = Network()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state_dict()) == STATE
        twin(cr.randn(2, 3)).sum().backward()
        assert all(p.grad is not None for p in twin.parameters())
        assert all(p.grad is None for p in model.parameters())
        twin.head.weight.assign(cr.zeros((2, 4)))
        assert model.head.weight.numpy().any()


def test_a_shared_parameter_stays_shared_in_a_copy() -> None:
    model = Network()
    model.blocks[1].inner.weight = model.blocks[0].inner.weight
    twin = copy.deepcopy(model)
    assert twin.blocks[1].inner.weight is twin.blocks[0].inner.weight


def test_nodes_know_the_path_of_the_module_that_made_them() -> None:
    model = Network()
    paths: list[str] = []
    model.blocks[1].inner.register_forward_hook(lambda m, a, y: paths.append(nn.module_path(y._node.scope)))
    y = model(cr.randn(2, 3))
    assert paths == ["blocks.1.inner"] and nn.module_path(y._node.scope) == "head"
    assert nn.module_path((y * 2.0)._node.scope) == "" and nn.module_path(None) == ""


def test_an_unregistered_module_goes_by_its_class_in_paths() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            self.layers = [Block(2)]

        def forward(self, x: Any) -> Any:
            return self.layers[0](x)

    assert nn.module_path(Hidden()(cr.randn(1, 2))._node.scope) == "Block"


def test_an_error_names_the_layer_its_path_and_both_shapes_once() -> None:
    model = Network()
    with pytest.raises(ShapeError) as caught:
        model.blocks[0](cr.randn(2, 3))
    model.first = nn.Linear(3, 5)
    with pytest.raises(ShapeError) as deep:
        model(cr.randn(2, 3))
    assert "inner = Linear(in_features=4, out_features=4, bias=True)" in str(caught.value)
    assert "blocks.0.inner = Linear(in_features=4" in str(deep.value) and "(2, 5)" in str(deep.value)
    assert str(deep.value).count("blocks.0.inner") == 1 and "test_module.py" in str(deep.value)


def test_an_error_of_the_users_own_code_carries_the_path_as_one_note() -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            raise KeyError("mine")

    model = nn.Sequential(nn.Identity(), nn.Sequential(Broken()))
    with pytest.raises(KeyError) as caught:
        model(cr.ones(1))
    assert caught.value.__notes__ == ["in module 1.0 (Broken)"]
    assert cr.core.node.mode.scope is None


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(OperationError, match=r"has no forward\(\)"):
        nn.Module()(1)


def test_printing_shows_the_tree() -> None:
    text = repr(Network())
    assert "(blocks): ModuleList(\n    (0): Block(\n      (inner): Linear(in_features=4" in text
    assert repr(nn.Linear(2, 3)) == "Linear(in_features=2, out_features=3, bias=True)"
    assert re.match(r"Parameter containing:\ntensor\(", repr(nn.Linear(2, 3).weight))


def test_a_module_is_freed_with_its_last_reference() -> None:
    model = Network()
    alive = weakref.ref(model)
    y = model(cr.randn(2, 3))
    del model, y
    gc.collect()
    assert alive() is None


def test_functional_call_computes_with_other_weights_and_leaves_the_module_alone() -> None:
    model, x = Network(), cr.randn(2, 3)
    before = model(x).numpy()
    other = {name: cr.tensor(p.numpy() * 2, requires_grad=True) for name, p in model.named_parameters()}
    y = nn.functional_call(model, other, x)
    y.sum().backward()
    assert all(p.grad is not None for p in other.values()) and all(p.grad is None for p in model.parameters())
    np.testing.assert_array_equal(model(x).numpy(), before)
    with pytest.raises(nn.StateDictError, match="nowhere"):
        nn.functional_call(model, {"nowhere": cr.ones(1)}, x)
    with pytest.raises(ShapeError, match=r"head\.weight"):
        nn.functional_call(model, {"head.weight": cr.ones(1)}, x)


def test_gradients_of_each_sample_by_vmap_equal_those_one_by_one() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    weights = {name: p.detach() for name, p in model.named_parameters()}
    x, t = cr.randn(5, 3), cr.randn(5, 2)

    def loss(first: Any, sample: Any, target: Any) -> Any:
        return F.mse_loss(nn.functional_call(model, {**weights, "0.weight": first}, sample), target)

    each = cr.func.vmap(cr.func.grad(loss), in_dims=(None, 0, 0))(weights["0.weight"], x, t)
    for i in range(5):
        alone = cr.func.grad(loss)(weights["0.weight"], x[i], t[i])
        np.testing.assert_allclose(each[i].numpy(), alone.numpy(), rtol=1e-4, atol=1e-6)
