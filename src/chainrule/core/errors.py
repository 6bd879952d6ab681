"""The exceptions of chainrule, and how a message names the operation, the shapes and the user's line.

Every class also derives from the built-in exception that NumPy or PyTorch would raise,
so `except ValueError` keeps working.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import source


class ChainruleError(Exception):
    """Base class of every error that chainrule raises on purpose."""


class ShapeError(ChainruleError, ValueError):
    """The shapes of the operands do not fit the operation."""


class AxisError(ShapeError, IndexError):
    """There is no such axis, or it is named twice."""


class DTypeError(ChainruleError, TypeError):
    """The data types of the operands do not fit the operation."""


class IndexingError(ChainruleError, IndexError):
    """An index is out of range or of a kind that tensors do not take."""


class GradientError(ChainruleError, RuntimeError):
    """A gradient was asked for where there is none to be had."""


class TransformError(ChainruleError, RuntimeError):
    """A value was needed inside a transformation (vmap, compile) that runs without values."""


class ArgumentError(ChainruleError, TypeError):
    """An argument has another name or another place here; the message says which."""


class DataError(ChainruleError, ValueError):
    """A data file is missing, damaged, or not what it should be."""


class OperationError(ChainruleError, ValueError):
    """An operation was refused for a reason that is neither a shape nor a data type."""


def describe(value: Any) -> str:
    """`float32[128, 10]` for whatever has a shape and a dtype, `repr` for anything else."""
    if isinstance(value, tuple):
        return "(" + ", ".join(describe(v) for v in value) + ")"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    return repr(value)


def located(message: str) -> str:
    """`message` followed by the user's line that led here, if there is one."""
    line = source.user_line()
    return f"{message}\n  at {line}" if line else message


_KINDS: tuple[tuple[type[BaseException], type[ChainruleError]], ...] = (
    (IndexError, IndexingError),
    (TypeError, DTypeError),
    (ValueError, ShapeError),
)


def operation_error(error: BaseException, name: str, operands: Iterable[Any], params: dict[str, Any]) -> BaseException:
    """Turn what NumPy said about `name(*operands, **params)` into an error a user can act on."""
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        return error
    reason = str(error)
    if isinstance(error, ChainruleError) and "\n  at " in reason:
        return error
    kind: type[ChainruleError] = OperationError
    if isinstance(error, ChainruleError):
        kind = type(error)
    else:
        for raised, wanted in _KINDS:
            if isinstance(error, raised):
                kind = wanted
                break
    call = ", ".join([describe(o) for o in operands] + [f"{k}={v!r}" for k, v in params.items()])
    return kind(located(f"{name}({call}): {reason}"))
