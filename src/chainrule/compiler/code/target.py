"""What the code is generated for: vector width, registers, caches; and LLVM's work for it.

`host()` describes this machine, `target("avx2")`, `target("generic")` less capable ones that this machine can
still run, `target("neon")` another architecture, for which code can be made but not run. Code
generators read widths and register counts from a `Target` and from nowhere else.
"""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from .ir import Module, Type


@dataclass(frozen=True)
class Target:
    """A CPU as the code generators see it.

    Attributes:
        name: for reports and cache keys, e.g. `avx512`.
        triple, cpu, features: LLVM's description.
        vector_bytes: size of a vector register.
        registers: number of vector registers.
        fma: whether a·b + c is one instruction.
        masks: whether masked loads and stores are instructions.
        l1, l2, l3: bytes of data cache of one core (l3: of all cores together).
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool
    masks: bool
    l1: int = 32 << 10
    l2: int = 512 << 10
    l3: int = 8 << 20

    def lanes(self, type: Type) -> int:
        """How many scalars of a type a vector register holds."""
        return self.vector_bytes // type.nbytes

    @property
    def x86(self) -> bool:
        return self.triple.startswith(("x86_64", "i686", "amd64"))

    @property
    def key(self) -> str:
        """Distinguishes the machine code made for this target from that for another."""
        versions = ".".join(str(v) for v in llvm.llvm_version_info)
        return "|".join((self.triple, self.cpu, self.features, str(self.vector_bytes), versions))


@cache
def host() -> Target:
    """This machine, or what the environment variable CHAINRULE_TARGET names."""
    name = os.environ.get("CHAINRULE_TARGET", "")
    return target(name) if name else _native()


def target(name: str) -> Target:
    """A target by name: native, avx512, avx2, generic (no more than the architecture promises), or neon.

    Raises:
        ValueError: no such target, or one that this machine's architecture does not have.
    """
    if name == "native":
        return _native()
    if name == "generic":
        triple, cpu = llvm.get_process_triple(), "x86-64" if _is_x86() else "generic"
        return Target("generic", triple, cpu, "", 16, 16 if _is_x86() else 32, not _is_x86(), False, *_caches())
    if name == "neon":
        triple = "aarch64-unknown-linux-gnu" if _is_x86() else llvm.get_process_triple()
        return Target("neon", triple, "generic", "+neon", 16, 32, True, False, *_caches())
    if name in ("avx2", "avx512"):
        if not _is_x86():
            raise ValueError(f"target {name}: this machine is {platform.machine()}")
        wide = name == "avx512"
        cpu = "skylake-avx512" if wide else "haswell"
        return Target(
            name, llvm.get_process_triple(), cpu, "", 64 if wide else 32, 32 if wide else 16, True, True, *_caches()
        )
    raise ValueError(f"no target is called {name!r}; choose native, avx512, avx2, generic or neon")


def can_run(wanted: Target) -> bool:
    """Whether this machine executes the target's code."""
    if wanted.x86 != _is_x86():
        return False
    available = _host_features()
    needed = {"avx512": ("avx512f", "avx512vl", "avx512dq", "avx512bw"), "avx2": ("avx2", "fma")}
    return all(available.get(feature, False) for feature in needed.get(wanted.name, ()))


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


@cache
def _host_features() -> dict[str, bool]:
    return dict(llvm.get_host_cpu_features())


@cache
def _native() -> Target:
    features = _host_features()
    triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
    flat = ",".join(("+" if on else "-") + name for name, on in sorted(features.items()))
    if not _is_x86():
        return Target("neon", triple, cpu, flat, 16, 32, True, False, *_caches())
    if all(features.get(f, False) for f in ("avx512f", "avx512vl", "avx512dq", "avx512bw")):
        return Target("avx512", triple, cpu, flat, 64, 32, True, True, *_caches())
    if features.get("avx2", False) and features.get("fma", False):
        return Target("avx2", triple, cpu, flat, 32, 16, True, True, *_caches())
    return Target("generic", triple, cpu, flat, 16, 16, False, False, *_caches())


@cache
def _caches() -> tuple[int, int, int]:
    """Bytes of L1 data, L2 and L3 cache where the system says so (Linux), else common sizes."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    units = {"K": 1 << 10, "M": 1 << 20}
    for entry in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, size = ((entry / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                sizes[int(level)] = int(size[:-1]) * units[size[-1]]
        except (OSError, ValueError, KeyError):
            continue
    return sizes[1], sizes[2], sizes[3]


@cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@cache
def _machine(wanted: Target) -> Any:
    _initialise()
    found = llvm.Target.from_triple(wanted.triple)
    return found.create_target_machine(
        cpu=wanted.cpu, features=wanted.features, opt=3, reloc="pic", codemodel="default", jit=False
    )


def _optimised(module: Module | str, wanted: Target) -> Any:
    """The parsed module after the passes that pay for code like ours.

    The generators write vectors, unroll, hoist and share subexpressions themselves; what is left for LLVM is
    folding address arithmetic. Its standard pipeline of level 1 made the code of a transformer's training step
    no faster and took ten times as long; value numbering (NewGVN, which LLVM itself does not use by default)
    gained 1 to 4 percent.
    """
    machine = _machine(wanted)
    parsed = llvm.parse_assembly(str(module))
    parsed.triple = wanted.triple
    parsed.data_layout = str(machine.target_data)
    parsed.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_module_pass_manager()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(parsed, builder)
    return parsed


def assembly(module: Module | str, wanted: Target) -> str:
    """The machine code of a module as text."""
    return str(_machine(wanted).emit_assembly(_optimised(module, wanted)))


def object_code(module: Module | str, wanted: Target) -> bytes:
    """The machine code of a module as an object file, for `load` now or from a cache later."""
    return bytes(_machine(wanted).emit_object(_optimised(module, wanted)))


class Library:
    """Machine code in memory. The addresses hold as long as this object lives."""

    def __init__(self, tracker: Any, names: Iterable[str]) -> None:
        self._tracker = tracker
        self.addresses: dict[str, int] = {name: tracker[name] for name in names}

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]


_serial = itertools.count()


@cache
def _jit() -> Any:
    _initialise()
    return llvm.create_lljit_compiler(_machine(_native()))


def load(code: bytes, names: Iterable[str], imports: Mapping[str, int] | None = None) -> Library:
    """Places an object file in memory and finds the functions of the given names.

    Functions that it calls and does not hold are those of `imports` (name: address), or the process's.

    Raises:
        RuntimeError: the object is damaged, or a name is missing.
    """
    names = list(names)
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in names:
        builder.export_symbol(name)
    for name, address in (imports or {}).items():
        builder.import_symbol(name, address)
    return Library(builder.link(_jit(), f"chainrule{next(_serial)}"), names)
