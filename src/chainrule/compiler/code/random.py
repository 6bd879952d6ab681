"""Random bits in native code: Philox4x64-10 (Salmon et al. 2011), the same words as the primitive's."""

from __future__ import annotations

import math

from ..schedule.kernels import RandomKernel
from .ir import I32, I64, PTR, Function, Module, Type, Value

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


def emit_random_bits(module: Module, name: str, kernel: RandomKernel) -> Function:
    """The function `name(state, result, thread, threads)`: one block of the generator gives eight words."""
    count = math.prod(kernel.op.output.shape)
    f = module.function(name, [PTR] * 2 + [I64, I64], internal=True)
    state, result, thread, threads = f.arguments
    key, counter = f.load(I64, state, 0), f.load(I64, state, 1)
    whole = count // 8
    start, stop = thread * whole // threads, (thread + 1) * whole // threads
    keys = [(key + _wrapped(i * _WEYL[0]), f.index(_wrapped(i * _WEYL[1]))) for i in range(_ROUNDS)]
    with f.loop(start, stop) as loop:
        for i, word in enumerate(_block(f, keys, counter + 1 + loop.index)):
            f.store(word, result, loop.index * 4 + i, align=4)
    if count % 8:
        with f.when(f.equal(thread, 0)):
            for i, word in enumerate(_block(f, keys, counter + 1 + whole)):
                if count % 8 > 2 * i + 1:
                    f.store(word, result, whole * 4 + i, align=4)
                elif count % 8 == 2 * i + 1:
                    f.store(f.cast("trunc", word, I32), result, whole * 8 + 2 * i)
    f.ret()
    return f


def _wrapped(number: int) -> int:
    """A 64-bit number as LLVM writes it, signed."""
    number %= 2**64
    return number - 2**64 if number >= 2**63 else number


def _block(f: Function, keys: list[tuple[Value, Value]], counter: Value) -> list[Value]:
    x: list[Value] = [counter, f.index(0), f.index(0), f.index(0)]
    for low_key, high_key in keys:
        high0, low0 = _product(f, x[0], _MULTIPLIERS[0])
        high1, low1 = _product(f, x[2], _MULTIPLIERS[1])
        x = [high1 ^ x[1] ^ low_key, low1, high0 ^ x[3] ^ high_key, low0]
    return x


def _product(f: Function, a: Value, b: int) -> tuple[Value, Value]:
    """The high and the low half of the product of two unsigned 64-bit numbers."""
    wide = f.cast("zext", a, _I128) * f.cast("zext", f.index(_wrapped(b)), _I128)
    return f.cast("trunc", wide >> 64, I64), f.cast("trunc", wide, I64)


_I128 = Type("i128", 128)
