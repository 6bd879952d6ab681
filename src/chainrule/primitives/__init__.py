"""The table of primitives, one family a file, and Python's operators on tensors.

Everything else in chainrule is composed of these.
"""

from ..core.primitive import table
from . import index, matmul, operators, pointwise, random, reduce, shape

operators.install()

__all__ = ["index", "matmul", "pointwise", "random", "reduce", "shape", "table"]
