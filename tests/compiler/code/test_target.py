"""Targets and the loading of machine code."""

import ctypes

import numpy as np
import pytest

from chainrule.compiler.code.ir import F32, F64, PTR, Module
from chainrule.compiler.code.target import can_run, host, load, object_code, target


def cosine():
    module = Module()
    f = module.function("cosine", [PTR])
    f.store(f.call("cos", F64, f.load(F64, f.arguments[0])), f.arguments[0])
    f.ret()
    return object_code(module, host())


def test_functions_of_the_process_are_found():
    x = np.array([1.0])
    library = load(cosine(), ["cosine"])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library["cosine"])(x.ctypes.data)
    assert x[0] == pytest.approx(np.cos(1.0))


@pytest.mark.parametrize("damage", [lambda c: b"junk" * 99, lambda c: c[:500], lambda c: b""])
def test_a_damaged_object_is_refused(damage):
    with pytest.raises(RuntimeError):
        load(damage(cosine()), ["cosine"])


def test_a_missing_function_is_refused():
    with pytest.raises(RuntimeError, match="sine_of_another"):
        load(cosine(), ["sine_of_another"])


def test_targets_describe_registers_and_have_keys_of_their_own():
    made = [target(name) for name in ("avx512", "avx2", "generic", "neon")]
    assert [t.lanes(F32) for t in made] == [16, 8, 4, 4]
    assert len({t.key for t in made}) == 4
    assert not can_run(target("neon"))


def test_an_unknown_target_is_named_with_the_choice():
    with pytest.raises(ValueError, match=r"avx9.*generic"):
        target("avx9")


def test_the_environment_chooses_the_target(monkeypatch):
    monkeypatch.setenv("CHAINRULE_TARGET", "generic")
    host.cache_clear()
    try:
        assert host().name == "generic"
    finally:
        host.cache_clear()
