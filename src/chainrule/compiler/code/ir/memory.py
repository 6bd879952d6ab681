"""Instructions that read and write memory."""

from __future__ import annotations

from .arithmetic import Arithmetic
from .types import I1, I8, I32, I64, PTR, Type, vector
from .values import Operand, Value


class MemoryAccess(Arithmetic):
    """Loads and stores: plain, masked, scattered, atomic."""

    def element(self, pointer: Value, index: Operand, scalar: Type) -> Value:
        """The address of entry `index` of an array of scalars."""
        index = self.as_type(I64, index)
        if index.constant == 0:
            return pointer
        return self.emit(PTR, f"getelementptr {scalar.text}, {pointer}, {index}")

    def offset(self, pointer: Value, nbytes: Operand) -> Value:
        """The address so many bytes further."""
        return self.element(pointer, nbytes, I8)

    def load(self, type: Type, pointer: Value, index: Operand = 0, *, align: int = 0) -> Value:
        """A scalar, or consecutive scalars as a vector, from entry `index` on."""
        address = self.element(pointer, index, type.scalar)
        return self.emit(type, f"load {type.text}, {address}, align {align or type.nbytes}")

    def store(self, value: Value, pointer: Value, index: Operand = 0, *, align: int = 0) -> None:
        address = self.element(pointer, index, value.type.scalar)
        self.emit_void(f"store {value}, {address}, align {align or value.type.nbytes}")

    def load_masked(self, type: Type, pointer: Value, mask: Value | None, index: Operand = 0) -> Value:
        """Consecutive scalars; lanes that the mask leaves out are not read and are zero. No mask: all."""
        if mask is None:
            return self.load(type, pointer, index)
        address = self.element(pointer, index, type.scalar)
        name = f"llvm.masked.load.{type.mangled}.p0"
        return self._call_masked(name, type, address, mask, self.zero(type))

    def store_masked(self, value: Value, pointer: Value, mask: Value | None, index: Operand = 0) -> None:
        """Writes the lanes that the mask keeps. No mask: all."""
        if mask is None:
            self.store(value, pointer, index)
            return
        type = value.type
        address = self.element(pointer, index, type.scalar)
        name = f"llvm.masked.store.{type.mangled}.p0"
        self.module.declarations.setdefault(name, f"declare void @{name}({type.text}, ptr, <{type.lanes} x i1>)")
        self.emit_void(f"call void @{name}({value}, ptr align {type.nbytes} {address.text}, {mask})")

    def _call_masked(self, name: str, type: Type, address: Value, mask: Value, otherwise: Value) -> Value:
        self.module.declarations.setdefault(name, f"declare {type.text} @{name}(ptr, <{type.lanes} x i1>, {type.text})")
        text = f"call {type.text} @{name}(ptr align {type.nbytes} {address.text}, {mask}, {otherwise})"
        return self.emit(type, text)

    def mask(self, lanes: int, count: Operand) -> Value | None:
        """The first `count` of so many lanes; None if that is all of them for sure."""
        if isinstance(count, Value) and count.constant is not None:
            count = int(count.constant)
        if not isinstance(count, Value):
            if count >= lanes:
                return None
            return self.lanes(I1, [int(i < count) for i in range(lanes)])
        narrow = self.cast("trunc", self.pairwise("smin", count, lanes), I32)
        return self.compare("lt", self.lanes(I32, range(lanes)), self.broadcast(narrow, lanes))

    def _entries(self, type: Type, pointer: Value, indices: Value, mask: Value | None) -> tuple[Value, Value]:
        """The addresses of entries of an array, and the mask: all lanes where there is none."""
        pointers = self.emit(vector(PTR, type.lanes), f"getelementptr {type.element}, {pointer}, {indices}")
        return pointers, mask if mask is not None else self.constant(vector(I1, type.lanes), 1)

    def gather(self, type: Type, pointer: Value, indices: Value, mask: Value | None = None) -> Value:
        """Scalars from entries `indices` (a vector of i32 or i64) of an array; left-out lanes are zero."""
        pointers, keep = self._entries(type, pointer, indices, mask)
        name = f"llvm.masked.gather.{type.mangled}.{pointers.type.mangled}"
        self.module.declarations.setdefault(
            name, f"declare {type.text} @{name}({pointers.type.text}, {keep.type.text}, {type.text})"
        )
        listed = f"{pointers.type.text} align {type.nbytes} {pointers.text}, {keep}, {self.zero(type)}"
        return self.emit(type, f"call {type.text} @{name}({listed})")

    def scatter(self, value: Value, pointer: Value, indices: Value, mask: Value | None = None) -> None:
        """Writes the lanes that the mask keeps to entries `indices` of an array."""
        type = value.type
        pointers, keep = self._entries(type, pointer, indices, mask)
        name = f"llvm.masked.scatter.{type.mangled}.{pointers.type.mangled}"
        self.module.declarations.setdefault(
            name, f"declare void @{name}({type.text}, {pointers.type.text}, {keep.type.text})"
        )
        listed = f"{value}, {pointers.type.text} align {type.nbytes} {pointers.text}, {keep}"
        self.emit_void(f"call void @{name}({listed})")

    def alloca(self, nbytes: int, align: int = 64) -> Value:
        """Memory on the stack, for the whole function."""
        name = f"%s{len(self._entry)}"
        self._entry.append(f"  {name} = alloca [{nbytes} x i8], align {align}")
        return Value(self, PTR, name)

    def prefetch(self, pointer: Value, *, locality: int = 3) -> None:
        """Asks for a cache line; locality 3 keeps it near, 0 passes it through."""
        self.module.declarations.setdefault("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.emit_void(f"call void @llvm.prefetch.p0({pointer}, i32 0, i32 {locality}, i32 1)")

    def atomic_load(self, type: Type, pointer: Value, ordering: str = "acquire") -> Value:
        return self.emit(type, f"load atomic {type.text}, {pointer} {ordering}, align {type.nbytes}")

    def atomic_store(self, value: Value, pointer: Value, ordering: str = "release") -> None:
        self.emit_void(f"store atomic {value}, {pointer} {ordering}, align {value.type.nbytes}")

    def atomic(self, operation: str, pointer: Value, value: Value, ordering: str = "acq_rel") -> Value:
        """add, sub, xchg, and, or, max, … in one step; the value before."""
        return self.emit(value.type, f"atomicrmw {operation} {pointer}, {value} {ordering}")

    def exchange(self, pointer: Value, old: Value, new: Value) -> Value:
        """Stores `new` if `old` is found there, in one step; whether it was."""
        pair = self.emit(old.type, f"cmpxchg {pointer}, {old}, {new} acq_rel acquire")
        return self.emit(I1, f"extractvalue {{ {old.type.text}, i1 }} {pair.text}, 1")
