"""Convolution, pooling, resizing and borders against PyTorch in float64: functions, layers, options, indices."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.core.errors import ChainruleError
from tests.nn.image_samples import Case, functions, layers, x
from tests.peers.agreement import agree, noise

FUNCTIONS, LAYERS = list(functions()), list(layers())


def label(case: Case) -> str:
    name, *arguments, options = case
    shapes = [np.shape(a) if isinstance(a, np.ndarray) else a for part in arguments for a in part]
    return f"{name}-{shapes}-{options}".replace(" ", "")


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning", "ignore:The default behavior:UserWarning")
@pytest.mark.parametrize("case", FUNCTIONS, ids=label)
def test_functions_agree_with_pytorch(case: Case) -> None:
    name, operands, fixed, options = case
    agree(
        lambda *tensors: getattr(F, name)(*tensors, *fixed, **options),
        lambda *tensors: getattr(torch.nn.functional, name)(*tensors, *fixed, **options),
        *operands,
    )


def pair_of(case: Case) -> tuple[Any, Any]:
    """The same layer in both libraries, in float64 and with PyTorch's initial values."""
    name, arguments, _, _, options = case
    theirs = getattr(torch.nn, name)(*arguments, **options).double()
    ours = getattr(nn, name)(*arguments, **options).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("case", LAYERS, ids=label)
def test_layers_agree_with_pytorch_in_inputs_and_parameters(case: Case) -> None:
    ours, theirs = pair_of(case)
    inputs = case[2]
    names = [name for name, _ in theirs.named_parameters()]

    def state(tensors: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(names, tensors[len(inputs) :], strict=True))

    agree(
        lambda *tensors: nn.functional_call(ours, state(tensors), tensors[: len(inputs)]),
        lambda *tensors: torch.func.functional_call(theirs, state(tensors), tensors[: len(inputs)]),
        *inputs,
        *(p.detach().numpy() for p in theirs.parameters()),
    )


@pytest.mark.parametrize("case", LAYERS, ids=label)
def test_layers_have_pytorchs_state_and_text(case: Case) -> None:
    ours, theirs = pair_of(case)
    expected = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", sorted({case[0] for case in LAYERS}))
def test_arguments_of_layers_are_pytorchs(name: str) -> None:
    theirs, ours = (inspect.signature(getattr(m, name).__init__).parameters.values() for m in (torch.nn, nn))
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d"])
def test_arguments_of_max_pooling_are_pytorchs(name: str) -> None:
    theirs = inspect.signature(getattr(torch.nn.functional, f"{name}_with_indices")).parameters.values()
    ours = inspect.signature(getattr(F, name)).parameters.values()
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Any convolution of a small image, fitting or not."""
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    return {
        "rank": rank, "count": draw(st.integers(0, 3)), "size": each(1, 7), "kernel": each(1, 3),
        "groups": draw(st.integers(1, 3)), "channels": draw(st.integers(1, 2)), "outputs": draw(st.integers(1, 5)),
        "stride": each(1, 3), "padding": each(0, 2), "dilation": each(1, 3),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_any_convolution_is_pytorchs_or_refused_by_both(c: dict[str, Any]) -> None:
    rank, groups = c["rank"], c["groups"]
    image = noise((c["count"], groups * c["channels"], *c["size"]), np.float64, 1)
    weight = noise((groups * c["outputs"], c["channels"], *c["kernel"]), np.float64, 2)
    options = (None, c["stride"], c["padding"], c["dilation"], groups)
    theirs, ours = getattr(torch.nn.functional, f"conv{rank}d"), getattr(F, f"conv{rank}d")
    try:
        theirs(torch.tensor(image), torch.tensor(weight), *options)
    except RuntimeError:
        with pytest.raises(ChainruleError):
            ours(cr.tensor(image), cr.tensor(weight), *options)
        return
    agree(lambda a, w: ours(a, w, *options), lambda a, w: theirs(a, w, *options), image, weight)


@settings(max_examples=150, deadline=None)
@given(convolutions(), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_any_transposed_convolution_is_pytorchs_or_refused_by_both(c: dict[str, Any], extra: list[int]) -> None:
    rank, groups = c["rank"], c["groups"]
    # PyTorch does not check the options of an empty batch.
    image = noise((max(1, c["count"]), groups * c["channels"], *c["size"]), np.float64, 1)
    weight = noise((groups * c["channels"], c["outputs"], *c["kernel"]), np.float64, 2)
    options = (None, c["stride"], c["padding"], tuple(extra[:rank]), groups, c["dilation"])
    theirs, ours = (getattr(m, f"conv_transpose{rank}d") for m in (torch.nn.functional, F))
    try:
        theirs(torch.tensor(image), torch.tensor(weight), *options)
    except RuntimeError:
        with pytest.raises(ChainruleError):
            ours(cr.tensor(image), cr.tensor(weight), *options)
        return
    agree(lambda a, w: ours(a, w, *options), lambda a, w: theirs(a, w, *options), image, weight)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(3, 9), min_size=2, max_size=2), st.lists(st.integers(1, 4), min_size=2, max_size=2),
    st.lists(st.integers(1, 4), min_size=2, max_size=2), st.lists(st.integers(0, 2), min_size=2, max_size=2),
    st.lists(st.integers(1, 2), min_size=2, max_size=2), st.booleans(), st.integers(0, 2),
)  # fmt: skip
def test_any_max_pooling_with_ties_nan_and_infinities_is_pytorchs(
    size: list[int], kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], ceil: bool, odd: int
) -> None:
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    rng = np.random.default_rng(odd)
    image = rng.integers(-2, 3, (2, 3, *size)).astype(np.float64)
    if odd:
        image[rng.random(image.shape) < 0.3] = (np.nan, -np.inf)[odd - 1]
    options = (kernel, stride, padding, dilation, ceil, True)
    theirs, ours = torch.tensor(image, requires_grad=True), cr.tensor(image, requires_grad=True)
    try:
        expected, positions = torch.nn.functional.max_pool2d(theirs, *options)
    except RuntimeError:
        with pytest.raises(ChainruleError):
            F.max_pool2d(ours, *options)
        return
    found, where = F.max_pool2d(ours, *options)
    np.testing.assert_array_equal(found.numpy(), expected.detach().numpy())
    some = np.isfinite(found.numpy()) | np.isnan(found.numpy())  # a window of nothing but padding has no pixel
    np.testing.assert_array_equal(where.numpy()[some], positions.numpy()[some])
    g = rng.standard_normal(found.shape) * some
    expected.backward(torch.tensor(g))
    found.backward(cr.tensor(g))
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(3, 9), min_size=2, max_size=2), st.lists(st.integers(1, 4), min_size=2, max_size=2),
    st.lists(st.integers(1, 4), min_size=2, max_size=2), st.lists(st.integers(0, 2), min_size=2, max_size=2),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_average_pooling_is_pytorchs(
    size: list[int], kernel: list[int], stride: list[int], padding: list[int], ceil: bool, count: bool
) -> None:
    options = (kernel, stride, padding, ceil, count)
    image = noise((2, 3, *size), np.float64, 3)
    try:
        torch.nn.functional.avg_pool2d(torch.tensor(image), *options)
    except RuntimeError:
        with pytest.raises(ChainruleError):
            F.avg_pool2d(cr.tensor(image), *options)
        return
    agree(lambda t: F.avg_pool2d(t, *options), lambda t: torch.nn.functional.avg_pool2d(t, *options), image)


def test_positions_of_maxima_are_pytorchs() -> None:
    image = x(2, 3, 6, 8)
    for options in ({}, {"padding": 1, "kernel_size": 3}, {"kernel_size": (3, 2), "dilation": 2, "ceil_mode": True}):
        given = {"kernel_size": 2, **options, "return_indices": True}
        found, where = F.max_pool2d(cr.tensor(image), **given)
        expected, positions = torch.nn.functional.max_pool2d(torch.tensor(image), **given)
        np.testing.assert_array_equal(where.numpy(), positions.numpy())
        assert where.dtype == np.int64 and found.shape == tuple(expected.shape)


def test_output_size_chooses_among_those_that_the_stride_allows() -> None:
    case = ("ConvTranspose2d", (4, 6, 3), (), (), {"stride": 3, "padding": 1})
    ours, theirs = pair_of(case)
    image = x(2, 4, 3, 2)
    for size in ([7, 4], (8, 6), (2, 6, 9, 5)):
        expected = theirs(torch.tensor(image), output_size=size)
        np.testing.assert_allclose(
            ours(cr.tensor(image), output_size=size).numpy(), expected.detach().numpy(), rtol=1e-12
        )
    for size in ((6, 4), (10, 4)):
        with pytest.raises(ChainruleError, match="output_size"):
            ours(cr.tensor(image), output_size=size)


@pytest.mark.parametrize("arguments", [(16, 32, 3), (16, 32, 5, 1, 2, 1, 4)])
@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_initial_values_have_pytorchs_bounds(name: str, arguments: Any) -> None:
    if name == "ConvTranspose2d" and len(arguments) > 3:
        arguments = (16, 32, 5, 1, 2, 0, 4)
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    for mine, peer in zip(ours.parameters(), theirs.parameters(), strict=True):
        a, b = np.abs(mine.numpy()), np.abs(peer.detach().numpy())
        assert a.max() == pytest.approx(b.max(), rel=0.2)
        assert mine.numpy().std() == pytest.approx(float(peer.detach().std()), rel=0.35)


def test_a_residual_network_of_pytorch_loads_and_trains_the_same() -> None:
    def network(library: Any) -> Any:
        class Block(library.Module):  # type: ignore[misc]
            def __init__(self, channels: int, outputs: int, stride: int) -> None:
                super().__init__()
                self.conv1 = library.Conv2d(channels, outputs, 3, stride, 1, bias=False)
                self.bn1 = library.BatchNorm2d(outputs)
                self.conv2 = library.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
                self.short = library.Conv2d(channels, outputs, 1, stride, bias=False)
                self.relu = library.ReLU()

            def forward(self, input: Any) -> Any:
                return self.relu(self.conv2(self.relu(self.bn1(self.conv1(input)))) + self.short(input))

        return library.Sequential(
            library.Conv2d(1, 8, 3, padding=1), library.ReLU(), Block(8, 12, 2), library.MaxPool2d(2),
            library.AdaptiveAvgPool2d(1), library.Flatten(), library.Linear(12, 10),
        )  # fmt: skip

    theirs, ours = network(torch.nn), network(nn)
    ours.load_state_dict(theirs.state_dict())
    steps = torch.optim.SGD(theirs.parameters(), lr=0.1), cr.optim.SGD(ours.parameters(), lr=0.1)
    images, labels = np.asarray(x(16, 1, 12, 12), np.float32), np.arange(16) % 10
    for _ in range(5):
        losses = []
        for library, model, step in ((torch, theirs, steps[0]), (cr, ours, steps[1])):
            step.zero_grad()
            loss = library.nn.functional.cross_entropy(model(library.asarray(images)), library.asarray(labels))
            loss.backward()
            step.step()
            losses.append(float(loss.item()))
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
