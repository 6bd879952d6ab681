"""`Tensor`: the handle a user holds on a value and on the node that computed it.

Values never change. What changes is which value a handle points to: `x[i] = v` points x to
a new node, and an optimiser points a `Variable` to a new value. Operators and methods that
compute are installed by `chainrule.primitives` and the array functions above it, `backward` by `autodiff`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes, source
from .errors import DTypeError, GradientError, ShapeError, located
from .node import Interpreted, Node, ShapeDtype, leaf, materialise

if TYPE_CHECKING:
    from .tensor_methods import TensorMethods
else:
    TensorMethods = object  # the layers above install the methods on Tensor itself

_ndarray = np.ndarray
_create = object.__new__


class Tensor(TensorMethods):
    """An n-dimensional array that remembers how it was computed.

    Made by `chainrule.tensor`, `chainrule.asarray` and every function of the library.
    Indexing, broadcasting and data types follow NumPy and the Array API standard 2024.12;
    `backward`, `grad`, `detach` and `requires_grad` follow PyTorch.
    """

    __slots__ = ("__weakref__", "_grad", "_node", "_value")

    _value: Any
    _node: Node | None
    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        self._value = to_array(data, dtype)
        self._node = None
        if requires_grad:
            self.requires_grad_()

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return self._value.shape

    @property
    def dtype(self) -> np.dtype:
        """Data type of the elements."""
        return self._value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._value.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._value.size

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return self.size * self.dtype.itemsize

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor."""
        return self._node is not None and self._node.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing differentiable computed this tensor."""
        return self._node is None or self._node.primitive is None or not self._node.requires_grad

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` calls have added up here; None before the first."""
        return getattr(self, "_grad", None)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(located(f"grad must be a Tensor or None, got {type(value).__name__}"))
            if value.shape != self.shape:
                raise ShapeError(located(f"grad of shape {value.shape} for a tensor of shape {self.shape}"))
            if value.dtype != self.dtype:
                raise DTypeError(located(f"grad of type {value.dtype} for a tensor of type {self.dtype}"))
        self._grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Make this leaf one that `backward` computes a gradient for; returns itself.

        Raises:
            DTypeError: the tensor is neither floating nor complex.
            GradientError: it was computed from tensors that require a gradient.
        """
        if requires_grad == self.requires_grad:
            return self
        if not self.is_leaf:
            raise GradientError(located("requires_grad can be changed on leaf tensors only; use detach() for a leaf"))
        if requires_grad and not dtypes.is_differentiable(self.dtype):
            raise DTypeError(located(f"only floating and complex tensors can require a gradient, this is {self.dtype}"))
        self._node = leaf(self._value, True, owner=self) if requires_grad else None
        return self

    def __getstate__(self) -> Any:
        # A copy is a leaf of its own: it shares neither the graph nor the place of the gradient.
        if not self.is_leaf:
            raise GradientError(
                located("only leaf tensors can be copied or pickled; detach() drops the graph of an intermediate value")
            )
        attributes, slots = super().__getstate__()  # type: ignore[misc]
        kept = {name: value for name, value in slots.items() if name not in ("_node", "_graph")}
        kept["_value"] = self._array("copying")
        return attributes, kept, self.requires_grad

    def __setstate__(self, state: Any) -> None:
        attributes, slots, requires_grad = state
        for name, value in ((attributes or {}) | slots).items():
            setattr(self, name, value)
        self._node = leaf(self._value, True, owner=self) if requires_grad else None

    def retain_grad(self) -> None:
        """Let `backward` store the gradient of this intermediate tensor in `.grad`, too."""
        if not self.requires_grad:
            raise GradientError(located("retain_grad: this tensor does not require a gradient"))
        if not self.is_leaf:
            import weakref

            assert self._node is not None
            self._node._owner = weakref.ref(self)

    def detach(self) -> Tensor:
        """The same value with no history: gradients do not flow past it."""
        node = self._node
        if isinstance(self._value, Interpreted) and not self._value.always_recorded:
            return self._value.detached()
        if node is not None and node.requires_grad:
            node = Node(None, (), {"cut": "detach()"}, self._value, False, source.capture(2))
        return new_tensor(self._value, node)

    def _array(self, wanted: str) -> np.ndarray:
        value = self._value
        if type(value) is _ndarray:
            return value
        if isinstance(value, Interpreted):
            return value.concrete(wanted)
        assert self._node is not None
        return materialise(self._node)

    def numpy(self) -> np.ndarray:
        """The value as a read-only NumPy array that shares memory with the tensor."""
        view = self._array("numpy()").view()
        view.flags.writeable = False
        return view

    def item(self) -> bool | int | float | complex:
        """The one element as a Python number."""
        if self.size != 1:
            raise ShapeError(located(f"item() needs one element, this tensor has shape {self.shape}"))
        return self._array("item()").item()

    def tolist(self) -> Any:
        """The value as nested Python lists."""
        return self._array("tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self.numpy()
        if dtype is not None and value.dtype != dtype:
            if copy is False:
                raise ValueError("a copy is needed to convert the data type")
            return value.astype(dtype)
        return value.copy() if copy else value

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                located(
                    f"the truth value of a tensor of shape {self.shape} is ambiguous; "
                    "use any() or all(), or where() to choose element by element"
                )
            )
        return bool(self._array("bool()"))

    def __int__(self) -> int:
        return int(self._scalar("int()"))

    def __float__(self) -> float:
        return float(self._scalar("float()"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(located(f"only an integer tensor is an index, this is {self.dtype}"))
        return self._scalar("index()").__index__()

    def _scalar(self, wanted: str) -> Any:
        if self.size != 1:
            raise ShapeError(located(f"{wanted} needs a tensor with one element, this one has shape {self.shape}"))
        return self._array(wanted).item()

    def __len__(self) -> int:
        if not self.shape:
            raise DTypeError(located("len() of a 0-d tensor"))
        return self.shape[0]

    def __format__(self, spec: str) -> str:
        return format(self._scalar("format()"), spec) if spec else str(self)

    def __repr__(self) -> str:
        value = self._value
        suffix = ", requires_grad=True" if self.requires_grad else ""
        if type(value) is not _ndarray:
            if isinstance(value, Interpreted):
                return f"Tensor({type(value).__name__} of {ShapeDtype(value.shape, value.dtype)}{suffix})"
            value = self._array("repr()")
        if value.dtype not in (dtypes.default_dtype(), dtypes.int64, dtypes.bool_):
            suffix = f", dtype={value.dtype}{suffix}"
        text = np.array2string(value, separator=", ", prefix="tensor(", precision=4)
        return f"tensor({text}{suffix})"


class Variable(Tensor):
    """A named cell: a tensor whose value may be replaced (parameter, buffer, optimiser state).

    Operations read the value the cell holds at that moment; a graph made before
    `assign` still sees the old one.
    """

    __slots__ = ("_graph", "name")

    _graph: Any  # weak references to the nodes of the graph that its gradient came from

    def __init__(self, data: Any, requires_grad: bool = False, name: str = "") -> None:
        self.name = name
        self._node = None
        self._value = data._value if isinstance(data, Tensor) else to_array(data)
        if requires_grad:
            self.requires_grad_()

    def assign(self, value: Any) -> None:
        """Replace the value; shape and data type stay.

        Raises:
            ShapeError, DTypeError: `value` has another shape, or a data type that this
                one cannot hold.
        """
        array = value._value if isinstance(value, Tensor) else np.array(value)
        mine = self._value
        if array.shape != mine.shape:
            raise ShapeError(
                located(f"cannot assign shape {array.shape} to {self.name or 'a variable'} of shape {mine.shape}")
            )
        if array.dtype != mine.dtype:
            if not np.can_cast(array.dtype, mine.dtype, "same_kind"):
                raise DTypeError(
                    located(f"cannot assign {array.dtype} to {self.name or 'a variable'} of type {mine.dtype}")
                )
            array = value.astype(mine.dtype)._value if isinstance(value, Tensor) else array.astype(mine.dtype)
        self._set(array)

    def _set(self, array: Any) -> None:
        self._value = array
        if self._node is not None:
            self._node = leaf(array, self._node.requires_grad, owner=self)


def new_tensor(value: Any, node: Node | None) -> Tensor:
    """A handle on a value that is already an array; no conversion, no check."""
    tensor = _create(Tensor)
    tensor._value = value
    tensor._node = node
    return tensor


def to_array(data: Any, dtype: Any = None) -> np.ndarray:
    """A fresh NumPy array of a supported data type from nested numbers, arrays or tensors.

    Floating data given as Python numbers takes the default data type.
    """
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, Tensor):
        data = data._array("tensor()")
    if isinstance(data, np.ndarray | np.generic):
        if wanted is None:
            wanted = dtypes.as_dtype(data.dtype)
        _check_kinds(data.dtype, wanted)
        return np.array(data, dtype=wanted)
    try:
        array = np.array(_plain(data))
        if wanted == dtypes.uint64 and array.dtype.kind == "f":
            array = _exact(data, array)
    except ValueError as error:
        what = "the nested sequences are ragged" if "inhomogeneous" in str(error) else "the data is no array"
        raise ShapeError(located(f"{what}: {error}")) from error
    except RecursionError:
        raise ShapeError(located("the data is no array: sequences nested without end")) from None
    except OverflowError as error:
        raise DTypeError(located(f"a number is too large: {error}")) from error
    if array.dtype.kind not in "biufc":
        raise DTypeError(located(f"expected numbers, got {_first_odd(data)} (NumPy reads the data as {array.dtype})"))
    if wanted is None:
        if hasattr(data, "dtype"):
            wanted = dtypes.as_dtype(array.dtype)
        elif array.dtype.kind == "f":
            wanted = dtypes.default_dtype()
        elif array.dtype.kind == "c":
            wanted = dtypes.default_complex()
        else:
            wanted = dtypes.as_dtype(array.dtype)
    _check_kinds(array.dtype, wanted)
    if wanted.kind in "iu" and array.dtype.kind in "iuf" and array.size:
        if not np.all(np.isfinite(array)):
            raise DTypeError(located(f"NaN or infinity cannot become {wanted}"))
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise DTypeError(located(f"{wanted} holds {limits.min} to {limits.max}, the data goes beyond"))
    return array.astype(wanted)


def _check_kinds(given: np.dtype, wanted: np.dtype) -> None:
    if given.kind == "c" and wanted.kind in "iuf":
        raise DTypeError(located(f"{given} does not fit into {wanted}: take the real or the imaginary part"))


def _plain(data: Any) -> Any:
    # Tensors inside nested lists become arrays; everything else is NumPy's business.
    if isinstance(data, list | tuple):
        return [_plain(d) for d in data]
    return data._array("tensor()") if isinstance(data, Tensor) else data


def _exact(data: Any, read: np.ndarray) -> np.ndarray:
    # NumPy reads whole numbers of 64 bits beside smaller ones as float64, which rounds them.
    numbers = np.array(_plain(data), dtype=object)
    whole = all(isinstance(n, int) and 0 <= n < 2**64 for n in numbers.flat)
    return numbers.astype(np.uint64) if whole else read


def _first_odd(data: Any) -> str:
    while isinstance(data, list | tuple) and data:
        data = next((d for d in data if isinstance(d, list | tuple | str | dict) or d is None or _is_huge(d)), data[0])
    if _is_huge(data):
        return f"{data!r}, an integer beyond 64 bits"
    return f"{data!r}" if isinstance(data, str) or data is None else type(data).__name__


def _is_huge(data: Any) -> bool:
    return isinstance(data, int) and not -(2**63) <= data < 2**64


_SCALARS = (bool, int, float, complex)
_constants: dict[Any, Tensor] = {}


def constant(scalar: bool | int | float | complex, dtype: np.dtype) -> Tensor:
    """A 0-d tensor for a Python number; the common ones are made once and shared."""
    key = (scalar, type(scalar), dtype)
    found = _constants.get(key)
    if found is not None:
        return found
    try:
        value = np.array(scalar, dtype=dtype)
    except OverflowError as error:
        raise DTypeError(located(f"{scalar!r} does not fit into {dtype}")) from error
    made = new_tensor(value, None)
    # 0.0 == -0.0 would share one entry, as would the two parts of a complex number; a bounded table cannot grow
    # with the data.
    if scalar != 0 and not isinstance(scalar, complex) and len(_constants) < 512 and not math.isnan(abs(scalar)):
        _constants[key] = made
    return made


def operand(value: Any, dtype: np.dtype | None) -> Any:
    """`value` as an operand beside a tensor of type `dtype`; NotImplemented if it is none."""
    kind = type(value)
    if (kind is float or kind is int) and dtype is not None and dtype.kind in "fc":
        return constant(value, dtype)  # by far the most frequent case
    if isinstance(value, Tensor):
        return value
    if isinstance(value, _SCALARS) and not isinstance(value, np.generic):
        if dtype is None:
            dtype = dtypes.as_dtype(type(value))
        return constant(value, dtypes.scalar_dtype(value, dtype))
    if isinstance(value, np.ndarray | np.generic):
        return new_tensor(to_array(value), None)
    return NotImplemented
