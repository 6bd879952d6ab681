"""Attributes of other libraries' tensors: asking for one raises an error that says what it is called here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import located
from ..core.tensor import Tensor

_ELSEWHERE = {
    "cuda": 'chainrule computes on the CPU (device "cpu")',
    "data": "use detach() for the value without history, and assign() to replace a parameter's value",
    "type": "use astype(dtype) or dtype",
    "cumsum": "use cumulative_sum(axis=)", "cumprod": "use cumulative_prod(axis=)",
    "amax": "use max(axis=)", "amin": "use min(axis=)", "gather": "use chainrule.take_along_axis(x, indices, axis=)",
    "scatter": "assign with an index: y = x.clone(); y[indices] = values",
    "index_select": "use chainrule.take(x, indices, axis=)", "topk": "use sort(axis=, descending=True) and a slice",
    "softmax": "use chainrule.nn.functional.softmax(x, dim)",
    "log_softmax": "use chainrule.nn.functional.log_softmax(x, dim)",
    "norm": "use chainrule.linalg.vector_norm(x) or chainrule.linalg.matrix_norm(x)",
    "clamp": "use clip(min, max)", "div": "use x / y", "mul": "use x * y", "add": "use x + y", "sub": "use x - y",
    "neg": "use -x", "mm": "use x @ y", "bmm": "use x @ y", "dot": "use x @ y", "eq": "use x == y", "ne": "use x != y",
    "lt": "use x < y", "le": "use x <= y", "gt": "use x > y", "ge": "use x >= y", "half": "float16 is not supported",
    "bfloat16": "bfloat16 is not supported", "detach_": "use x = x.detach()",
    "fill": "use chainrule.full_like(x, value)",
    "zero_": "use x = chainrule.zeros_like(x); parameters have assign(value)",
    "fill_": "use x = chainrule.full_like(x, value); parameters have assign(value)",
    "copy_": "use x = value; parameters have assign(value)",
    "grad_fn": "chainrule.explain shows what computed a tensor", "is_cuda": "chainrule computes on the CPU",
    "chunk": "use split(sections, axis=)", "unbind": "use chainrule.unstack(x, axis=)",
}  # fmt: skip
_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
_IN_PLACE = """
    abs absolute acos acosh addbmm addcdiv addcmul addmm addmv addr arccos arccosh arcsin arcsinh arctan2 arctan
    arctanh asin asinh atan2 atan atanh baddbmm bernoulli bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp
    clamp_max clamp_min clip copysign cos cosh cumprod cumsum deg2rad dropout elu erf erfc erfinv exp2 exp expm1
    exponential fix floor floor_divide fmod frac hypot index_add index_copy index_fill index_put leaky_relu lerp
    lgamma log10 log1p log2 log logical_and logical_not logical_or logical_xor logit masked_fill masked_scatter
    nan_to_num neg negative normal put rad2deg random reciprocal relu remainder renorm resize round rsqrt scatter
    scatter_add selu sigmoid sign sin sinc sinh sqrt square squeeze swapaxes swapdims t tan tanh transpose tril triu
    true_divide trunc uniform unsqueeze
"""


class Elsewhere:
    """Stands in the class for an attribute that tensors do not have.

    One for each known name, not a `__getattr__` of the class: that would slow down every attribute of a tensor.
    """

    __slots__ = ("advice", "name")

    def __init__(self, name: str, advice: str) -> None:
        self.name, self.advice = name, advice

    def __get__(self, x: Any, owner: Any = None) -> Any:
        raise AttributeError(located(f"a tensor has no attribute {self.name!r}; {self.advice}"))


def _existing(x: Tensor) -> Iterable[str]:
    return (name for name in object.__dir__(x) if not isinstance(vars(Tensor).get(name), Elsewhere))


def install() -> None:
    """Give `Tensor` its answers to habits from elsewhere."""
    advice = {f"{name}_": f"write x = x.{name}(...)" for name in _IN_PLACE.split()}
    advice |= {f"{name}_": f"write x = x {sign} y" for name, sign in _OPERATORS.items()}
    advice = {name: f"tensors are values: {way}; parameters have assign(value)" for name, way in advice.items()}
    for name, text in (advice | _ELSEWHERE).items():
        if name not in vars(Tensor):
            setattr(Tensor, name, Elsewhere(name, text))
    Tensor.__dir__ = _existing  # type: ignore[assignment, method-assign]
