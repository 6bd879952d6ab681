"""The table of primitives, one family a file, and Python's operators on tensors.

Everything else in chainrule is composed of these.
"""

from ..core.primitive import table
from . import (
    determinant,
    factorise,
    fft,
    index,
    linalg,
    matmul,
    nn,
    operators,
    pointwise,
    random,
    reduce,
    shape,
    sort,
    standardise,
    window,
)

operators.install()

__all__ = [
    "conv",
    "determinant",
    "factorise",
    "fft",
    "index",
    "linalg",
    "matmul",
    "nn",
    "pointwise",
    "random",
    "reduce",
    "shape",
    "sort",
    "standardise",
    "table",
    "window",
]
