"""The random stream: Philox's numbers, its state as a variable, one stream for all threads."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.tensor import Tensor
from chainrule.primitives.random import random_bits
from chainrule.random import Generator, default_generator

MASK = 2**64 - 1


def philox(counter: int, key: int) -> list[int]:
    """Philox4x64-10 as Salmon et al. (2011) state it: ten rounds on a 256-bit counter."""
    words = [counter >> (64 * i) & MASK for i in range(4)]
    keys = [key & MASK, key >> 64 & MASK]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [
            second >> 64 ^ words[1] ^ keys[0], second & MASK,
            first >> 64 ^ words[3] ^ keys[1], first & MASK,
        ]  # fmt: skip
        keys = [keys[0] + 0x9E3779B97F4A7C15 & MASK, keys[1] + 0xBB67AE8584CAA73B & MASK]
    return words


def test_the_reference_gives_the_published_vectors() -> None:
    """Known answers of the authors' Random123 library."""
    assert philox(0, 0) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox(2**256 - 1, 2**128 - 1) == [
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    ]  # fmt: skip


@pytest.mark.parametrize(("key", "counter"), [(0, 0), (1, 5), (2**64 - 1, 123456789), (42, 2**63)])
def test_bits_are_philox_from_the_next_counter_on(key: int, counter: int) -> None:
    words = [w for block in range(1, 4) for w in philox(counter + block, key)]
    wanted = [half for w in words for half in (w & 0xFFFFFFFF, w >> 32)]
    got = random_bits(Tensor(np.array([key, counter], np.uint64)), shape=(20,))
    assert got.dtype == np.uint32
    assert got.tolist() == wanted[:20]


def test_a_seed_repeats_the_stream_and_draws_do_not_overlap() -> None:
    a, b = Generator(7), Generator(7)
    first = a.bits((5,)).tolist() + a.bits((3, 2)).tolist()
    assert first == b.bits((5,)).tolist() + b.bits((3, 2)).tolist()
    many = [n for _ in range(200) for n in a.bits((3,)).tolist()]
    assert len(set(many)) == len(many)
    assert Generator(8).bits((5,)).tolist() != Generator(7).bits((5,)).tolist()
    assert Generator(-1).state.tolist()[0] == 2**64 - 1


def test_the_state_is_a_variable_that_can_be_saved_and_put_back() -> None:
    cr.manual_seed(3)
    cr.rand(10)
    saved = copy.deepcopy(default_generator.state)
    wanted = cr.randn(4).tolist()
    cr.rand(100)
    default_generator.state.assign(saved)
    assert cr.randn(4).tolist() == wanted


def test_floats_are_the_stated_bits() -> None:
    state = Generator(11)
    top = state.bits((6,)).numpy()
    np.testing.assert_array_equal(cr.rand(6, generator=Generator(11)).numpy(), (top >> 8) * np.float32(2.0**-24))
    words = Generator(11).bits((6, 2)).numpy().astype(np.uint64)
    whole = (words[:, 0] | words[:, 1] << np.uint64(32)) >> np.uint64(11)
    np.testing.assert_array_equal(cr.rand(6, dtype="float64", generator=Generator(11)).numpy(), whole * 2.0**-53)


def test_distributions_have_their_moments() -> None:
    cr.manual_seed(0)
    u, z = cr.rand(200_000).numpy(), cr.randn(200_000).numpy()
    assert abs(u.mean() - 0.5) < 0.003 and abs(u.var() - 1 / 12) < 0.001
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01 and abs((z**4).mean() - 3) < 0.1
    counts = np.bincount(cr.randint(0, 10, (100_000,)).numpy(), minlength=10)
    assert counts.min() > 9_500
    assert sorted(cr.randperm(50).tolist()) == list(range(50))


def test_threads_draw_different_numbers_of_one_stream() -> None:
    cr.manual_seed(1)
    drawn: list[float] = []

    def work() -> None:
        for _ in range(300):
            drawn.extend(default_generator.bits((2,)).tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert default_generator.state.tolist() == [1, 1200]
    assert len(set(drawn)) == len(drawn)


def test_random_tensors_can_be_leaves() -> None:
    x = cr.randn(3, requires_grad=True)
    assert x.requires_grad and x.is_leaf
    assert not cr.rand(3).requires_grad
