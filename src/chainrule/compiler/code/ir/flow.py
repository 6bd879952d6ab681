"""Structured control flow: what changes from turn to turn stays in registers, through phi nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .memory import MemoryAccess
from .types import I64, Type
from .values import Operand, Value


class Loop:
    """A loop under construction: `index`, the `carried` values of this turn, and, after it, `results`."""

    __slots__ = ("_next", "carried", "index", "results")

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried
        self.results: list[Value] = carried
        self._next: list[Value] | None = None

    def carry(self, *values: Value) -> None:
        """States the carried values of the next turn; once in the body, with as many as were carried."""
        if len(values) != len(self.carried):
            raise ValueError(f"the loop carries {len(self.carried)} values, the body hands on {len(values)}")
        self._next = list(values)


class ControlFlow(MemoryAccess):
    """Blocks, and the loops and branches made of them."""

    def label(self, hint: str = "b") -> str:
        self._names += 1
        return f"{hint}{self._names}"

    def start_block(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label

    def jump(self, label: str) -> None:
        self.emit_void(f"br label %{label}")

    def branch(self, condition: Value, then: str, otherwise: str) -> None:
        self.emit_void(f"br {condition}, label %{then}, label %{otherwise}")

    def phi(self, type: Type, incoming: Sequence[tuple[Value, str]]) -> Value:
        listed = ", ".join(f"[ {value.text}, %{block} ]" for value, block in incoming)
        return self.emit(type, f"phi {type.text} {listed}")

    @contextmanager
    def loop(self, start: Operand, stop: Operand, step: Operand = 1, carry: Sequence[Value] = ()) -> Iterator[Loop]:
        """for index in range(start, stop, step), upwards; `carry` are values that change from turn to turn.

        with f.loop(0, n, carry=[total]) as loop:
            loop.carry(loop.carried[0] + f.load(F32, x, loop.index))
        total, = loop.results
        """
        first, last, by = self.as_type(I64, start), self.as_type(I64, stop), self.as_type(I64, step)
        body, done = self.label("loop"), self.label("done")
        before = self._block
        known = first.constant is not None and last.constant is not None
        runs = known and int(first.constant or 0) < int(last.constant or 0)
        guarded = not runs
        if guarded:
            self.branch(self.compare("lt", first, last), body, done)
        else:
            self.jump(body)
        self.start_block(body)
        heads = [self._reserve(I64), *(self._reserve(v.type) for v in carry)]
        places = [len(self._lines) - len(heads) + i for i in range(len(heads))]
        made = Loop(heads[0], heads[1:])
        yield made
        following = made._next if made._next is not None else list(made.carried)
        advanced = heads[0] + by
        latch = self._block
        for place, head, begin, later in zip(places, heads, [first, *carry], [advanced, *following], strict=True):
            self._lines[place] = (
                f"  {head.text} = phi {head.type.text} [ {begin.text}, %{before} ], [ {later.text}, %{latch} ]"
            )
        self.branch(self.compare("lt", advanced, last), body, done)
        self.start_block(done)
        made.results = following
        if guarded:
            made.results = [
                self.phi(begin.type, [(begin, before), (later, latch)])
                for begin, later in zip(carry, following, strict=True)
            ]

    def _reserve(self, type: Type) -> Value:
        """A name whose instruction is written later."""
        name = f"%v{self._names}"
        self._names += 1
        self._lines.append("")
        return Value(self, type, name)

    @contextmanager
    def repeat(self) -> Iterator[Callable[[Value], None]]:
        """Runs the body again and again; it leaves where it calls what it is given with a condition that holds."""
        body, done = self.label("again"), self.label("done")

        def leave_if(condition: Value) -> None:
            following = self.label("on")
            self.branch(condition, done, following)
            self.start_block(following)

        self.jump(body)
        self.start_block(body)
        yield leave_if
        self.jump(body)
        self.start_block(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Runs the body if the condition holds."""
        then, done = self.label("then"), self.label("done")
        self.branch(condition, then, done)
        self.start_block(then)
        yield
        self.jump(done)
        self.start_block(done)

    def either(self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Runs one of two bodies."""

        def empty(body: Callable[[], None]) -> Callable[[], Sequence[Value]]:
            def run() -> Sequence[Value]:
                body()
                return ()

            return run

        self.cond(condition, empty(then), empty(otherwise))

    def cond(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """Runs one of two bodies and returns the values it hands out."""
        yes, no, done = self.label("then"), self.label("else"), self.label("done")
        self.branch(condition, yes, no)
        ends = []
        for label, body in ((yes, then), (no, otherwise)):
            self.start_block(label)
            values = list(body())
            ends.append((values, self._block))
            self.jump(done)
        self.start_block(done)
        (left, left_block), (right, right_block) = ends
        return [self.phi(a.type, [(a, left_block), (b, right_block)]) for a, b in zip(left, right, strict=True)]
