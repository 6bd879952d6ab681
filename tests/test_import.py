"""What `import chainrule` brings: little besides NumPy, the promised names, and words about each of them."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import chainrule

HEAVY = {
    "rich",
    "typer",
    "click",
    "matplotlib",
    "safetensors",
    "llvmlite",
    "torch",
    "concurrent.futures",
    "urllib.request",
}

NAMES = {
    "chainrule": (
        "Tensor tensor asarray no_grad enable_grad grad check_grad manual_seed float32 float64 complex64 complex128 "
        "einsum linalg fft nn optim func __version__"
    ),
    "chainrule.func": "grad value_and_grad vjp jvp jacrev jacfwd hessian hvp vmap checkpoint",
    "chainrule.nn": (
        "Module Parameter Sequential ModuleList Linear BatchNorm1d LayerNorm Dropout Flatten ReLU LeakyReLU GELU SiLU "
        "Sigmoid Tanh Softmax CrossEntropyLoss MSELoss BCEWithLogitsLoss functional init"
    ),
    "chainrule.nn.functional": "relu softmax log_softmax cross_entropy mse_loss binary_cross_entropy_with_logits",
    "chainrule.nn.init": (
        "uniform_ normal_ constant_ zeros_ ones_ orthogonal_ "
        "xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_"
    ),
    "chainrule.optim": "SGD Adam AdamW RMSprop Adagrad lr_scheduler clip_grad_norm_ clip_grad_value_",
    "chainrule.data": "Dataset DataLoader",
}

TENSOR = "shape dtype ndim size item numpy tolist grad requires_grad backward detach __array_namespace__"

DOCUMENTED = [
    *NAMES,
    "chainrule.optim.lr_scheduler",
    "chainrule.linalg",
    "chainrule.fft",
    "chainrule.train",
    "chainrule.interop",
]


def test_importing_chainrule_loads_numpy_and_nothing_heavy() -> None:
    code = "import sys, chainrule; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not HEAVY.intersection(loaded)


@pytest.mark.parametrize("module", NAMES)
def test_the_promised_names_exist(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_a_tensor_has_the_promised_attributes() -> None:
    assert [name for name in TENSOR.split() if not hasattr(chainrule.Tensor, name)] == []


@pytest.mark.parametrize("module", DOCUMENTED)
def test_everything_public_has_a_docstring(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__
    assert [name for name, value in _public(found) if not inspect.getdoc(value)] == []


def test_every_public_method_of_a_tensor_has_a_docstring() -> None:
    assert [
        name
        for name, value in vars(chainrule.Tensor).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property)) and not inspect.getdoc(value)
    ] == []


def _public(module: ModuleType) -> list[tuple[str, object]]:
    """The functions and classes that a module offers and that chainrule wrote."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    members = [(name, getattr(module, name)) for name in names]
    return [
        (name, value)
        for name, value in members
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("chainrule")
    ]


def test_the_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert chainrule.__version__ == version("chainrule")
