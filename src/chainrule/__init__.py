"""chainrule: backpropagation that is fast, visible and explainable."""

import warnings as _warnings
from typing import TYPE_CHECKING as _TYPE_CHECKING

# NumPy warns where floating-point arithmetic overflows or divides by zero; infinity and NaN
# are values here, as in PyTorch. The filter covers this library's own calls of NumPy only.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"chainrule\.")

from . import array, nn, optim, primitives, random
from .array import *  # noqa: F403
from .core.autodiff import enable_grad, grad, is_grad_enabled, no_grad
from .core.dtypes import bool_ as bool
from .core.dtypes import (
    complex64,
    complex128,
    default_dtype,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .core.errors import (
    ArgumentError,
    AxisError,
    ChainruleError,
    DTypeError,
    GradientError,
    IndexingError,
    OperationError,
    ShapeError,
    TransformError,
)
from .core.memory import keep_freed_memory as _keep_freed_memory
from .core.tensor import Tensor, Variable
from .random import Generator, manual_seed, rand, randint, randn, randperm

__version__ = "0.1.0"
_keep_freed_memory()

if _TYPE_CHECKING:
    from . import fft, func, linalg
    from .compiler import compile, cond, scan
    from .explain.explanation import explain
    from .func import check_grad

_MODULES = ("explain", "fft", "func", "linalg")
_LAZY = {"compile": "compiler", "cond": "compiler", "scan": "compiler", "check_grad": "func"}


def __getattr__(name: str) -> object:
    # What is not needed to train eagerly is loaded when it is first asked for.
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_LAZY})
