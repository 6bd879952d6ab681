"""The number formats of GGUF files: how blocks of small integers become float32.

A block holds a fixed count of weights as integers of 2 to 8 bits with one or several scales.
The layouts are ggml's (`ggml-common.h`, `ggml-quants.c`): `block_q4_0` and its relatives with
32 weights, and the "K-quants" with 256 in sub-blocks that have scales of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Decoder = Callable[[np.ndarray], np.ndarray]


class BlockFormat(NamedTuple):
    """How one type of a GGUF tensor is stored.

    `decode` turns bytes of shape (blocks, `size`) into numbers of shape (blocks, `weights`).
    """

    name: str
    weights: int
    size: int
    decode: Decoder


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 numbers, given as uint16, in float32: the upper half of whose bits they are."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _plain(dtype: str) -> Decoder:
    return lambda blocks: blocks.view(dtype)


def _bfloat16(blocks: np.ndarray) -> np.ndarray:
    return widen_bfloat16(blocks.view("<u2"))


def _half(blocks: np.ndarray, start: int) -> np.ndarray:
    """The float16 number at byte `start` of each block, as float32 of shape (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """The low halves of all bytes, then the high halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth_bits(blocks: np.ndarray, start: int) -> np.ndarray:
    """Bit j of the 32-bit word at byte `start`, for weight j, in the place where it counts 16."""
    return np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little") << 4


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]) + _half(blocks, 2)


def _q5_0(blocks: np.ndarray) -> np.ndarray:
    q = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)
    return _half(blocks, 0) * (q.astype(np.float32) - 16)


def _q5_1(blocks: np.ndarray) -> np.ndarray:
    q = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return _half(blocks, 0) * q + _half(blocks, 2)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8)


def _fields(packed: np.ndarray, bits: int) -> np.ndarray:
    """The fields of `bits` bits in each byte, lowest first: (blocks, n, m) becomes (blocks, n, 8/bits, m)."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return (packed[:, :, None, :] >> shifts) & (2**bits - 1)


def _q2_k(blocks: np.ndarray) -> np.ndarray:
    # 16 sub-blocks of 16 weights: w = d · scale · q − dmin · minimum, both of 4 bits.
    scales = blocks[:, :16]
    q = _fields(blocks[:, 16:80].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    d = _half(blocks, 80) * (scales & 15)
    minimum = _half(blocks, 82) * (scales >> 4)
    return (d[..., None] * q - minimum[..., None]).reshape(-1, 256)


def _q3_k(blocks: np.ndarray) -> np.ndarray:
    # q has two low bits in `low`; where the bit in `high` is not set, 4 is taken off.
    high = np.unpackbits(blocks[:, None, :32], axis=1, bitorder="little").reshape(-1, 16, 16)
    low = _fields(blocks[:, 32:96].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    packed = blocks[:, 96:108]
    lower = _nibbles(packed[:, :8])
    upper = _fields(packed[:, None, 8:], 2).reshape(-1, 16)
    scales = (lower | (upper << 4)).astype(np.float32) - 32
    q = low.astype(np.float32) - 4 + 4 * high
    return ((_half(blocks, 108) * scales)[..., None] * q).reshape(-1, 256)


def _six_bit_scales(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales and minima of 8 sub-blocks from 12 bytes.

    The first four of each are the low 6 bits of a byte; of the others the low 4 bits are in the
    last four bytes and the high 2 bits above the first four.
    """
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=1)
    minima = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=1)
    return scales, minima


def _scaled_with_minima(blocks: np.ndarray, q: np.ndarray) -> np.ndarray:
    scales, minima = _six_bit_scales(blocks[:, 4:16])
    d, minimum = _half(blocks, 0) * scales, _half(blocks, 2) * minima
    return (d[..., None] * q - minimum[..., None]).reshape(-1, 256)


def _q4_k(blocks: np.ndarray) -> np.ndarray:
    q = _fields(blocks[:, 16:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32)
    return _scaled_with_minima(blocks, q)


def _q5_k(blocks: np.ndarray) -> np.ndarray:
    q = _fields(blocks[:, 48:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32)
    fifth = np.unpackbits(blocks[:, None, 16:48], axis=1, bitorder="little")
    return _scaled_with_minima(blocks, q | (fifth << 4))


def _q6_k(blocks: np.ndarray) -> np.ndarray:
    # Two halves of 128 weights: four bits of each in `low`, two in `high`.
    low = _fields(blocks[:, :128].reshape(-1, 2, 64), 4).reshape(-1, 2, 4, 32)
    high = _fields(blocks[:, 128:192].reshape(-1, 2, 32), 2)
    q = (low | (high << 4)).astype(np.float32) - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return (scales[..., None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


FORMATS: dict[int, BlockFormat] = {
    0: BlockFormat("F32", 1, 4, _plain("<f4")),
    1: BlockFormat("F16", 1, 2, _plain("<f2")),
    2: BlockFormat("Q4_0", 32, 18, _q4_0),
    3: BlockFormat("Q4_1", 32, 20, _q4_1),
    6: BlockFormat("Q5_0", 32, 22, _q5_0),
    7: BlockFormat("Q5_1", 32, 24, _q5_1),
    8: BlockFormat("Q8_0", 32, 34, _q8_0),
    10: BlockFormat("Q2_K", 256, 84, _q2_k),
    11: BlockFormat("Q3_K", 256, 110, _q3_k),
    12: BlockFormat("Q4_K", 256, 144, _q4_k),
    13: BlockFormat("Q5_K", 256, 176, _q5_k),
    14: BlockFormat("Q6_K", 256, 210, _q6_k),
    24: BlockFormat("I8", 1, 1, _plain("<i1")),
    25: BlockFormat("I16", 1, 2, _plain("<i2")),
    26: BlockFormat("I32", 1, 4, _plain("<i4")),
    27: BlockFormat("I64", 1, 8, _plain("<i8")),
    28: BlockFormat("F64", 1, 8, _plain("<f8")),
    30: BlockFormat("BF16", 1, 2, _bfloat16),
}
"""By the number that stands for the type in a file (`enum ggml_type`)."""
