"""Dense work run on arrays of its own: buffers between fences, working memory for each thread."""

import ctypes

import numpy as np

from chainrule.compiler.code.dense import emit_dense, plan_of
from chainrule.compiler.code.expression import Affine
from chainrule.compiler.code.ir import I64, PTR, VOID, Module, type_of
from chainrule.compiler.code.target import load, object_code, target
from chainrule.compiler.schedule.kernels import View

_FENCE = 256  # bytes of NaN before and behind: whoever reads them spreads them, whoever writes them is found


class Buffer:
    """An array between fences, under an identity of its own."""

    def __init__(self, array):
        array = np.ascontiguousarray(array)
        self.memory = np.full(array.nbytes + 2 * _FENCE, 255, np.uint8)
        self.array = self.memory[_FENCE : _FENCE + array.nbytes].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def view(self):
        steps = tuple(s // self.array.itemsize for s in self.array.strides)
        return View(self, 0, steps, self.array.shape, self.array.dtype)

    def index(self, offset=0):
        return Affine(offset, enumerate(s // self.array.itemsize for s in self.array.strides))

    def assert_fenced(self):
        assert (self.memory[:_FENCE] == 255).all() and (self.memory[-_FENCE:] == 255).all()


def module_of(work, wanted, threads):
    plan = plan_of(work, wanted, threads)
    module, buffers = Module(), work.buffers()
    emit_dense(module, "work", plan, {b: i for i, b in enumerate(buffers)})
    f = module.function("run", [PTR, I64, I64])
    table, thread, count = f.arguments
    places = [f.element(f.load(PTR, table, i), o, type_of(b.array.dtype)) for i, (b, o) in enumerate(buffers)]
    f.call("work", VOID, *places, f.load(PTR, table, len(buffers)), thread, count)
    f.ret()
    return module, plan


def run(work, name, threads, parts=None):
    """Runs all parts of the work, one after another; `parts` may be more than the threads it was planned for."""
    module, plan = module_of(work, target(name), threads)
    library = load(object_code(module, target(name)), ["run"])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(library["run"])
    parts = parts or threads
    room = Buffer(np.full(plan.scratch * parts + 64, 255, np.uint8))
    start = -(-room.array.ctypes.data // 64) * 64
    buffers = work.buffers()
    table = (ctypes.c_uint64 * (len(buffers) + 1))(*(b.array.ctypes.data for b, _ in buffers), start)
    for part in range(parts):
        function(ctypes.addressof(table), part, parts)
    behind = room.array[start - room.array.ctypes.data + plan.scratch * parts :]
    assert (behind == 255).all()
    for buffer in (room, *(b for b, _ in buffers)):
        buffer.assert_fenced()
    return plan
