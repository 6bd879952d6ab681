"""The way from Python into a program, in generated code: what a call checks, its arguments' addresses, the run.

`enter(self, args, nargs)` is the body of a built-in function (`METH_FASTCALL`) whose `self` is an array of 64-bit
words, the plan of one executable (`runtime/entry.py`). It does what a call from Python would spend most of a
small step with: it sees that words in memory (which array a Variable holds, how many refer to it) are what
they were, that the arguments have the form that the program was made for, and runs it. It returns 0 if
something is different and nothing has been done, 1 when the program has run, 2 if an index was out of range.
"""

from __future__ import annotations

from .ir import I8, I32, I64, PTR, VOID, Module, Value

ENTER = "chainrule_enter"

# Words of a plan.
ARMED, CHECKS, CHECK, ARGUMENTS, ARGUMENT, RESULTS, RESULT, TABLE, FUNCTION, THREADS, RUN, RELEASES, FLAG = range(13)
TENSOR, ARRAY, NONE, FALSE, VALUE, NODE, REQUIRES_GRAD = range(13, 20)  # types, objects, places in objects
WORDS = 20

# Words of what is known of an argument.
KIND, OBJECT, AXES, SHAPE, DTYPE, SLOT, HELD = range(7)
ARGUMENT_WORDS = 7
IS_TENSOR, IS_ARRAY, IS_OBJECT = range(3)

# NumPy's arrays, whose layout is part of its binary interface: address, axes, shape, data type, flags. In a data
# type: a word of kind, byte order and number, since there are several objects for one type.
DATA, NDIM, DIMENSIONS, DTYPE_OF, FLAGS = 16, 24, 32, 56, 64
KIND_OF_DTYPE = 24
_C_CONTIGUOUS = 1
_TYPE = 8  # from an object to its type

IMPORTS = ("PyLong_FromLong", "PyEval_SaveThread", "PyEval_RestoreThread", "Py_IncRef", "Py_DecRef")
"""Functions of Python that the code calls."""


def entry_module() -> Module:
    """The function `enter` as a module."""
    module = Module()
    f = module.function(ENTER, [PTR, PTR, I64], PTR)
    self, given, count = f.arguments
    plan = f.load(PTR, f.offset(self, DATA))
    no = f.label("no")

    def word(index: int) -> Value:
        return f.load(I64, plan, index)

    def require(condition: Value) -> None:
        on = f.label("on")
        f.branch(condition, on, no)
        f.start_block(on)

    require(f.compare("ne", word(ARMED), 0))
    arguments, results = word(ARGUMENTS), word(RESULTS)
    require(f.equal(count, arguments + results))
    checks = f.load(PTR, plan, CHECK)
    with f.loop(0, word(CHECKS), carry=[f.index(0)]) as loop:
        pair = f.element(checks, loop.index * 2, I64)
        found = f.load(I64, f.load(PTR, pair))
        loop.carry(loop.carried[0] | (found ^ f.load(I64, pair, 1)))
    require(f.equal(loop.results[0], 0))
    known = f.load(PTR, plan, ARGUMENT)
    table = f.load(PTR, plan, TABLE)
    with f.loop(0, arguments) as loop:
        spec = f.element(known, loop.index * ARGUMENT_WORDS, I64)
        item = f.load(I64, given, loop.index)
        kind = f.load(I64, spec, KIND)
        tensor, array, same, whole, done = (f.label(n) for n in ("tensor", "array", "same", "whole", "done"))
        value = f.alloca(8)
        f.store(item, value)
        f.store(f.index(0), spec, HELD)
        f.branch(f.equal(kind, IS_OBJECT), same, whole)
        f.start_block(same)
        f.branch(f.equal(item, f.load(I64, spec, OBJECT)), done, no)
        f.start_block(whole)
        pointer = f.load(PTR, given, loop.index)
        f.branch(f.equal(kind, IS_TENSOR), tensor, array)
        f.start_block(tensor)
        require(f.equal(f.load(I64, f.offset(pointer, _TYPE)), word(TENSOR)))
        held = f.load(I64, f.offset(pointer, word(VALUE)))
        node = f.load(PTR, f.offset(pointer, word(NODE)))
        require(f.compare("ne", held, 0))
        require(f.compare("ne", f.cast("ptrtoint", node, I64), 0))
        f.store(held, value)
        unrecorded = f.label("unrecorded")
        f.branch(f.equal(f.cast("ptrtoint", node, I64), word(NONE)), array, unrecorded)
        f.start_block(unrecorded)
        f.branch(f.equal(f.load(I64, f.offset(node, word(REQUIRES_GRAD))), word(FALSE)), array, no)
        f.start_block(array)
        found_array = f.load(PTR, value)
        require(f.equal(f.load(I64, f.offset(found_array, _TYPE)), word(ARRAY)))
        axes = f.load(I64, spec, AXES)
        require(f.equal(f.convert(f.load(I32, f.offset(found_array, NDIM)), I64), axes))
        dtype = f.load(PTR, f.offset(found_array, DTYPE_OF))
        require(f.equal(f.load(I64, f.offset(dtype, KIND_OF_DTYPE)), f.load(I64, spec, DTYPE)))
        require(f.compare("ne", f.load(I32, f.offset(found_array, FLAGS)) & _C_CONTIGUOUS, 0))
        lengths, shape = f.load(PTR, f.offset(found_array, DIMENSIONS)), f.load(PTR, spec, SHAPE)
        with f.loop(0, axes, carry=[f.index(0)]) as inner:
            differs = f.load(I64, lengths, inner.index) ^ f.load(I64, shape, inner.index)
            inner.carry(inner.carried[0] | differs)
        require(f.equal(inner.results[0], 0))
        slot = f.load(I64, spec, SLOT)
        with f.when(slot >= 0):
            f.store(f.load(I64, f.offset(found_array, DATA)), table, slot)
            f.store(f.load(I64, value), spec, HELD)
        f.jump(done)
        f.start_block(done)
    slots = f.load(PTR, plan, RESULT)
    with f.loop(0, results) as loop:
        made = f.load(PTR, given, loop.index + arguments)
        f.store(f.load(I64, f.offset(made, DATA)), table, f.load(I64, slots, loop.index))
    _run(module, plan, table, known, arguments)
    flag = f.load(I8, f.load(PTR, plan, FLAG))
    failed = f.convert(f.compare("ne", flag, 0), I64, signed=False)
    f.ret(f.call("PyLong_FromLong", PTR, failed + 1))
    f.start_block(no)
    f.ret(f.call("PyLong_FromLong", PTR, f.index(0)))
    return module


def _run(module: Module, plan: Value, table: Value, known: Value, arguments: Value) -> None:
    """The program: a short one at once, a longer one while other Python threads run."""
    f = module.functions[ENTER]
    function, threads = f.load(PTR, plan, FUNCTION), f.load(I64, plan, THREADS)

    def each(do: str) -> None:
        # While others run, a tensor among the arguments may get another value.
        with f.loop(0, arguments) as loop:
            f.call(do, VOID, f.load(PTR, known, loop.index * ARGUMENT_WORDS + HELD))

    def alone() -> None:
        f.call_pointer(function, VOID, table, f.index(0), f.index(1))

    def together() -> None:
        f.call_pointer(f.load(PTR, plan, RUN), VOID, function, table, threads)

    def released() -> None:
        each("Py_IncRef")
        state = f.call("PyEval_SaveThread", PTR)
        f.either(threads > 1, together, alone)
        f.call("PyEval_RestoreThread", VOID, state)
        each("Py_DecRef")

    f.either(f.compare("ne", f.load(I64, plan, RELEASES), 0), released, alone)
