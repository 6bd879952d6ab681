"""Sequential, ModuleList, ModuleDict and ParameterList are lists and dictionaries whose entries are registered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import DTypeError, IndexingError


def keys(module: nn.Module) -> list[str]:
    return list(module.state_dict())


def test_sequential_applies_its_modules_in_order() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    model, x = nn.Sequential(first, nn.Tanh(), second), cr.randn(5, 3)
    np.testing.assert_array_equal(model(x).numpy(), second(cr.tanh(first(x))).numpy())
    assert keys(model) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(model) == 3 and model[0] is first and model[-1] is second and list(model)[2] is second


def test_sequential_takes_names_from_a_dictionary() -> None:
    model = nn.Sequential({"in": nn.Linear(3, 4), "out": nn.Linear(4, 2)})
    assert keys(model) == ["in.weight", "in.bias", "out.weight", "out.bias"] and model(cr.randn(1, 3)).shape == (1, 2)


def test_an_empty_sequential_is_the_identity() -> None:
    x = cr.ones(2)
    assert nn.Sequential()(x) is x


def test_sequential_slices_and_grows() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    head = model[:2]
    assert isinstance(head, nn.Sequential) and len(head) == 2 and head[0] is model[0]
    assert len(model.append(nn.Tanh())) == 4 and isinstance(model[3], nn.Tanh)
    del model[1]
    assert keys(model) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_module_list_is_a_list() -> None:
    a, b, c = (nn.Linear(1, n) for n in (1, 2, 3))
    modules = nn.ModuleList([a, b])
    modules.append(c)
    modules.insert(0, nn.ReLU())
    assert list(modules)[1:] == [a, b, c] and modules[-1] is c and b in modules and nn.Tanh() not in modules
    assert modules.pop() is c and len(modules) == 3
    modules[0] = c
    assert modules[0] is c and keys(modules)[0] == "0.weight"
    assert len(modules.extend([nn.Tanh()])) == 4 and len(modules + modules) == 8
    assert isinstance(modules[1:], nn.ModuleList) and modules[1:][0] is a


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexingError, match="3 entries"):
        nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.ReLU()])[index]


@pytest.mark.parametrize("make", [nn.ModuleList, lambda entries: nn.Sequential(*entries)])
def test_only_modules_are_taken(make: Any) -> None:
    with pytest.raises(DTypeError, match="int"):
        make([nn.ReLU(), 3])


def test_module_dict_is_a_dictionary() -> None:
    modules = nn.ModuleDict({"a": nn.Linear(1, 2), "b": nn.ReLU()})
    modules["c"] = nn.Tanh()
    assert modules.keys() == ["a", "b", "c"] and "c" in modules and "d" not in modules and len(modules) == 3
    assert keys(modules) == ["a.weight", "a.bias"]
    assert isinstance(modules.pop("b"), nn.ReLU) and list(modules) == ["a", "c"]
    assert [k for k, _ in modules.items()] == ["a", "c"] and len(modules.values()) == 2
    modules.clear()
    assert not len(modules)
    with pytest.raises(KeyError):
        modules["a"]


def test_parameter_list_registers_tensors_as_parameters() -> None:
    parameters = nn.ParameterList([cr.ones(2), nn.Parameter(cr.zeros(3))])
    parameters.append(cr.ones(1))
    assert keys(parameters) == ["0", "1", "2"] and all(isinstance(p, nn.Parameter) for p in parameters)
    assert parameters[0].requires_grad and "Parameter of float32[2]" in repr(parameters)
