"""Layers and losses of nn against torch.nn in float64, with PyTorch's own weights loaded.

The cases are enumerated: a class exported without one fails `test_every_layer_is_compared`.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn
from tests.nn import image_samples
from tests.peers import test_attention, test_recurrent
from tests.peers.agreement import agree, noise

D = np.float64
pytestmark = pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")


def x(*shape: int, seed: int = 0) -> np.ndarray:
    return noise(shape, D, seed) * 2


def p(*shape: int, seed: int = 0) -> np.ndarray:
    return 1 / (1 + np.exp(-noise(shape, D, seed)))


def signs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.where(noise(shape, D, seed) > 0, 1.0, -1.0)


class Case(NamedTuple):
    """A layer made with `arguments` and `options`, applied to `inputs` (differentiated) and `fixed`."""

    name: str
    arguments: tuple[Any, ...]
    inputs: tuple[np.ndarray, ...]
    fixed: tuple[np.ndarray, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012
    training: bool = True


def activations() -> list[Case]:
    plain = (
        "ReLU ReLU6 LeakyReLU PReLU Hardtanh ELU CELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Tanhshrink "
        "Softplus Softsign Softshrink Hardshrink Hardsigmoid Hardswish GLU"
    )
    cases = [Case(name, (), (x(3, 4),)) for name in plain.split()]
    return [
        *cases,
        Case("LeakyReLU", (0.2,), (x(3, 4),)),
        Case("PReLU", (4, 0.1), (x(3, 4, 2),)),
        Case("RReLU", (0.1, 0.5), (x(3, 4),), training=False),
        Case("Threshold", (0.1, 5.0), (x(3, 4),)),
        Case("Hardtanh", (-0.5, 2.0), (x(3, 4),)),
        Case("ELU", (0.4,), (x(3, 4),)),
        Case("GELU", ("tanh",), (x(3, 4),)),
        Case("Softplus", (2.0, 3.0), (x(3, 4),)),
        Case("GLU", (0,), (x(4, 3),)),
        Case("Softmax", (1,), (x(3, 4),)),
        Case("Softmin", (0,), (x(3, 4),)),
        Case("LogSoftmax", (-1,), (x(3, 4),)),
        Case("Softmax2d", (), (x(2, 3, 4, 2),)),
        Case("CosineSimilarity", (), (x(3, 4), x(3, 4, seed=1))),
        Case("PairwiseDistance", (1.0, 1e-3, True), (x(3, 4), x(3, 4, seed=1))),
    ]


def layers() -> list[Case]:
    cases = [
        Case("Linear", (3, 5), (x(4, 3),)),
        Case("Linear", (3, 5, False), (x(2, 4, 3),)),
        Case("Bilinear", (3, 2, 5), (x(4, 3), x(4, 2))),
        Case("Identity", (), (x(4, 3),)),
        Case("Flatten", (), (x(4, 3, 2),)),
        Case("Flatten", (0, 1), (x(4, 3, 2),)),
        Case("Unflatten", (1, (2, -1)), (x(4, 6, 2),)),
        Case("LayerNorm", (4,), (x(3, 4),)),
        Case("LayerNorm", ((3, 4),), (x(2, 3, 4),), options={"bias": False, "eps": 1e-3}),
        Case("LayerNorm", (4,), (x(3, 4),), options={"elementwise_affine": False}),
        Case("RMSNorm", (4,), (x(3, 4),)),
        Case("RMSNorm", ((3, 4), 1e-2, False), (x(2, 3, 4),)),
        Case("GroupNorm", (2, 4), (x(3, 4, 5),)),
        Case("GroupNorm", (4, 4), (x(3, 4, 5),), options={"affine": False}),
    ]
    for training in (True, False):
        t: dict[str, Any] = {"training": training}
        cases += [
            Case("Dropout", (0.0 if training else 0.5,), (x(3, 4),), **t),
            Case("Dropout1d", (0.0 if training else 0.5,), (x(3, 4, 2),), **t),
            Case("Dropout2d", (0.0 if training else 0.5,), (x(3, 4, 2, 2),), **t),
            Case("Dropout3d", (0.0 if training else 0.5,), (x(3, 4, 2, 2, 2),), **t),
            Case("AlphaDropout", (0.0 if training else 0.5,), (x(3, 4),), **t),
            Case("BatchNorm1d", (4,), (x(5, 4),), **t),
            Case("BatchNorm1d", (4,), (x(3, 4, 5),), options={"momentum": None}, **t),
            Case("BatchNorm1d", (4,), (x(3, 4, 5),), options={"affine": False, "momentum": 0.5}, **t),
            Case("BatchNorm1d", (4,), (x(5, 4),), options={"track_running_stats": False}, **t),
            Case("BatchNorm2d", (4,), (x(3, 4, 2, 3),), **t),
            Case("BatchNorm3d", (4,), (x(3, 4, 2, 3, 2),), **t),
            Case("InstanceNorm1d", (4,), (x(3, 4, 5),), **t),
            Case("InstanceNorm1d", (4,), (x(4, 5),), options={"affine": True}, **t),
            Case("InstanceNorm2d", (4,), (x(3, 4, 2, 3),), options={"track_running_stats": True}, **t),
            Case("InstanceNorm3d", (4,), (x(3, 4, 2, 3, 2),), options={"affine": True}, **t),
        ]
    indices = np.array([[1, 0, 2], [2, 2, 4]])
    return [
        *cases,
        Case("Embedding", (5, 3), (), (indices,)),
        Case("Embedding", (5, 3, 2), (), (indices,)),
    ]


def losses() -> list[Case]:
    t, weight = np.array([2, 0, 1, -100, 3]), np.array([0.3, 1.2, 0.7, 2.0])
    labels = np.array([[2, 0, -1, 1], [3, -1, 0, 0], [-1, 0, 1, 2], [0, 1, 2, 3]])
    pair, three = (x(5, 3), x(5, 3, seed=1)), (x(5, 3), x(5, 3, seed=1), x(5, 3, seed=2))
    return [
        Case("CrossEntropyLoss", (), (x(5, 4),), (t,)),
        Case("CrossEntropyLoss", (weight,), (x(5, 4),), (t,), {"label_smoothing": 0.2}),
        Case("CrossEntropyLoss", (), (x(5, 4), p(5, 4)), (), {"reduction": "sum"}),
        Case("NLLLoss", (weight,), (x(5, 4),), (t,), {"ignore_index": -100}),
        Case("BCELoss", (), (p(5, 3), p(5, 3, seed=1))),
        Case("BCEWithLogitsLoss", (), (x(5, 3), p(5, 3))),
        Case("BCEWithLogitsLoss", (weight[:3],), (x(5, 3), p(5, 3)), (), {"pos_weight": weight[1:]}),
        Case("KLDivLoss", (), (x(5, 3), p(5, 3)), (), {"reduction": "batchmean"}),
        Case("KLDivLoss", (), pair, (), {"log_target": True, "reduction": "sum"}),
        Case("MSELoss", (), pair),
        Case("MSELoss", (False,), pair),
        Case("MSELoss", (None, False), pair),
        Case("L1Loss", (), pair),
        Case("SmoothL1Loss", (), pair, (), {"beta": 0.5}),
        Case("HuberLoss", ("sum", 2.0), pair),
        Case("PoissonNLLLoss", (), (x(5, 3), np.abs(x(5, 3))), (), {"full": True}),
        Case("GaussianNLLLoss", (), (*pair, p(5, 3)), (), {"full": True}),
        Case("CosineEmbeddingLoss", (0.1,), pair, (signs(5),)),
        Case("MarginRankingLoss", (0.5,), (x(5), x(5, seed=1)), (signs(5),)),
        Case("HingeEmbeddingLoss", (), (x(5, 3),), (signs(5, 3),)),
        Case("SoftMarginLoss", (), (x(5, 3),), (signs(5, 3),)),
        Case("MultiLabelSoftMarginLoss", (weight,), (x(5, 4),), (p(5, 4),)),
        Case("MultiLabelMarginLoss", (), (x(4, 4),), (labels,)),
        Case("MultiMarginLoss", (2, 0.5), (x(5, 4),), (np.abs(t) % 4,)),
        Case("TripletMarginLoss", (2.0,), three, (), {"swap": True}),
        Case("TripletMarginWithDistanceLoss", (), three, (), {"margin": 3.0}),
    ]


CASES = [*activations(), *layers(), *losses()]
# Compared in test_conv.py, test_attention.py and test_recurrent.py.
IMAGES = {case[0] for case in image_samples.layers()}
SEQUENCES = test_attention.LAYERS | test_recurrent.LAYERS | {"RotaryEmbedding"}
# Containers and the bases of layers: tests/nn/test_module.py and test_containers.py.
ELSEWHERE = {
    "Buffer", "Module", "ModuleDict", "ModuleList", "Parameter", "ParameterList", "Sequential", "StateDictError",
    "functional", "functional_call", "init", "module_path", "utils",
}  # fmt: skip
FIRST_ORDER = {"Hardsigmoid", "MultiMarginLoss", "MultiLabelMarginLoss", "Embedding"}
ROUGH = {"Hardsigmoid"}  # PyTorch's derivative has the float32 constant 1/6


def make(library: Any, case: Case) -> Any:
    convert = torch.tensor if library is torch.nn else cr.tensor

    def constant(value: Any) -> Any:
        return convert(value) if isinstance(value, np.ndarray) else value

    options = {k: constant(v) for k, v in case.options.items()}
    return getattr(library, case.name)(*(constant(a) for a in case.arguments), **options)


def pair_of(case: Case) -> tuple[Any, Any]:
    """The same layer in both libraries, in float64 and with random state that is equal."""
    theirs, ours = make(torch.nn, case).double(), make(nn, case).double()
    with torch.no_grad():
        for i, state in enumerate([*theirs.parameters(), *theirs.buffers()]):
            if state.dtype == torch.float64 and case.name not in ("BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss"):
                state.copy_(torch.tensor(np.abs(x(*state.shape, seed=30 + i)) + 0.1))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours.train(case.training), theirs.train(case.training)


def label(case: Case) -> str:
    return f"{case.name}-{case.arguments}-{case.options}-{'train' if case.training else 'eval'}".replace(" ", "")


def test_every_layer_is_compared() -> None:
    missing = set(nn.__all__) - {case.name for case in CASES} - ELSEWHERE - IMAGES - SEQUENCES
    assert not missing, f"no comparison with PyTorch for {sorted(missing)}"


@pytest.mark.parametrize("case", CASES, ids=label)
def test_agrees_with_pytorch_in_inputs_and_parameters(case: Case) -> None:
    ours, theirs = pair_of(case)
    names = [name for name, _ in theirs.named_parameters()]
    inputs = len(case.inputs)

    def mine(*tensors: Any) -> Any:
        fixed = [cr.tensor(a) for a in case.fixed]
        state = dict(zip(names, tensors[inputs:], strict=True))
        return nn.functional_call(ours, state, (*tensors[:inputs], *fixed))

    def peer(*tensors: Any) -> Any:
        fixed = [torch.tensor(a) for a in case.fixed]
        state = dict(zip(names, tensors[inputs:], strict=True))
        return torch.func.functional_call(theirs, state, (*tensors[:inputs], *fixed))

    parameters = [dict(theirs.named_parameters())[name].detach().numpy() for name in names]
    rough = case.name in ROUGH or (case.name == "CELU")
    agree(
        mine, peer, *case.inputs, *parameters, orders=1 if case.name in FIRST_ORDER else 2,
        rtol=1e-7 if rough else 1e-10,
    )  # fmt: skip
    for (name, mine_after), peer_after in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(mine_after.numpy(), peer_after.numpy(), rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_state_dict_has_pytorchs_keys_shapes_and_types(case: Case) -> None:
    ours, theirs = make(nn, case), make(torch.nn, case)
    expected = {k: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.state_dict().items()}
    assert {k: (v.shape, str(v.dtype)) for k, v in ours.state_dict().items()} == expected
    assert list(ours.state_dict()) == list(expected)


@pytest.mark.parametrize("name", sorted({case.name for case in CASES}))
def test_names_order_and_defaults_of_arguments_are_pytorchs(name: str) -> None:
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters.values()
    ours = inspect.signature(getattr(nn, name).__init__).parameters.values()
    # Older names for the same two limits, which PyTorch keeps with a warning.
    skipped = {"min_value", "max_value"} if name == "Hardtanh" else set()
    expected = [(p.name, p.default) for p in theirs if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert [(p.name, p.default) for p in ours if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)] == [
        e for e in expected if e[0] not in skipped
    ]


def test_embedding_limits_the_norm_of_the_rows_it_reads() -> None:
    case = Case("Embedding", (5, 3), (), (), {"max_norm": 1.0})
    ours, theirs = pair_of(case)
    indices = np.array([[1, 0], [1, 4]])
    found, expected = ours(cr.tensor(indices)), theirs(torch.tensor(indices))
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(ours.weight.numpy(), theirs.weight.detach().numpy(), rtol=1e-10)


def test_a_network_of_pytorch_loads_and_computes_the_same() -> None:
    def network(library: Any) -> Any:
        return library.Sequential(
            library.Linear(6, 8), library.BatchNorm1d(8), library.ReLU(),
            library.Sequential(library.Linear(8, 8), library.LayerNorm(8), library.GELU()),
            library.ModuleList([library.Linear(8, 3)])[0],
        )  # fmt: skip

    theirs, ours = network(torch.nn), network(nn)
    ours.load_state_dict(theirs.state_dict())
    data = np.asarray(x(4, 6), np.float32)
    for mode in (True, False):
        expected = theirs.train(mode)(torch.tensor(data)).detach().numpy()
        np.testing.assert_allclose(ours.train(mode)(cr.tensor(data)).numpy(), expected, rtol=2e-5, atol=1e-6)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
