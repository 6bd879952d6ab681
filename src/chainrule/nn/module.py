"""`Module`: the base of all layers and networks.

A module is a plain Python object. Its parameters, buffers and submodules are those of its
attributes that are a `Parameter`, a `Buffer` or a `Module`, in the order they were set;
nothing is registered anywhere else. Names, order and keys are those of `torch.nn.Module`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..core import source
from ..core.dtypes import as_dtype
from ..core.errors import ChainruleError, DTypeError, OperationError, located
from ..core.node import mode
from ..core.tensor import Tensor, Variable, new_tensor, to_array
from .parameter import Buffer, Parameter, require_cpu

M = TypeVar("M", bound="Module")

changes = [0]
"""How often an attribute of any module was set: as long as it stays, no module has changed."""


class StateDictError(ChainruleError, RuntimeError):
    """A state dict does not fit the module it is loaded into."""


class LoadResult(NamedTuple):
    """The keys that `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and networks: subclass it, set layers as attributes, write `forward`.

    Calling the module calls `forward`. Operations recorded meanwhile remember the module,
    and an error raised meanwhile carries its path (`encoder.2.attn.q_proj`) as a note.
    """

    training: bool = True
    _has_user_code: bool = True
    _before: tuple[Callable[..., Any], ...] = ()
    _after: tuple[Callable[..., Any], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = getattr(cls.forward, "__code__", None)
        cls._has_user_code = code is None or source.is_user_code(code.co_filename)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass says so."""
        raise OperationError(located(f"{type(self).__name__} has no forward(); define what it computes"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer, place = mode.scope, mode.place
        mode.scope = (self, outer)
        if mode.trace is not None:
            mode.trace.enter(self)
        # No line of the user's runs inside a layer of the library: its operations share the caller's.
        mode.place = None if self._has_user_code else place or source.capture(2)
        try:
            if self._before or self._after:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs) if kwargs else self.forward(*args)
        except Exception as error:
            _note_path(error)
            raise
        finally:
            mode.scope, mode.place = outer, place

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        mode.place = None
        for hook in self._before:
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in self._after:
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args)` before forward; what it returns, if not None, replaces the arguments."""
        self._before = (*self._before, hook)
        return HookHandle(self, "_before", hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args, output)` after forward; what it returns, if not None, replaces the output."""
        self._after = (*self._after, hook)
        return HookHandle(self, "_after", hook)

    def __setattr__(self, name: str, value: Any) -> None:
        changes[0] += 1
        held = self.__dict__.get(name)
        if isinstance(held, Variable) and isinstance(value, Tensor) and not isinstance(value, Variable):
            if isinstance(held, Parameter):
                raise DTypeError(
                    located(
                        f"{name} of {type(self).__name__} is a parameter: set it to a Parameter, or change its "
                        f"value with {name}.assign(value)"
                    )
                )
            if held.shape == value.shape and held.dtype == value.dtype:
                held.assign(value)
                return
            value = Buffer(value, getattr(held, "persistent", True))
        object.__setattr__(self, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set a parameter (or None: the name is taken, there is no parameter) as an attribute."""
        if param is not None and not isinstance(param, Parameter):
            raise DTypeError(located(f"register_parameter: {name} is a {type(param).__name__}, not a Parameter"))
        self._register(name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set a tensor that belongs to the module's state but is not trained.

        Args:
            name: attribute name.
            tensor: its value, or None for no buffer.
            persistent: whether it is part of the state dict.
        """
        self._register(name, None if tensor is None else Buffer(tensor, persistent))

    def add_module(self, name: str, module: Module | None) -> None:
        """Set a submodule as an attribute, whose name may be any string without a dot."""
        if module is not None and not isinstance(module, Module):
            raise DTypeError(located(f"add_module: {name} is a {type(module).__name__}, not a Module"))
        self._register(name, module)

    register_module = add_module

    def _register(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise OperationError(located(f"a name is a string that is not empty and has no dot, got {name!r}"))
        if name not in self.__dict__ and hasattr(type(self), name):
            raise OperationError(located(f"{type(self).__name__} already has an attribute {name!r}"))
        changes[0] += 1
        self.__dict__[name] = value

    # Walking the tree.

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once."""
        seen: set[Module] = set()
        for name, value in self.__dict__.items():
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it with their paths, parents first."""
        seen = set() if memo is None else memo
        if remove_duplicate:
            if self in seen:
                return
            seen.add(self)
        yield prefix, self
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value.named_modules(seen, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_state(self, kind: type[Variable], prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, Any]]:
        seen: set[Variable] = set()
        owners = self.named_modules(prefix=prefix, remove_duplicate=once) if recurse else [(prefix, self)]
        for path, module in owners:
            for name, value in module.__dict__.items():
                if isinstance(value, kind) and not (once and value in seen):
                    seen.add(value)
                    yield _join(path, name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths; one that is shared comes once."""
        return self._named_state(Parameter, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, of this module only if not `recurse`."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """The buffers with their paths."""
        return self._named_state(Buffer, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """The buffers, of this module only if not `recurse`."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as `encoder.2.attn`; this module for an empty path."""
        module: Module = self
        for name in target.split(".") if target else ():
            found = module.__dict__.get(name)
            if not isinstance(found, Module):
                known = ", ".join(n for n, _ in module.named_children()) or "none"
                raise AttributeError(f"{type(module).__name__} has no submodule {name!r} (it has: {known})")
            module = found
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as `encoder.2.attn.q_proj.weight`."""
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        found = owner.__dict__.get(name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"{type(owner).__name__} has no parameter {name!r}")
        return found

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call `fn` on every module below and then on this one; returns itself."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # Modes and data types.

    def train(self: M, mode: bool = True) -> M:
        """Switch this module and all below to training (True) or evaluation; returns itself."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self: M) -> M:
        """Switch to evaluation: dropout passes everything, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Switch the gradients of all parameters on or off; returns itself."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for p in self.parameters():
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad = new_tensor(np.zeros(p.shape, p.dtype), None)

    def to(self: M, dtype: Any = None, device: Any = None) -> M:
        """Convert floating parameters and buffers (and gradients) to `dtype`, in place; returns itself.

        Raises:
            OperationError: a device other than the CPU is named.
        """
        if isinstance(dtype, str) and (dtype.split(":")[0] in ("cpu", "cuda", "mps", "xpu", "meta")):
            dtype, device = None, dtype
        require_cpu(device)
        if dtype is None:
            return self
        wanted = as_dtype(dtype)
        if wanted.kind not in "fc":
            raise DTypeError(located(f"to: parameters are floating or complex, not {wanted}"))
        for variable in (*self.parameters(), *self.buffers()):
            if variable.dtype.kind in "fc" and variable.dtype != wanted:
                g = variable.grad
                variable._set(variable._array("to()").astype(wanted))
                if g is not None:
                    variable.grad = new_tensor(g._array("to()").astype(wanted), None)
        return self

    def double(self: M) -> M:
        """Convert to float64; returns itself."""
        return self.to(np.float64)

    def float(self: M) -> M:
        """Convert to float32; returns itself."""
        return self.to(np.float32)

    # Saving and loading.

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """The values of all parameters and persistent buffers by path, as they are now.

        Tensors are immutable, so the dict is a snapshot: training on does not change it.
        """
        return {name: new_tensor(v._value, None) for name, v in self._state(prefix)}

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Variable]]:
        for path, module in self.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
            own = module.__dict__.items()
            yield from ((_join(path, n), v) for n, v in own if isinstance(v, Parameter))
            yield from ((_join(path, n), v) for n, v in own if isinstance(v, Buffer) and v.persistent)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Set parameters and buffers to the values in `state_dict`: all of them, or none on an error.

        Args:
            state_dict: path to tensor, array or anything NumPy reads (PyTorch's tensors, too).
            strict: refuse missing and unexpected keys instead of passing over them.

        Raises:
            StateDictError: keys or shapes do not fit; the message lists all that is wrong.
        """
        if not isinstance(state_dict, Mapping):
            raise DTypeError(located(f"load_state_dict: expected a mapping, got {type(state_dict).__name__}"))
        own = dict(self._state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(map(str, unexpected)))
        values = {}
        for name, variable in own.items():
            if name in state_dict:
                try:
                    values[name] = _fitting(variable, state_dict[name])
                except (ValueError, TypeError) as error:
                    problems.append(f"{name}: {str(error).splitlines()[0]}")
        if problems:
            listed = "\n  ".join(problems)
            raise StateDictError(located(f"the state dict does not fit {type(self).__name__}:\n  {listed}"))
        for name, array in values.items():
            own[name]._set(array)  # a copy already, which large models have no room for twice
        return LoadResult(missing, unexpected)

    # How it prints.

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module prints."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        parts = [(n, v) for n, v in self.__dict__.items() if isinstance(v, Module)]
        for name, module in parts:
            lines.append(f"({name}): " + repr(module).replace("\n", "\n  "))
        if not parts and len(lines) <= 1:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


class HookHandle:
    """Undoes the registration of a hook."""

    def __init__(self, module: Module, where: str, hook: Callable[..., Any]) -> None:
        self._module, self._where, self._hook = module, where, hook

    def remove(self) -> None:
        """Take the hook off its module; a second call does nothing."""
        hooks = list(getattr(self._module, self._where))
        if self._hook in hooks:
            hooks.remove(self._hook)
            setattr(self._module, self._where, tuple(hooks))


def module_path(scope: tuple[Any, Any] | None) -> str:
    """The path of the innermost module of a scope within the outermost, such as `encoder.2.attn.q_proj`.

    Empty for the outermost module itself and outside of any. A module that its caller holds
    in a plain list or dictionary, where it is not registered, goes by the name of its class.
    """
    names: list[str] = []
    while scope is not None:
        inner, scope = scope
        if scope is not None:
            names.append(_name_within(scope[0], inner))
    return ".".join(n for n in reversed(names) if n)


def _name_within(outer: Module, inner: Module) -> str:
    for name, module in outer.named_modules():
        if module is inner:
            return name
    return type(inner).__name__


def in_module(module: Module, error: ChainruleError) -> ChainruleError:
    """The same error with the layer and its path before the message: `fc1 = Linear(in_features=4, …): …`."""
    scope = mode.scope
    path = module_path(scope) if scope is not None and scope[0] is module else ""
    layer = f"{type(module).__name__}({module.extra_repr()})"
    made = type(error)(f"{path} = {layer}: {error}" if path else f"{layer}: {error}")
    made.module_path = path  # type: ignore[attr-defined]
    return made


def _note_path(error: Exception) -> None:
    # The innermost module adds the note; on its way out the error passes the others.
    if hasattr(error, "module_path"):
        return
    scope = mode.scope
    assert scope is not None
    path = module_path(scope)
    error.module_path = path  # type: ignore[attr-defined]
    name = type(scope[0]).__name__
    error.add_note(f"in module {path} ({name})" if path else f"in module {name}")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _fitting(variable: Variable, given: Any) -> np.ndarray:
    if not isinstance(given, Tensor | np.ndarray) and hasattr(given, "detach"):
        given = given.detach()
    array = to_array(given if isinstance(given, Tensor) else np.asarray(given))
    if array.shape != variable.shape:
        raise ValueError(f"shape {array.shape} given, {variable.shape} expected")
    if array.dtype.kind in "fc" and variable.dtype.kind in "iub":
        raise TypeError(f"{array.dtype} given, {variable.dtype} expected")
    if array.dtype.kind == "c" and variable.dtype.kind == "f":
        raise TypeError(f"{array.dtype} given, {variable.dtype} expected")
    return array.astype(variable.dtype, copy=False)
