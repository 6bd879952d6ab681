"""Sequences of different lengths: padded to one tensor, or packed step by step without padding.

A packed batch holds the first step of all sequences, then the second step of those that have
one, and so on, the longest sequence first. `batch_sizes` says how many sequences each step has.

In a function that is being compiled, lengths that are an argument of it are not known, and
packing leaves the padding where it is: one program serves all lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import DTypeError, OperationError, ShapeError, located
from ...core.node import Interpreted
from ...core.tensor import Tensor, new_tensor
from ...primitives.index import index_add, index_set
from ...primitives.pointwise import greater, where
from ...primitives.shape import concat, pad, permute_dims, reshape
from ..functional.common import take_rows


class PackedSequence(NamedTuple):
    """Sequences of different lengths, packed.

    Attributes:
        data: all steps of all sequences, shape (sum of lengths, …).
        batch_sizes: int64, the number of sequences that have step 0, 1, ….
        sorted_indices: the sequences in packed order, longest first; None if they came so.
        unsorted_indices: where each sequence went; the inverse permutation.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


class PaddedSequence(NamedTuple):
    """Sequences whose lengths only a call knows: what packing gives in a function that is being compiled.

    Recurrent layers and `pad_packed_sequence` take it as they take a `PackedSequence`.

    Attributes:
        data: shape (T, N, …), with padding behind each sequence's end.
        lengths: integers from 1 to T, shape (N,).
    """

    data: Tensor
    lengths: Tensor


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes `permutation`; None for None."""
    if permutation is None:
        return None
    order = permutation._array("invert_permutation")
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order), dtype=order.dtype)
    return new_tensor(inverse, None)


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
    """Pack a padded batch: what lies behind a sequence's end is left out.

    Args:
        input: shape (T, N, …), or (N, T, …) if batch_first.
        lengths: N integers from 1 to T; a tensor or a sequence of them.
        batch_first: how input is laid out.
        enforce_sorted: the lengths do not increase; otherwise the sequences are sorted here.

    Returns:
        A `PackedSequence`; a `PaddedSequence` where the lengths are not known yet, in a function that is being
        compiled. A call of the compiled function does not look for lengths beyond T, and takes them for T.

    Raises:
        ShapeError: a length is 0 or beyond T, or their number is not N.
        OperationError: enforce_sorted, and they are not sorted.
    """
    if input.ndim < 2:
        raise ShapeError(located(f"pack_padded_sequence: the input has shape (T, N, …), got {input.shape}"))
    batch, time = input.shape[:2] if batch_first else input.shape[1::-1]
    if isinstance(lengths, Tensor) and isinstance(lengths._value, Interpreted) and lengths._value.always_recorded:
        if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise ShapeError(
                located(f"pack_padded_sequence: lengths of {lengths.dtype} {lengths.shape} for {batch} sequences")
            )
        others = range(2, input.ndim)
        return PaddedSequence(permute_dims(input, axes=(1, 0, *others)) if batch_first else input, lengths)
    sizes = _integers(lengths, "lengths")
    if sizes.shape != (batch,):
        raise ShapeError(located(f"pack_padded_sequence: {sizes.size} lengths for {batch} sequences"))
    if not batch or sizes.min() < 1 or sizes.max() > time:
        raise ShapeError(
            located(f"pack_padded_sequence: lengths lie between 1 and the {time} steps of the input, got {sizes}")
        )
    order = None
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
    elif (np.diff(sizes) > 0).any():
        raise OperationError(
            located("pack_padded_sequence: lengths must not increase; pass enforce_sorted=False to have them sorted")
        )
    batch_sizes, steps, sequences = _layout(sizes)
    if order is not None:
        sequences = order[sequences]
    first, second = (batch, time) if batch_first else (time, batch)
    rows = sequences * second + steps if batch_first else steps * second + sequences
    data = take_rows(reshape(input, shape=(first * second, *input.shape[2:])), rows)
    indices = None if order is None else new_tensor(order, None)
    return PackedSequence(data, new_tensor(batch_sizes, None), indices, invert_permutation(indices))


def pad_packed_sequence(
    sequence: PackedSequence | PaddedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The inverse of `pack_padded_sequence`.

    Args:
        sequence: packed sequences.
        batch_first: the result is (N, T, …) instead of (T, N, …).
        padding_value: what stands behind a sequence's end.
        total_length: T, at least the longest length; if None, the longest length, and for a
            `PaddedSequence` that of the padding.

    Returns:
        The padded batch and the lengths, both in the order before packing.
    """
    if isinstance(sequence, PaddedSequence):
        return _with_padding(sequence, batch_first, padding_value, total_length), sequence.lengths
    sizes = _integers(sequence.batch_sizes, "batch_sizes")
    batch, longest = int(sizes[0]), len(sizes)
    if total_length is not None and total_length < longest:
        raise ShapeError(
            located(f"pad_packed_sequence: total_length {total_length} is less than the longest sequence, {longest}")
        )
    time = longest if total_length is None else total_length
    lengths = (sizes[:, None] > np.arange(batch)).sum(axis=0)
    _, steps, sequences = _layout(lengths)
    if sequence.sorted_indices is not None:
        order = sequence.sorted_indices._array("pad_packed_sequence")
        sequences = order[sequences]
        lengths = lengths[np.argsort(order)]
    first, second = (batch, time) if batch_first else (time, batch)
    rows = new_tensor(sequences * second + steps if batch_first else steps * second + sequences, None)
    data = sequence.data
    shape = (first * second, *data.shape[1:])
    pattern = (("a", 0), *(("s", 0, n, 1) for n in data.shape[1:]))
    if padding_value == 0:
        flat = index_add(data, rows, pattern=pattern, shape=shape)
    else:
        flat = index_set(new_tensor(np.full(shape, padding_value, data.dtype), None), data, rows, pattern=pattern)
    return reshape(flat, shape=(first, second, *data.shape[1:])), new_tensor(lengths, None)


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences of shape (length, …) as one tensor (T, N, …), or (N, T, …) if batch_first.

    Raises:
        ShapeError: there are none, or they differ in more than their length.
    """
    if padding_side not in ("left", "right"):
        raise OperationError(located(f"pad_sequence: padding_side is 'left' or 'right', got {padding_side!r}"))
    _check_alike(sequences, "pad_sequence")

    time = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        missing = time - s.shape[0]
        widths = ((missing, 0) if padding_side == "left" else (0, missing), *((0, 0),) * (s.ndim - 1))
        padded = pad(s, widths=widths, value=padding_value) if missing else s
        rows.append(reshape(padded, shape=(1, *padded.shape)))
    batch = concat(*rows, axis=0)
    return batch if batch_first else permute_dims(batch, axes=(1, 0, *range(2, batch.ndim)))


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of shape (length, …); see `pack_padded_sequence`."""
    _check_alike(sequences, "pack_sequence")
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, each of its own length."""
    sizes = _integers(lengths, "lengths")
    axis = 0 if batch_first else 1
    if padded_sequences.ndim < 2 or sizes.shape != (padded_sequences.shape[axis],):
        raise ShapeError(
            located(f"unpad_sequence: {sizes.size} lengths for sequences of shape {padded_sequences.shape}")
        )
    return [
        padded_sequences[i, :length] if batch_first else padded_sequences[:length, i]
        for i, length in enumerate(sizes.tolist())
    ]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed, in their order before packing."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


def _with_padding(
    sequence: PaddedSequence, batch_first: bool, padding_value: float, total_length: int | None
) -> Tensor:
    data, lengths = sequence
    time, batch, *others = data.shape
    if total_length is not None and total_length < time:
        raise ShapeError(located(f"pad_packed_sequence: total_length {total_length} is less than the padding's {time}"))
    steps = new_tensor(np.arange(time).reshape(time, *(1,) * (data.ndim - 1)), None)
    real = greater(reshape(lengths, shape=(1, batch, *(1,) * len(others))), steps)
    padded = where(real, data, padding_value)
    if total_length is not None and total_length > time:
        widths = ((0, total_length - time), *((0, 0),) * (data.ndim - 1))
        padded = pad(padded, widths=widths, value=padding_value)
    return permute_dims(padded, axes=(1, 0, *range(2, data.ndim))) if batch_first else padded


def _layout(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For lengths that do not increase: batch sizes, and of each packed row its step and its sequence."""
    active = np.arange(lengths[0])[:, None] < lengths
    steps, sequences = active.nonzero()
    return active.sum(axis=1), steps, sequences


def _integers(values: Any, name: str) -> np.ndarray:
    array = values._array(name) if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DTypeError(located(f"{name} are integers in one axis, got {array.dtype} of shape {array.shape}"))
    return array.astype(np.int64)


def _check_alike(sequences: Sequence[Tensor], name: str) -> None:
    if not len(sequences):
        raise ShapeError(located(f"{name}: there are no sequences"))
    shapes = {s.shape[1:] for s in sequences if s.ndim}
    if len(shapes) != 1 or any(not s.ndim for s in sequences):
        raise ShapeError(
            located(f"{name}: sequences of shapes {sorted({s.shape for s in sequences})} must agree behind axis 0")
        )
