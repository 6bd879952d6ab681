"""A smallest valid call of every primitive in the table, in double precision, from its own `example` and `domain`.

Nothing is listed here by name except what no rule of shapes can express: a matrix that must be
Hermitian, an eigenvector that is defined up to a factor. A primitive without an example has no
sample, and the tests that enumerate the table fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.errors import DTypeError, OperationError
from chainrule.core.node import ShapeDtype
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor
from chainrule.primitives import table

DOUBLE = {np.dtype("float32"): np.dtype("float64"), np.dtype("complex64"): np.dtype("complex128")}
SINGLE = {double: single for single, double in DOUBLE.items()}

NO_CALL = {
    "project": "stands for one output of a tuple; it is never called, and backward joins its cotangents itself",
}
"""Entries of the table that are no operations on arrays, and why."""

p = table


def _mt(x: Tensor) -> Tensor:
    axes = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return p["permute_dims"](x, axes=axes)


def _hermitian(x: Tensor) -> Tensor:
    return x + p["conj"](_mt(x))


def _positive(x: Tensor) -> Tensor:
    size = x.shape[-1]
    return _hermitian(x) + Tensor(np.eye(size) * 4.0 * size)


def _well_conditioned(x: Tensor) -> Tensor:
    return x + Tensor(np.eye(x.shape[-2], x.shape[-1]) * (2.0 + np.arange(x.shape[-1])) * 2.0)


PREPARE: dict[str, Callable[[Tensor], Tensor]] = {
    "cholesky": _positive,
    "eigh": lambda x: _well_conditioned(_hermitian(x)),
    "eigvalsh": lambda x: _well_conditioned(_hermitian(x)),
    "solve": _well_conditioned,
    "inv": _well_conditioned,
    "det": _well_conditioned,
    "slogdet": _well_conditioned,
    "pinv": _well_conditioned,
    "svd": _well_conditioned,
    "svdvals": _well_conditioned,
    "qr": _well_conditioned,
}
"""What the first operand must satisfy, as a map onto such operands, itself differentiable."""


def _no_phase(*parts: Tensor) -> tuple[Tensor, ...]:
    return tuple(p["real"](part * p["conj"](part)) for part in parts)


INVARIANT: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "eigh": lambda w, v: (w, *_no_phase(v)),
    "svd": lambda u, s, vh: (s, *_no_phase(u, vh)),
}
"""What of the outputs is a function of the input: singular vectors are defined up to a phase."""

FIXED: dict[str, dict[int, float]] = {"pinv": {1: 1e-15}}
"""Operands with a prescribed value (tolerances)."""

ORDERED = frozenset(
    {"maximum", "minimum", "max", "min", "select_positive", "relu", "remainder", "floor_divide", "copysign"}
)
"""Defined by an order of the numbers: no complex derivative."""


class Sample(NamedTuple):
    """One call: the arrays, and the function of those of them that a gradient flows to."""

    name: str
    primitive: Primitive
    arrays: list[np.ndarray]
    params: dict[str, Any]
    flowing: list[int]

    def call(self, *floating: Tensor) -> tuple[Tensor, ...]:
        """The primitive as a differentiable function; always a tuple of floating tensors."""
        given = iter(floating)
        operands = [next(given) if i in self.flowing else Tensor(a) for i, a in enumerate(self.arrays)]
        if self.name in PREPARE:
            operands[0] = PREPARE[self.name](operands[0])
        y = self.primitive(*operands, **self.params)
        if isinstance(y, tuple):
            y = INVARIANT[self.name](*y) if self.name in INVARIANT else y
            return tuple(part for part in y if part.dtype.kind in "fc")
        return (y,)

    @property
    def points(self) -> list[np.ndarray]:
        """The arrays a gradient flows to."""
        return [self.arrays[i] for i in self.flowing]


def example(primitive: Primitive) -> tuple[list[tuple[tuple[int, ...], np.dtype]], dict[str, Any]]:
    """The example of a primitive; an error where it has none."""
    if primitive.example is None:
        raise AssertionError(f"primitive {primitive.name!r} has no example: give it one, so that it is tested")
    specs, params = primitive.example
    return [(tuple(shape), np.dtype(dtype)) for shape, dtype in specs], dict(params)


def numbers(primitive: Primitive, shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Random numbers of a data type from the primitive's domain."""
    low, high = primitive.domain
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0, max(1, min(3, math.ceil(high))), shape).astype(dtype)
    if dtype.kind == "c":
        return (rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape)).astype(dtype)
    return rng.uniform(low, high, shape).astype(dtype)


def sample(name: str, *, complex_: bool = False, seed: int = 0, shapes: list[tuple[int, ...]] | None = None) -> Sample:
    """A call of the primitive in double precision; of complex numbers if asked for."""
    primitive = table[name]
    specs, params = example(primitive)
    rng = np.random.default_rng([seed, *name.encode()])
    arrays = []
    for position, (shape, dtype) in enumerate(specs):
        wanted = DOUBLE.get(dtype, dtype)
        if complex_ and wanted.kind == "f" and position not in FIXED.get(name, {}):
            wanted = np.dtype("complex128")
        array = numbers(primitive, shapes[position] if shapes else shape, wanted, rng)
        if position in FIXED.get(name, {}):
            array = np.full(shape, FIXED[name][position], wanted)
        arrays.append(array)
    if name == "astype":
        params["dtype"] = np.dtype("complex128" if complex_ else "float64")
    flowing = [i for i, a in enumerate(arrays) if a.dtype.kind in "fc" and i not in FIXED.get(name, {})]
    return Sample(name, primitive, arrays, params, flowing)


def accepts_complex(name: str) -> bool:
    """Whether the primitive's shape rule takes complex operands in place of the floating ones."""
    if name in ORDERED:
        return False
    s = sample(name, complex_=True)
    try:
        s.primitive.abstract(*(ShapeDtype(a.shape, a.dtype) for a in s.arrays), **s.params)
    except (DTypeError, OperationError):
        return False
    return True


def names(*, differentiable: bool | None = None) -> Iterator[str]:
    """The primitives of the table, in order."""
    for name, primitive in list(table.items()):
        if name not in NO_CALL and differentiable in (None, primitive.differentiable):
            yield name


def differentiable_cases() -> list[tuple[str, bool]]:
    """(name, complex?) of every differentiable primitive, for every kind of number that it takes."""
    cases = []
    for name in names(differentiable=True):
        if table[name].example is None:
            cases.append((name, False))  # fails where it is used, with the reason
            continue
        if any(np.dtype(dtype).kind == "f" for _, dtype in example(table[name])[0]):
            cases.append((name, False))
            if accepts_complex(name):
                cases.append((name, True))
        else:
            cases.append((name, True))
    return cases


def case_id(case: Any) -> str:
    """A readable name for (name, complex?)."""
    return f"{case[0]}-{'complex' if case[1] else 'real'}" if isinstance(case, tuple) else str(case)
