"""`einsum`: sums of products written with index labels, in NumPy's syntax.

An expression becomes diagonals, sums, transpositions and pairwise products (one matrix
product each where labels are summed over), so that it is differentiated, compiled and
explained like them. More than two operands are contracted two at a time, in the order that
NumPy finds cheapest.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError, OperationError, ShapeError, located
from ..core.tensor import Tensor
from ..primitives import linalg, reduce
from ..primitives.matmul import matmul
from ..primitives.shape import permute_dims, reshape
from .arguments import public, tensor_of

__all__ = ["einsum"]

Label = str
Labels = tuple[Label, ...]
_DOTS = "..."
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@public
def einsum(subscripts: Any, /, *operands: Any) -> Tensor:
    """Sum of products of tensors: for every value of the output's labels, over all values of the others.

    Args:
        subscripts: one letter per axis, operands separated by commas, as in "ij,jk->ik"; a
            letter twice in one operand takes its diagonal, `...` stands for any further
            axes, which broadcast. Without "->" the output has the axes of `...`, then the
            letters that occur once, in alphabetical order (capitals first).
        operands: one tensor per term. Also accepted: `einsum(a, [0, 1], b, [1, 2], [0, 2])`,
            with a list of integers (or `...`) for each operand, and one for the output.

    Returns:
        The tensor of the output's axes, of the promoted type. A length of 1 broadcasts.

    Raises:
        OperationError: the expression is malformed; the message says where.
        ShapeError: a term does not fit its operand, or one label has two lengths.

    Examples:
        einsum("ij,jk->ik", a, b) is a @ b; einsum("bhqd,bhkd->bhqk", q, k) the scores of
        attention; einsum("ii", a) the trace; einsum("i,j,k->ijk", a, b, c) an outer product.
    """
    if isinstance(subscripts, str):
        tensors = [tensor_of(x, "einsum") for x in operands]
        terms, output = _parse(subscripts)
    else:
        terms, output, tensors = _from_lists((subscripts, *operands))
    labels, result, path = _plan(terms, output, tuple(x.shape for x in tensors))
    parts = [_prepare(x, own, whole) for x, own, whole in zip(tensors, labels[0], labels[1], strict=True)]
    for step in path:
        chosen = [parts[i] for i in step]
        parts = [part for i, part in enumerate(parts) if i not in step]
        joined = chosen[0]
        for count, other in enumerate(chosen[1:], 2):
            waiting = [labels for _, labels in (*parts, *chosen[count:])]
            joined = _join(joined, other, set(result).union(*waiting))
        parts.append(joined)
    x, own = parts[0]
    x, own = _sum_out(x, own, set(result))
    return _ordered(x, own, result)


def _parse(subscripts: str) -> tuple[tuple[Labels, ...], Labels | None]:
    """The labels of every term, and of the output where the expression gives it."""
    text = "".join(subscripts.split())
    left, arrow, right = text.partition("->")
    if "->" in right or set(left + right) & set("->"):
        raise OperationError(located(f"einsum: {subscripts!r} must have at most one '->', between inputs and output"))
    terms = tuple(_labels(term, subscripts) for term in left.split(","))
    return terms, _labels(right, subscripts) if arrow else None


def _labels(term: str, subscripts: str) -> Labels:
    before, dots, after = term.partition(_DOTS)
    for letter in before + after:
        if letter not in _LETTERS:
            problem = "a term has one ellipsis of three dots" if letter == "." else "labels are the letters a-z and A-Z"
            raise OperationError(located(f"einsum: {letter!r} in {subscripts!r}: {problem}"))
    return (*before, dots, *after) if dots else tuple(before)


def _from_lists(arguments: Sequence[Any]) -> tuple[tuple[Labels, ...], Labels | None, list[Tensor]]:
    """The form einsum(a, [0, 1], b, [1, 2], [0, 2])."""
    count = len(arguments) // 2
    lists = [*arguments[1 : 2 * count : 2], *arguments[2 * count :]]
    if not count or not all(isinstance(given, list | tuple) for given in lists):
        raise DTypeError(
            located("einsum: expected a string of subscripts and the operands, or operands each followed by a list")
        )
    named = [tuple(_letter(label) for label in given) for given in lists]
    tensors = [tensor_of(x, "einsum") for x in arguments[: 2 * count : 2]]
    return tuple(named[:count]), named[count] if len(named) > count else None, tensors


_ORDERED_LETTERS = "".join(sorted(_LETTERS))


def _letter(label: Any) -> Label:
    if label is Ellipsis:
        return _DOTS
    if isinstance(label, int) and 0 <= label < len(_ORDERED_LETTERS):
        return _ORDERED_LETTERS[label]
    raise OperationError(located(f"einsum: labels in lists are integers from 0 to 51 or ..., got {label!r}"))


@functools.lru_cache(maxsize=512)
def _plan(
    terms: tuple[Labels, ...], output: Labels | None, shapes: tuple[tuple[int, ...], ...]
) -> tuple[tuple[tuple[Labels, ...], tuple[Labels, ...]], Labels, tuple[tuple[int, ...], ...]]:
    """Check an expression against the shapes and choose the order of contraction.

    Returns:
        For every operand the labels of its axes, and those that remain when a length of 1
        broadcasts; the labels of the output; the operands to join in each step.
    """
    if len(terms) != len(shapes):
        raise OperationError(located(f"einsum: {len(terms)} terms for {len(shapes)} operands"))
    full = tuple(_without_dots(term, shape, i) for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)))
    lengths = _lengths(full, shapes)
    dotted = sorted((label for label in lengths if label[0] == "."), reverse=True)
    result = _output(terms, output, tuple(dotted), lengths)
    kept = tuple(
        tuple(label for label, n in zip(own, shape, strict=True) if n == lengths[label])
        for own, shape in zip(full, shapes, strict=True)
    )
    return (full, kept), result, _path(kept, result, lengths)


def _without_dots(term: Labels, shape: tuple[int, ...], position: int) -> Labels:
    """The term with a label for each axis that `...` stands for, counted from the right."""
    named = len(term) - (_DOTS in term)
    extra = len(shape) - named
    if extra < 0 or (extra and _DOTS not in term):
        written = "".join(term)
        raise ShapeError(
            located(f"einsum: term {position} {written!r} has {named} labels for {len(shape)} axes, shape {shape}")
        )
    if _DOTS not in term:
        return term
    at = term.index(_DOTS)
    return (*term[:at], *(f".{i:03d}" for i in range(extra, 0, -1)), *term[at + 1 :])


def _lengths(terms: Sequence[Labels], shapes: Sequence[tuple[int, ...]]) -> dict[Label, int]:
    lengths: dict[Label, int] = {}
    for position, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        for label, n in zip(term, shape, strict=True):
            known = lengths.get(label, 1)
            if known != 1 and n not in (1, known):
                name = "an axis of '...'" if label[0] == "." else f"label {label!r}"
                raise ShapeError(
                    located(f"einsum: {name} has length {n} in operand {position} {shape}, but {known} before")
                )
            lengths[label] = n if known == 1 else known
        for label in {label for label in term if term.count(label) > 1}:
            own = {n for other, n in zip(term, shape, strict=True) if other == label}
            if len(own) > 1:
                raise ShapeError(
                    located(f"einsum: label {label!r} twice in operand {position} needs a square, got shape {shape}")
                )
    return lengths


def _output(terms: Sequence[Labels], output: Labels | None, dotted: Labels, lengths: dict[Label, int]) -> Labels:
    if output is None:
        counts = Counter(label for term in terms for label in term if label != _DOTS)
        return (*dotted, *sorted(label for label, count in counts.items() if count == 1))
    written = "".join(output)
    for label in output:
        if output.count(label) > 1:
            raise OperationError(located(f"einsum: {label!r} occurs twice in the output {written!r}"))
        if label != _DOTS and label not in lengths:
            raise OperationError(located(f"einsum: {label!r} in the output {written!r} is in no operand"))
    if dotted and _DOTS not in output:
        raise OperationError(located(f"einsum: the output {written!r} must say where the axes of '...' go"))
    return tuple(part for label in output for part in (dotted if label == _DOTS else (label,)))


def _path(terms: Sequence[Labels], result: Labels, lengths: dict[Label, int]) -> tuple[tuple[int, ...], ...]:
    if len(terms) == 1:
        return ()
    if len(terms) == 2 or len(lengths) > len(_LETTERS):
        return _left_to_right(len(terms))
    letter = dict(zip(lengths, _LETTERS, strict=False))
    # Every label once: a diagonal is taken before the operands meet.
    distinct = [tuple(dict.fromkeys(term)) for term in terms]
    inputs = ",".join("".join(letter[label] for label in term) for term in distinct)
    hollow = [np.broadcast_to(np.zeros(()), [lengths[label] for label in term]) for term in distinct]
    expression = f"{inputs}->{''.join(letter[label] for label in result)}"
    _, *steps = np.einsum_path(expression, *hollow, optimize="optimal" if len(terms) < 5 else "greedy")[0]
    return tuple(steps)


def _left_to_right(count: int) -> tuple[tuple[int, ...], ...]:
    # The joined operand goes to the end.
    return ((0, 1), *((0, count - 2 - i) for i in range(count - 2)))


def _prepare(x: Tensor, labels: Labels, kept: Labels) -> tuple[Tensor, Labels]:
    """An operand without the axes of length 1 that broadcast, and with diagonals for repeated labels."""
    if labels != kept:
        remaining = set(kept)
        x = reshape(x, shape=tuple(n for label, n in zip(labels, x.shape, strict=True) if label in remaining))
    own = list(kept)
    for label in [label for label, count in Counter(own).items() if count > 1]:
        while own.count(label) > 1:
            first = own.index(label)
            second = own.index(label, first + 1)
            rest = [d for d in range(x.ndim) if d not in (first, second)]
            x = linalg.diagonal(permute_dims(x, axes=(*rest, first, second)))
            own = [own[d] for d in rest] + [label]
    return x, tuple(own)


def _sum_out(x: Tensor, labels: Labels, wanted: set[Label]) -> tuple[Tensor, Labels]:
    """Sum over the labels that nothing needs any more."""
    axes = tuple(d for d, label in enumerate(labels) if label not in wanted)
    if not axes:
        return x, labels
    return reduce.sum(x, axis=axes, keepdims=False), tuple(label for label in labels if label in wanted)


def _join(one: tuple[Tensor, Labels], other: tuple[Tensor, Labels], wanted: set[Label]) -> tuple[Tensor, Labels]:
    """The product of two operands, summed over the labels in both of them that nothing else needs."""
    x, a = _sum_out(*one, wanted | set(other[1]))
    y, b = _sum_out(*other, wanted | set(a))
    shared = [label for label in a if label in b]
    batch = [label for label in shared if label in wanted]
    summed = [label for label in shared if label not in wanted]
    left, right = ([label for label in own if label not in shared] for own in (a, b))
    labels = (*batch, *left, *right)
    if summed and (left or right or not batch):
        return _matrix_product(x, a, y, b, batch, left, summed, right), labels
    # Nothing to sum, or one dot product per batch entry: a broadcast product does it.
    x = _ordered(x, a, (*batch, *left, *summed))
    y = _ordered(y, b, (*batch, *right, *summed))
    product = _spread(x, len(batch) + len(left), len(right)) * _spread(y, len(batch), len(left))
    return _sum_out(product, (*labels, *summed), wanted)


def _spread(x: Tensor, position: int, count: int) -> Tensor:
    """x with `count` axes of length 1 before axis `position`."""
    return _shaped(x, (*x.shape[:position], *(1,) * count, *x.shape[position:]))


def _matrix_product(
    x: Tensor, a: Labels, y: Tensor, b: Labels,
    batch: list[Label], left: list[Label], summed: list[Label], right: list[Label],
) -> Tensor:  # fmt: skip
    x = _ordered(x, a, (*batch, *left, *summed))
    y = _ordered(y, b, (*batch, *summed, *right))
    front = x.shape[: len(batch)]
    rows = x.shape[len(batch) : len(batch) + len(left)]
    inner = math.prod(x.shape[len(batch) + len(left) :])
    columns = y.shape[len(batch) + len(summed) :]
    x = _shaped(x, (*front, math.prod(rows), inner))
    y = _shaped(y, (*front, inner, math.prod(columns)))
    return _shaped(matmul(x, y, transpose_a=False, transpose_b=False), (*front, *rows, *columns))


def _ordered(x: Tensor, labels: Labels, wanted: Iterable[Label]) -> Tensor:
    axes = tuple(labels.index(label) for label in wanted)
    return x if axes == tuple(range(x.ndim)) else permute_dims(x, axes=axes)


def _shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else reshape(x, shape=shape)
