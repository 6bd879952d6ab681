"""Dense work of any kind: how it is cut up, and its function."""

from __future__ import annotations

from typing import Any

from .conv import Convolution
from .conv_lanes import emit_lanes
from .conv_loops import emit_convolution
from .conv_plans import ConvolutionPlan, LanesPlan, suits_lanes
from .conv_weights import WeightGradient, WeightGradientPlan, emit_weight_gradient
from .gemm import Gemm, Plan
from .gemm_loops import emit_gemm
from .ir import Function, Module
from .target import Target
from .winograd import emit_winograd
from .winograd_plan import WinogradPlan, WinogradWeightsPlan, suits_winograd, suits_winograd_weights
from .winograd_weights import emit_winograd_weights

Dense = Gemm | Convolution | WeightGradient
DensePlan = Plan | ConvolutionPlan | LanesPlan | WinogradPlan | WeightGradientPlan | WinogradWeightsPlan


def plan_of(work: Dense, target: Target, threads: int) -> DensePlan:
    """How work is cut up for so many threads: `scratch` bytes for each, and whether a `single` one does it."""
    if isinstance(work, Gemm):
        return Plan(work, target, threads)
    if isinstance(work, Convolution):
        if suits_winograd(work, target, threads):
            return WinogradPlan(work, target, threads)
        return (LanesPlan if suits_lanes(work, target) else ConvolutionPlan)(work, target, threads)
    if suits_winograd_weights(work, target):
        return WinogradWeightsPlan(work, target, threads)
    return WeightGradientPlan(work, target, threads)


def emit_dense(module: Module, name: str, plan: DensePlan, arguments: dict[tuple[Any, int], int]) -> Function:
    """The function `name(addresses…, scratch, thread, threads)` of planned work.

    Args:
        arguments: for each buffer and offset of the work's `buffers()` the position of its address.
            `scratch` is memory for all threads, `plan.scratch` bytes each, at a multiple of 64.
    """
    if isinstance(plan, Plan):
        return emit_gemm(module, name, plan, arguments)
    if isinstance(plan, ConvolutionPlan):
        return emit_convolution(module, name, plan, arguments)
    if isinstance(plan, LanesPlan):
        return emit_lanes(module, name, plan, arguments)
    if isinstance(plan, WinogradPlan):
        return emit_winograd(module, name, plan, arguments)
    if isinstance(plan, WinogradWeightsPlan):
        return emit_winograd_weights(module, name, plan, arguments)
    return emit_weight_gradient(module, name, plan, arguments)
