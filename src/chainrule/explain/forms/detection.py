"""Losses of object detectors: focal loss of the classes, overlap of the boxes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..trace import Value
from .call import Call, Candidate, Gradients, equation, form, numbers, plain
from .losses import reductions

EPS = 1e-7  # torchvision's


@form("sigmoid_focal_loss")
def focal(call: Call) -> Iterator[Candidate]:
    """L = -αₜ (1 - pₜ)^γ ln pₜ with pₜ = σ(x) where t is 1 and 1 - σ(x) where it is 0."""
    constants = [float(v.value.item()) for v in call.group.inputs if isinstance(v.value, np.ndarray) and v.size == 1]
    power = call.node("integer_power")
    powers = dict.fromkeys([2.0, *constants, *([] if power is None else [float(power.params["n"])])])
    data = [v for v in call.group.inputs if not v.several and v.dtype.kind == "f" and v.size > 1]
    for x, t in itertools.permutations(data, 2):
        target = numbers(t)
        if x.shape != t.shape or not x.requires_grad or not np.isin(target, (0, 1)).all():
            continue
        sign = 2 * target - 1
        p = 1 / (1 + np.exp(-sign * numbers(x)))
        logs = -np.logaddexp(0, -sign * numbers(x))
        # The weights of objects and background are one array in the graph.
        weights = [float(numbers(v)[target > 0].max(initial=0)) for v in data if v is not x and v.shape == x.shape]
        for gamma, alpha in itertools.product(powers, dict.fromkeys([0.25, *weights, -1])):
            weight = np.where(target > 0, alpha, 1 - alpha) if alpha != -1 else np.ones(x.shape)
            gradient = sign * weight * (1 - p) ** gamma * (gamma * p * logs + p - 1)
            weighted, tex = ("α[t] ", r"\alpha_{t} ") if alpha != -1 else ("", "")
            told = f"; α[t] is {alpha:g} for objects and {1 - alpha:g} for background" if alpha != -1 else ""
            for over, written, latex in reductions(call, x):
                equations = [
                    plain(f"L = -{weighted}(1 - p)ᵞ ln p", rf"L = -{tex}(1 - p)^{{\gamma}} \ln p",
                          f"p is the probability given to what is true, γ = {gamma:g}{told}"),
                    equation("x", f"± {weighted}(1 - p)ᵞ (γ p ln p + p - 1){written}",
                             rf"{latex}\pm {tex}(1 - p)^{{\gamma}} (\gamma \, p \ln p + p - 1)",
                             "+ where there is an object, - elsewhere; what is easy (p near 1) counts little"),
                ]  # fmt: skip
                legend = call.legend(("x", "x", "the scores", x), ("t", "t", "1 for objects, 0 for background,", t))
                yield Candidate(equations, legend, {x: over * gradient})


@form("generalized_box_iou_loss")
def overlap(call: Call) -> Iterator[Candidate]:
    """L = 1 - I / U + (C - U) / C: areas of intersection, union and the smallest box around both."""
    smaller = [v for v in call.group.values if v.primitive and v.primitive.name == "minimum"]
    larger = [v for v in call.group.values if v.primitive and v.primitive.name == "maximum"]
    if len(smaller) < 2 or len(larger) < 2:
        return
    # Pairs (of the one box, of the other): left and right, upper and lower sides.
    pairs = [v.inputs for bounds in zip(larger[:2], smaller[:2], strict=True) for v in bounds]
    sides = [[numbers(v) for v in pair] for pair in pairs]
    own = [[high[k] - low[k] for low, high in (sides[:2], sides[2:])] for k in (0, 1)]  # width and height of each box
    inner = [np.maximum(np.minimum(*high) - np.maximum(*low), 0) for low, high in (sides[:2], sides[2:])]
    outer = [np.maximum(*high) - np.minimum(*low) for low, high in (sides[:2], sides[2:])]
    shared, around = inner[0] * inner[1], outer[0] * outer[1]
    # ε keeps the quotients finite where a box has no area.
    union = own[0][0] * own[0][1] + own[1][0] * own[1][1] - shared + EPS
    by_area = shared / union**2 - 1 / (around + EPS)
    by_shared = -1 / union - by_area
    by_around = union / (around + EPS) ** 2
    for over, written, latex in reductions(call, larger[0]):
        gradients = Gradients()
        for number, pair in enumerate(pairs):
            axis, upper = divmod(number, 2)
            sign = 1.0 if upper else -1.0
            across = 1 - axis  # moving a side sweeps an area as long as the other axis is wide
            for k in (0, 1):
                mine, other = sides[number][k], sides[number][1 - k]
                further = np.where(mine == other, 0.5, (mine > other) == bool(upper))  # of two equal sides, half each
                slope = by_area * own[k][across] + by_around * outer[across] * further
                slope = slope + by_shared * inner[across] * (1 - further) * (inner[axis] > 0)
                _add_side(gradients, call, pair[k], over * sign * slope)
        equations = [
            plain("L = 1 - I / U + (C - U) / C", r"L = 1 - \frac{I}{U} + \frac{C - U}{C}",
                  "areas: I of the intersection, U = A + B - I of the union, C of the smallest box around both"),
            plain("dL = (I / U² - 1 / C) (dA + dB - dI) - dI / U + U / C² dC",
                  r"dL = \left( \frac{I}{U^2} - \frac{1}{C} \right) (dA + dB - dI) - \frac{dI}{U} + \frac{U}{C^2} dC",
                  "what a change of each area does"),
            equation("side", f"± (∂L/∂A · length + ∂L/∂I · length of I + ∂L/∂C · length of C){written}",
                     latex + r"\pm \left( \frac{\partial L}{\partial A} \ell + \frac{\partial L}{\partial I} \ell_{I} "
                     r"+ \frac{\partial L}{\partial C} \ell_{C} \right)",
                     "moving a side sweeps an area as long as it is; of I only where the side bounds the intersection, "
                     "of C only where it bounds the box around", r"\mathrm{side}"),
        ]  # fmt: skip
        legend = call.legend(call.delta_row())
        yield Candidate(equations, legend, gradients.found)


def _add_side(gradients: Gradients, call: Call, side: Value, gradient: np.ndarray) -> None:
    """Add the gradient of one number of each box: to the box, if the call took it out of one."""
    if side in call.group and side.primitive is not None and side.primitive.name == "index":
        boxes = side.inputs[0]
        whole = np.zeros(boxes.shape)
        whole[..., side.params["pattern"][-1][1]] = gradient
        gradients.add(boxes, whole)
    else:
        gradients.add(side, gradient)
