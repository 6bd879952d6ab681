"""Layers that standardise: layer, batch, group and instance norm, root mean square."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..layers import Equation
from ..trace import Value
from .call import Call, Candidate, equation, form, numbers, plain


@form(
    "LayerNorm", "layer_norm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm", "GroupNorm", "group_norm",
    "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "instance_norm",
)  # fmt: skip
def standardisation(call: Call) -> Iterator[Candidate]:
    """y = γ (x - μ) / σ + β, with μ and σ over some axes."""
    if not call.data():
        return
    x = call.data()[0]
    values = numbers(x)
    for eps in _epsilons(call):
        for split, axes in _norm_axes(call, values):
            shaped = values.reshape(split)
            centred = shaped - shaped.mean(axis=axes, keepdims=True)
            deviation = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
            yield from _norm_candidate(call, x, (centred / deviation).reshape(values.shape), deviation, split, axes)


def _norm_candidate(
    call: Call, x: Value, unit: np.ndarray, deviation: np.ndarray, split: tuple[int, ...], axes: tuple[int, ...]
) -> Iterator[Candidate]:
    shape = _affine_shape(call, x)
    weight = _affine_values(call, x)[0]
    scale = np.ones(shape) if weight is None else numbers(weight).reshape(shape)
    g = (call.delta * scale).reshape(split)
    u = unit.reshape(split)
    inner = g - g.mean(axis=axes, keepdims=True) - u * (g * u).mean(axis=axes, keepdims=True)
    equations = [
        plain("y = γ · x̂ + β with x̂ = (x - μ) / σ",
              r"y = \gamma \, \hat{x} + \beta, \; \hat{x} = \frac{x - \mu}{\sigma}",
              "mean μ and deviation σ over the normalised axes; ĝ = γ · δ below"),
        equation("x", "(ĝ - mean(ĝ) - x̂ · mean(ĝ · x̂)) / σ",
                 r"\frac{1}{\sigma} \left( \hat{g} - \mathrm{mean}(\hat{g}) - \hat{x} \, "
                 r"\mathrm{mean}(\hat{g} \, \hat{x}) \right)",
                 "μ and σ depend on x, too: what δ would do to the mean and to the deviation is taken out"),
    ]  # fmt: skip
    gradients = {x: (inner / deviation).reshape(unit.shape)}
    yield _with_affine(call, x, equations, gradients, unit, shape)


@form("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "batch_norm")
def fixed_standardisation(call: Call) -> Iterator[Candidate]:
    """y = γ (x - μ) / σ + β with the μ and σ that were kept in training."""
    less, divided = call.node("subtract"), call.node("multiply")
    if less is None or divided is None or less.inputs[1].requires_grad or divided.inputs[1].requires_grad:
        return
    x, inverse = less.inputs[0], numbers(divided.inputs[1])
    unit, shape = numbers(less) * inverse, _affine_shape(call, x)
    weight = _affine_values(call, x)[0]
    scale = 1.0 if weight is None else numbers(weight).reshape(shape)
    equations = [
        plain("y = γ · x̂ + β with x̂ = (x - μ) / σ",
              r"y = \gamma \, \hat{x} + \beta, \; \hat{x} = \frac{x - \mu}{\sigma}",
              "μ and σ are the running ones, kept in training: constants here"),
        equation("x", "δ · γ / σ", r"\frac{\gamma}{\sigma} \, \delta", "a fixed factor for each channel"),
    ]  # fmt: skip
    gradients = {x: call.delta * scale * inverse}
    yield _with_affine(call, x, equations, gradients, unit, shape)


def _with_affine(
    call: Call, x: Value, equations: list[Equation], gradients: dict[Value, np.ndarray], unit: np.ndarray,
    shape: tuple[int, ...],
) -> Candidate:  # fmt: skip
    """What a norm says of x, and of the weight and bias that follow the standardised `unit`, if there are any."""
    weight, bias = _affine_values(call, x)
    summed = tuple(d for d, n in enumerate(shape) if n == 1)
    rows: list[tuple[str, str, str, Value | None]] = [("x", "x", "the input", x)]
    if weight is not None:
        equations.append(equation("γ", "Σ δ · x̂", r"\sum \delta \, \hat{x}", "added up over all else", r"\gamma"))
        gradients[weight] = (call.delta * unit).sum(axis=summed).reshape(weight.shape)
        rows.append(("γ", r"\gamma", "the weight", weight))
    if bias is not None:
        equations.append(equation("β", "Σ δ", r"\sum \delta", "added up over all else", r"\beta"))
        gradients[bias] = call.delta.sum(axis=summed).reshape(bias.shape)
        rows.append(("β", r"\beta", "the bias", bias))
    return Candidate(equations, call.legend(*rows, call.delta_row()), gradients)


def _affine_values(call: Call, x: Value) -> tuple[Value | None, Value | None]:
    if call.module is not None:
        return call.parameter("weight"), call.parameter("bias")
    others = [v for v in call.group.inputs if v is not x and v.dtype.kind == "f" and v.size > 1]
    return (others[0] if others else None), (others[1] if len(others) > 1 else None)


def _affine_shape(call: Call, x: Value) -> tuple[int, ...]:
    if "Layer" in call.group.kind or "layer" in call.group.kind or "rms" in call.group.kind.lower():
        weight = _affine_values(call, x)[0]
        own = weight.shape if weight is not None else ()
        return (*(1,) * (len(x.shape) - len(own)), *own)
    return (1, x.shape[1], *(1,) * (len(x.shape) - 2))


def _norm_axes(call: Call, x: np.ndarray) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes to see x in, and the axes of them that the statistics run over."""
    kind = call.group.kind.lower()
    if "layer" in kind or "rms" in kind:
        known = getattr(call.module, "normalized_shape", None)
        for count in [len(known)] if known else range(1, x.ndim):
            yield x.shape, tuple(range(x.ndim - count, x.ndim))
    elif "batch" in kind:
        yield x.shape, (0, *range(2, x.ndim))
    elif "group" in kind:
        known = getattr(call.module, "num_groups", None)
        for count in [known] if known else [n for n in range(1, x.shape[1] + 1) if x.shape[1] % n == 0]:
            yield (x.shape[0], count, x.size // (x.shape[0] * count)), (2,)
    else:
        yield x.shape, tuple(range(2, x.ndim))


def _epsilons(call: Call) -> list[float]:
    if getattr(call.module, "eps", None) is not None:
        return [call.module.eps]
    scalars = [float(v.value.item()) for v in call.group.inputs if _is_number(v) and 0 < float(v.value) < 0.1]
    params = [float(v.params["eps"]) for v in call.group.values if "eps" in v.params]
    return [*params, *scalars, 1e-5]


def _is_number(value: Value) -> bool:
    return isinstance(value.value, np.ndarray) and value.value.size == 1 and value.value.dtype.kind == "f"


@form("RMSNorm", "rms_norm")
def root_mean_square(call: Call) -> Iterator[Candidate]:
    """y = γ x / r with r the root mean square."""
    if not call.data():
        return
    x = call.data()[0]
    values = numbers(x)
    weight, _ = _affine_values(call, x)
    shape = _affine_shape(call, x)
    scale = np.ones(shape) if weight is None else numbers(weight).reshape(shape)
    for eps in [*_epsilons(call), float(np.finfo(x.dtype).eps)]:
        for split, axes in _norm_axes(call, values):
            r = np.sqrt((values**2).mean(axis=axes, keepdims=True) + eps)
            unit, g = values / r, call.delta * scale
            del split
            gradients = {x: (g - unit * (g * unit).mean(axis=axes, keepdims=True)) / r}
            equations = [
                plain("y = γ · x̂ with x̂ = x / r", r"y = \gamma \, \hat{x}, \; \hat{x} = \frac{x}{r}",
                      "r is the root mean square over the normalised axes; ĝ = γ · δ below"),
                equation("x", "(ĝ - x̂ · mean(ĝ · x̂)) / r",
                         r"\frac{1}{r} \left( \hat{g} - \hat{x} \, \mathrm{mean}(\hat{g} \, \hat{x}) \right)",
                         "r depends on x, too: what δ would do to it is taken out"),
            ]  # fmt: skip
            rows: list[tuple[str, str, str, Value | None]] = [("x", "x", "the input", x)]
            if weight is not None:
                equations.append(equation("γ", "Σ δ · x̂", r"\sum \delta \, \hat{x}", "over all else", r"\gamma"))
                gradients[weight] = _summed(call.delta * unit, weight)
                rows.append(("γ", r"\gamma", "the weight", weight))
            yield Candidate(equations, call.legend(*rows, call.delta_row()), gradients)


def _summed(array: np.ndarray, like: Value) -> np.ndarray:
    return array.reshape(-1, *like.shape).sum(axis=0)
