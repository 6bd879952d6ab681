"""What a primitive is, the table of all of them, and the one place where operations are dispatched.

A `Primitive` states in one block its value (NumPy), its shape rule, its derivative and
its notation. Calling it is the only way to compute anything in chainrule: on arrays it
computes at once, and on the values of a transformation (dual numbers, batches, traces) it
hands over to that transformation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import source
from .dtypes import is_differentiable
from .errors import OperationError, operation_error
from .node import Constant, Interpreted, Node, ShapeDtype, cut_off, is_cut, is_missing, materialise, mode
from .tensor import Tensor, new_tensor, operand

_ndarray = np.ndarray
_create = object.__new__

table: dict[str, Primitive] = {}
"""Every primitive by name, in order of definition."""


class Primitive:
    """One operation with everything that is known about it.

    Attributes:
        name: its name, unique in `table`.
        value: `value(*arrays, **params)`, the NumPy computation.
        abstract: `abstract(*specs, **params)`, shape and dtype of the result without
            computing it; raises `ShapeError` or `DTypeError` for operands that do not fit.
        vjps: per input, `vjp(g, y, *inputs, **params)`: the cotangent of that input, given
            the cotangent g of the output y, written in primitives; None where there is no
            derivative. One function instead of a tuple serves any number of inputs and
            takes the input's position first. An argument whose name begins with an
            underscore is not read (its shape may be): the forward pass does not keep it.
        jvp: `jvp(tangents, y, *inputs, **params)`: the tangent of the output; a tangent of
            None is zero.
        batch: `batch(size, batched, inputs, params)`: the result for inputs that carry a
            leading batch axis where `batched` says so; None to run sample by sample.
        partials: for a pointwise primitive the partial derivatives, one per input.
        latex, text: notation, as format strings over the operand names x, y, z (or a, b, …), or functions
            of the static parameters that return one.
        example: specs of the inputs and params of a smallest typical call, for the
            documentation and the tests.
    """

    __slots__ = (
        "_plans", "_uses", "abstract", "batch", "differentiable", "doc", "domain", "example", "jvp",
        "latex", "name", "outputs", "partials", "precedence", "text", "value", "vjps",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        value: Callable[..., Any],
        *,
        abstract: Callable[..., Any],
        vjps: Sequence[Callable[..., Any] | None] | Callable[..., Any] | None = None,
        jvp: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        partials: Sequence[Any] | None = None,
        latex: str | Callable[..., str] | None = None,
        text: str | Callable[..., str] | None = None,
        precedence: int = 4,
        example: tuple[Sequence[Any], dict[str, Any]] | None = None,
        domain: tuple[float, float] = (-3.0, 3.0),
        outputs: int = 1,
        doc: str = "",
        registered: bool = True,
    ) -> None:
        if registered and name in table:
            raise ValueError(f"primitive {name!r} is defined twice")
        self.name = name
        self.value = value
        self.abstract = abstract
        self.vjps = tuple(vjps) if isinstance(vjps, Sequence) else vjps
        self.jvp = jvp
        self.batch = batch
        self.partials = partials
        self.latex = latex
        self.text = text
        self.precedence = precedence
        self.example = example
        self.domain = domain
        self.outputs = outputs
        self.doc = doc
        self.differentiable = vjps is not None
        self._uses = _read_arguments(self.vjps)
        self._plans: dict[int, tuple[bool, tuple[int, ...]]] = {}
        if registered:
            table[name] = self

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """Apply the primitive: the one dispatch point of the library."""
        values = []
        recorded = False
        cut = None
        try:
            for tensor in inputs:
                value = tensor._value
                if type(value) is not _ndarray:
                    return _interpret(self, inputs, params)
                values.append(value)
                node = tensor._node
                if node is not None:
                    if node.requires_grad:
                        recorded = True
                    else:
                        cut = node
        except AttributeError:
            return self(*_operands(self, inputs), **params)
        try:
            # A call with empty keywords takes Python a slower way than one without.
            result = self.value(*values, **params) if params else self.value(*values)
        except Exception as error:
            raise self._failure(error, inputs, params) from error
        if type(result) is not _ndarray:
            if type(result) is tuple:
                return _several(self, inputs, params, result, recorded)
            result = np.asarray(result)
        node = None
        if recorded and self.differentiable:
            if mode.grad:
                node = record(self, inputs, params, result)
            elif mode.notes_cuts:
                node = Node(self, (), params, result, False, mode.place or source.capture(2))
        elif cut is not None and (mode.grad or mode.notes_cuts) and is_cut(cut):
            node = cut_off(result, cut)
        tensor = _create(Tensor)  # `new_tensor`, without the call
        tensor._value = result
        tensor._node = node
        return tensor

    def evaluate(self, values: Sequence[Any], params: dict[str, Any]) -> Any:
        """The array (or tuple of arrays) for arrays, outside of any graph."""
        result = self.value(*values, **params)
        if type(result) is tuple:
            return tuple(np.asarray(r) for r in result)
        return np.asarray(result)

    def vjp(self, position: int, g: Any, y: Any, inputs: Sequence[Tensor], params: dict[str, Any]) -> Any:
        """The cotangent of input `position`, or None where the derivative is zero."""
        rules = self.vjps
        if type(rules) is tuple:
            rule = rules[position]
            if rule is None:
                return None
            return rule(g, y, *inputs, **params) if params else rule(g, y, *inputs)
        assert callable(rules)
        return rules(position, g, y, *inputs, **params)

    def _plan(self, flowing: int, count: int) -> tuple[bool, tuple[int, ...]]:
        """What the vjps of the inputs in the bit set `flowing` read: the output? which inputs?"""
        keeps_output = False
        needed: set[int] = set()
        for position in range(count):
            if flowing >> position & 1:
                keeps, reads = self._uses[position] if type(self.vjps) is tuple else self._uses
                keeps_output = keeps_output or keeps
                needed.update(range(count) if reads is True else reads)
        plan = keeps_output, tuple(sorted(needed))
        # Operators of any number of inputs (concat) would fill the table without end.
        if type(self.vjps) is tuple:
            self._plans[flowing] = plan
        return plan

    def _failure(self, error: BaseException, inputs: Sequence[Any], params: dict[str, Any]) -> BaseException:
        # The shape rule words its complaint for the reader; NumPy's message is the fallback.
        try:
            self.abstract(*(ShapeDtype(t.shape, t.dtype) for t in inputs), **params)
        except Exception as clearer:
            error = clearer
        try:
            return operation_error(error, self.name, inputs, params)
        finally:
            # Tracebacks lead back to this frame: holding the error would keep the operands alive in a cycle.
            del error


def record(primitive: Primitive, inputs: Sequence[Tensor], params: dict[str, Any], value: Any) -> Node | None:
    """The node of a value just computed, keeping those operands that a derivative will read."""
    if type(value) is _ndarray:
        if value.dtype.kind not in "fc":
            return None
    elif not _can_flow(value):
        return None
    nodes: list[Any] = []
    flowing = 0
    bit = 1
    for tensor in inputs:
        node: Any = tensor._node
        if node is None:
            node = Constant(tensor._value)
        elif node.requires_grad:
            flowing |= bit
        nodes.append(node)
        bit += bit
    plan = primitive._plans.get(flowing)
    if plan is None:
        plan = primitive._plan(flowing, len(nodes))
    keeps_output, reads = plan
    for index in reads:
        if type(nodes[index].value) is ShapeDtype:
            nodes[index].value = inputs[index]._value
    if not keeps_output and type(value) is _ndarray:
        value = ShapeDtype(value.shape, value.dtype)
    return Node(primitive, tuple(nodes), params, value, True, mode.place or source.capture(3))


def _can_flow(value: Any) -> bool:
    return (value[0].dtype if type(value) is tuple else value.dtype).kind in "fc"


def _read_arguments(rules: Any) -> Any:
    # Per input: (whether its vjp reads the output, which inputs it reads). By convention an
    # argument whose name begins with an underscore is not read.
    if rules is None:
        return ()
    if type(rules) is tuple:
        return tuple((False, ()) if rule is None else _reads(rule, 0, len(rules)) for rule in rules)
    return _reads(rules, 1, 0)


def _reads(rule: Callable[..., Any], skipped: int, arity: int) -> tuple[bool, Any]:
    reads = getattr(rule, "reads", None)
    if reads is not None:
        return reads
    code = rule.__code__
    names = code.co_varnames[skipped + 1 : code.co_argcount]
    keeps_output = not names[0].startswith("_")
    if code.co_flags & 0x04:  # *inputs
        star = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        return keeps_output, () if star.startswith("_") else True
    # Static parameters follow the inputs; they are no values.
    return keeps_output, tuple(i for i, n in enumerate(names[1 : 1 + arity]) if not n.startswith("_"))


def _operands(primitive: Primitive, inputs: Sequence[Any]) -> list[Tensor]:
    # Python scalars and NumPy arrays among the operands, as the rules in the table write them.
    like = [i.dtype for i in inputs if hasattr(i, "dtype")]
    dtype = np.result_type(*like) if like else None
    operands = []
    for given in inputs:
        tensor = given if isinstance(given, Tensor) else operand(given, dtype)
        if tensor is NotImplemented:
            raise operation_error(
                TypeError(f"expected tensors or numbers, got {type(given).__name__}"),
                primitive.name, inputs, {},
            )  # fmt: skip
        operands.append(tensor)
    return operands


def _interpret(primitive: Primitive, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
    """The slow way: some operand is no plain array."""
    inputs = tuple(_operands(primitive, inputs))
    top: Interpreted | None = None
    tensors = []
    for tensor in inputs:
        value = tensor._value
        if is_missing(value) and tensor._node is not None:
            tensor = new_tensor(materialise(tensor._node), tensor._node)
            value = tensor._value
        if isinstance(value, Interpreted) and (top is None or value.level > top.level):
            top = value
        tensors.append(tensor)
    if top is None:
        return primitive(*tensors, **params)
    inputs = tuple(tensors)
    value = top.process(primitive, inputs, params)
    if isinstance(value, Tensor):
        return value
    recorded = top.always_recorded or (mode.grad and primitive.differentiable and any(t.requires_grad for t in inputs))
    if type(value) is tuple:
        return _several(primitive, inputs, params, value, recorded)
    node = None
    if top.always_recorded:
        flows = primitive.differentiable and _can_flow(value)
        nodes: tuple[Any, ...] = tuple(t._node or Constant(t._value) for t in inputs)
        requires = flows and mode.grad and any(n.requires_grad for n in nodes)
        node = Node(primitive, nodes, params, value, requires, mode.place or source.capture(3))
    elif recorded:
        node = record(primitive, inputs, params, value)
    return new_tensor(value, node)


def _several(
    primitive: Primitive, inputs: Sequence[Tensor], params: dict[str, Any], values: tuple[Any, ...], recorded: bool
) -> tuple[Tensor, ...]:
    """One tensor per output; in a graph each is the projection of one tuple-valued node."""
    # An output that a transformation leaves alone (integers have no tangent) comes as a tensor.
    kept = [v if isinstance(v, Tensor) else None for v in values]
    if all(c is not None for c in kept):
        return tuple(kept)  # type: ignore[arg-type]
    values = tuple(v._value if isinstance(v, Tensor) else v for v in values)
    values = tuple(v if isinstance(v, Interpreted) else np.asarray(v) for v in values)
    traced = any(getattr(v, "always_recorded", False) for v in values)
    if not (recorded and (traced or (primitive.differentiable and mode.grad))):
        return tuple(new_tensor(v, None) if c is None else c for c, v in zip(kept, values, strict=True))
    if traced:
        nodes: tuple[Any, ...] = tuple(t._node or Constant(t._value) for t in inputs)
        requires = primitive.differentiable and any(n.requires_grad for n in nodes)
        whole: Node | None = Node(primitive, nodes, params, values, requires, mode.place or source.capture(3))
    else:
        whole = record(primitive, inputs, params, values)
    if whole is None:
        return tuple(new_tensor(v, None) if c is None else c for c, v in zip(kept, values, strict=True))
    outputs = []
    for index, (own, value) in enumerate(zip(kept, values, strict=True)):
        if own is not None:
            outputs.append(own)
            continue
        flows = whole.requires_grad and is_differentiable(value.dtype)
        node = Node(project, (whole,), {"index": index}, value, flows, whole.place)
        outputs.append(new_tensor(value, node))
    return tuple(outputs)


def _project_abstract(whole: Any, index: int) -> Any:
    return whole[index]


def _project_vjp(_position: int, g: Any, _y: Any, *_whole: Any, index: int) -> Any:
    raise OperationError("project has no vjp of its own: backward joins the outputs' cotangents")


project = Primitive(
    "project",
    lambda *_, **__: None,
    abstract=_project_abstract,
    vjps=_project_vjp,
    text="{x}[{index}]",
    latex="{x}_{{{index}}}",
    doc="One output of a primitive that has several.",
)
project.value = lambda whole, index: whole[index]
