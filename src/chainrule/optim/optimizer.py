"""`Optimizer`: parameter groups, state and its dictionaries, and how an update rule is applied.

An optimiser states its rule once, as a pure function of arrays. In eager mode the rule runs on
vectors of many parameters, block by block; on the values of a trace it runs on tensors.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from ..core.autodiff import enable_grad, release_graphs, unrecorded
from ..core.dtypes import default_dtype, float32, float64, is_differentiable
from ..core.errors import DTypeError, GradientError, OperationError, describe, located
from ..core.node import mode
from ..core.tensor import Tensor, Variable, new_tensor
from .bundle import Bundle
from .setting import Setting

SMALL = 1 << 14
"""Parameters of at most this many elements are updated together, as one vector."""

_IMPLEMENTATION = frozenset(("foreach", "fused", "capturable", "differentiable"))


class Optimizer:
    """Base class of the optimisers.

    A subclass states `rule`, the pure function of one step:

        rule(p, g, *states, step=t, **hyperparameters) -> (new p, *new states)

    p, g and the states are arrays of one shape, NumPy's or this library's: the rule uses their
    operators and the functions of `p.__array_namespace__()`. It may write `m += x`, which is
    `m = m + x` for tensors and in place for NumPy's arrays, to p and to the states, but never
    to g. t counts from 1. Hyperparameters are read from the parameter group at each step.

    Args:
        params: tensors, (name, tensor) pairs, or dicts with "params" and hyperparameters of
            their own: the parameter groups.
        defaults: hyperparameters of groups that do not state them.

    Raises:
        OperationError: no parameters, a parameter twice, or a hyperparameter out of range.
        DTypeError: a parameter is no tensor, or not floating.
    """

    rule: ClassVar[Callable[..., Any]]
    elementwise: ClassVar[bool] = True
    scalars: ClassVar[tuple[str, ...]] = ("step",)
    """States with one number for each parameter, the same for parameters updated equally often."""

    def __init__(self, params: Any, defaults: dict[str, Any], implementation: dict[str, Any] | None = None) -> None:
        self._refuse(implementation or {})
        if isinstance(params, Tensor):
            raise DTypeError(self._message("expected a list of parameters, got one tensor; write [tensor]"))
        if isinstance(params, str | bytes) or not isinstance(params, Iterable):
            raise DTypeError(self._message(f"expected a list of parameters, got {type(params).__name__}"))
        groups = list(params)
        if not groups:
            raise OperationError(
                self._message("no parameters; a module without weights, or a generator that was used before")
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Variable]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._bundles: list[tuple[list[Tensor], list[Bundle]]] = []
        self._origin = object()  # another one when the states are replaced
        self._stepped = False  # learning-rate schedules warn when they move before the weights do
        self._options = tuple(
            name
            for name, p in inspect.signature(self.rule).parameters.items()
            if p.kind is p.KEYWORD_ONLY and name != "step"
        )
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def _message(self, text: str) -> str:
        return located(f"{type(self).__name__}: {text}")

    def _refuse(self, options: dict[str, Any]) -> None:
        # These choose among PyTorch's implementations. Ported code may pass them; there is one here.
        unknown = sorted(set(options) - _IMPLEMENTATION)
        if unknown:
            raise DTypeError(self._message(f"unexpected argument {', '.join(unknown)}"))
        if options.get("differentiable"):
            raise OperationError(
                self._message("differentiable=True: write the update with tensors and cr.grad instead")
            )

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The states that a group's options call for, in the order of the rule's arguments; "step" first."""
        return ()

    def _initial(self, name: str, p: Tensor, group: dict[str, Any]) -> np.ndarray:
        """The value of a state before the first step."""
        if name in self.scalars:
            return np.zeros((), _scalar_dtype())
        return np.zeros(p.shape, p.dtype)

    def _check(self, group: dict[str, Any]) -> None:
        """Raise for hyperparameters out of range."""
        self._at_least_zero(group, "lr", "weight_decay")

    def _at_least_zero(self, group: dict[str, Any], *names: str) -> None:
        for name in names:
            value = _number(group[name])
            if value is None or not (0 <= value < math.inf):
                word = "learning rate " if name == "lr" else ""
                raise OperationError(self._message(f"{word}{name} must be a finite number ≥ 0, got {group[name]!r}"))

    def _fraction(self, name: str, value: Any) -> None:
        number = _number(value)
        if number is None or not 0 <= number < 1:
            raise OperationError(self._message(f"{name} must be in [0, 1), got {value!r}"))

    def _check_betas(self, group: dict[str, Any]) -> None:
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise OperationError(self._message(f"betas must be two numbers, got {betas!r}"))
        for index, beta in enumerate(betas):
            self._fraction(f"betas[{index}]", beta)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimise more parameters, with hyperparameters of their own where the dict names them.

        Raises:
            OperationError, DTypeError: as the constructor.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise DTypeError(self._message(f'a parameter group is a dict with "params", got {param_group!r}'))
        group = dict(param_group)
        given = group["params"]
        if isinstance(given, set | frozenset):
            raise DTypeError(self._message("the parameters are a set, which has no order; pass a list"))
        entries = [given] if isinstance(given, Tensor) else list(given)
        named = [entry for entry in entries if isinstance(entry, tuple)]
        if named and len(named) < len(entries):
            raise OperationError(self._message("some parameters come with a name and some without"))
        if named:
            group["param_names"] = [name for name, _ in named]
            entries = [p for _, p in named]
        if not entries:
            raise OperationError(self._message(f"parameter group {len(self.param_groups)} has no parameters"))
        group["params"] = entries
        known = {p for other in self.param_groups for p in other["params"]}
        for position, p in enumerate(entries):
            self._check_parameter(p, position, group, known)
            known.add(p)
        group = {"params": entries} | self.defaults | group
        self._check(group)
        self.param_groups.append(group)
        self._bundles.append(([], []))

    def _check_parameter(self, p: Any, position: int, group: dict[str, Any], known: set[Tensor]) -> None:
        name = _name(p, position, group)
        if not isinstance(p, Tensor):
            raise DTypeError(self._message(f"{name} is no tensor but {type(p).__name__}"))
        if not is_differentiable(p.dtype):
            raise DTypeError(self._message(f"{name} is {p.dtype}; only floating and complex tensors are trained"))
        if not p.is_leaf:
            raise OperationError(self._message(f"{name} was computed from other tensors; optimise those (the leaves)"))
        if p in known:
            raise OperationError(self._message(f"{name} of shape {p.shape} is given twice"))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with `set_to_none=False` set those that exist to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                # Not to read the old gradient tells a trace that it does not matter.
                if set_to_none:
                    p._grad = None
                elif p.grad is not None:
                    p._grad = new_tensor(np.zeros(p.shape, p.dtype), None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; the others stay as they are.

        The graphs that the gradients came from are released: they belong to the old weights.

        Args:
            closure: computes the loss again and calls `backward`; called once, before the update.

        Returns:
            What `closure` returned; None without one.

        Raises:
            GradientError: no parameter has a gradient and none can ever get one.
            OperationError: a learning rate is NaN or infinite.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        active = [[p for p in group["params"] if getattr(p, "_grad", None) is not None] for group in self.param_groups]
        self._stepped = True
        if not any(active):
            self._refuse_frozen()
            return loss
        release_graphs([p for params in active for p in params if isinstance(p, Variable)])
        with unrecorded():
            for index, params in enumerate(active):
                if params:
                    self._update(index, params)
        return loss

    def _refuse_frozen(self) -> None:
        if not any(p.requires_grad for group in self.param_groups for p in group["params"]):
            raise GradientError(
                self._message("no parameter requires a gradient; call requires_grad_() on those to train")
            )

    def _update(self, index: int, params: list[Tensor]) -> None:
        group = self.param_groups[index]
        if mode.trace is not None:
            self._update_tensors(group, params, self._settings(index))
            return
        options = {name: group[name] for name in self._options}
        options["lr"] = self._finite_rate(group["lr"], index)
        for bundle in self._bundles_of(index, params):
            bundle.update(self, options)

    def _finite_rate(self, lr: Any, index: int) -> float:
        rate = _number(lr)
        if rate is None or not math.isfinite(rate):
            raise OperationError(self._message(f"the learning rate of group {index} is {lr}"))
        return rate

    def _settings(self, index: int) -> dict[str, Any]:
        """A group's options in a traced step: floats become settings, which are read anew at every call.

        The rest, and whether a number is zero, belongs to what is traced.
        """
        get = operator.itemgetter("params", *self._options)

        def read() -> tuple[Any, ...]:
            return (self._origin, *get(self.param_groups[index]))

        def split(options: tuple[Any, ...]) -> tuple[list[Any], list[float]]:
            numbers: list[float] = []
            origin, params, *values = options
            kept: list[Any] = [(origin, *map(id, params))]
            for name, value in zip(self._options, values, strict=True):
                if name == "lr" and not isinstance(value, Variable):
                    value = self._finite_rate(value, index)
                kept.append(_split(name, value, numbers))
            return kept, numbers

        settings = iter(mode.trace.settings((self, index), read, split))
        structure, _ = split(read())
        return {name: _joined(part, settings) for name, part in zip(self._options, structure[1:], strict=True)}

    def _bundles_of(self, index: int, params: list[Tensor]) -> list[Bundle]:
        """The parameters of a group in the bundles of the last step, or in new ones where that does not fit."""
        group = self.param_groups[index]
        names = self._names(group)
        earlier, bundles = self._bundles[index]
        if (
            len(earlier) == len(params)
            and all(map(operator.is_, earlier, params))
            and all(bundle.fits(self, names) for bundle in bundles)
        ):
            return bundles
        for p in params:
            self._create_states(p, group, names)
        scalars = [name for name in names if name in self.scalars]
        sorted_out: dict[Any, list[Tensor]] = {}
        for p in params:
            together = self.elementwise and p.size <= SMALL
            numbers = tuple(self.state[p][name]._array("state").item() for name in scalars)
            sorted_out.setdefault((p.dtype, *numbers, together or p), []).append(p)
        bundles = [Bundle(self, members, names) for members in sorted_out.values()]
        self._bundles[index] = params, bundles
        return bundles

    def _create_states(self, p: Tensor, group: dict[str, Any], names: Sequence[str]) -> None:
        state = self.state[p]
        for name in names:
            if name not in state:
                made = Variable(new_tensor(np.asarray(self._initial(name, p, group)), None))
                made.name = f"{p.name}.{name}" if isinstance(p, Variable) and p.name else name
                state[name] = made

    def _update_tensors(self, group: dict[str, Any], params: Sequence[Tensor], options: dict[str, Any]) -> None:
        """One step of a trace: the rule on tensors, one parameter at a time."""
        names = self._names(group)
        for p in params:
            if p.dtype.kind == "c":
                raise DTypeError(self._message("a compiled step trains real parameters only"))
            self._create_states(p, group, names)
            state = self.state[p]
            states: list[Any] = [state[name] for name in names if name != "step"]
            if "step" in names:
                state["step"].assign(state["step"] + 1)
                options["step"] = Setting(state["step"])
            results = type(self).rule(p, p.grad, *states, **options)
            for cell, value in zip([p, *states], results, strict=True):
                if isinstance(cell, Variable):
                    cell.assign(value)
                else:
                    raise OperationError(self._message("a compiled step trains Variables (nn.Parameter) only"))

    def state_dict(self) -> dict[str, Any]:
        """State and hyperparameters as plain dictionaries, in PyTorch's structure.

        Returns:
            `{"state": {index: {name: tensor}}, "param_groups": [{…, "params": [index, …]}]}`;
            parameters are numbered through all groups. The tensors keep today's values.
        """
        indices: dict[Tensor, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                indices[p] = len(indices)
            groups.append({**group, "params": [indices[p] for p in group["params"]]})
        state = {
            indices[p]: {name: new_tensor(v._value, None) for name, v in states.items()}
            for p, states in self.state.items()
            if states
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, here or in PyTorch; values are copied.

        Raises:
            OperationError: something does not fit; the message lists everything that does
                not, and nothing has been changed.
        """
        try:
            saved_groups = [dict(g) for g in state_dict["param_groups"]]
            saved_state = dict(state_dict["state"])
            saved_indices = [list(g["params"]) for g in saved_groups]
        except (KeyError, TypeError, ValueError) as error:
            raise OperationError(
                self._message('load_state_dict: expected {"state": …, "param_groups": [{"params": …}, …]}')
            ) from error
        wrong = []
        if len(saved_groups) != len(self.param_groups):
            wrong.append(f"{len(saved_groups)} parameter groups saved, {len(self.param_groups)} here")
        loaded: dict[Tensor, dict[str, Variable]] = {}
        groups = []
        for number, (group, saved, indices) in enumerate(
            zip(self.param_groups, saved_groups, saved_indices, strict=False)
        ):
            if len(indices) != len(group["params"]):
                wrong.append(f"group {number}: {len(indices)} parameters saved, {len(group['params'])} here")
            missing = sorted(set(self.defaults) - set(saved))
            if missing:
                wrong.append(f"group {number}: no {', '.join(missing)}")
                continue
            fixed = {"params": group["params"]} | {k: v for k, v in group.items() if k == "param_names"}
            groups.append(saved | fixed)
            for position, (index, p) in enumerate(zip(indices, group["params"], strict=False)):
                if index in saved_state:
                    name = f"group {number}, {_name(p, position, group)}"
                    loaded[p] = self._loaded(p, saved_state[index], groups[-1], name, wrong)
        known = {index for indices in saved_indices for index in indices}
        strangers = [index for index in saved_state if index not in known]
        if strangers:
            wrong.append(f"state of parameters {strangers}, which are in no saved group")
        if not wrong:
            for group in groups:
                try:
                    self._check(group)
                except OperationError as error:
                    wrong.append(str(error).splitlines()[0])
        if wrong:
            raise OperationError(self._message("load_state_dict: this state does not fit:\n  " + "\n  ".join(wrong)))
        self.param_groups = groups
        self.state.clear()
        self.state.update(loaded)
        self._origin = object()
        self._bundles = [([], []) for _ in groups]

    def _loaded(
        self, p: Tensor, saved: dict[str, Any], group: dict[str, Any], where: str, wrong: list[str]
    ) -> dict[str, Variable]:
        """The states of one parameter as fresh variables; what does not fit is added to `wrong`."""
        possible = self._names(group)
        states = {}
        unexpected = sorted(set(saved) - set(self._names(group | self._everything())))
        absent = sorted(set(possible) - set(saved)) if saved else []
        if unexpected:
            wrong.append(f"{where}: unexpected {', '.join(unexpected)}")
        if absent:
            wrong.append(f"{where}: no {', '.join(absent)}")
        for name, value in saved.items():
            if name in unexpected or value is None:
                continue
            array = value._array("load_state_dict") if isinstance(value, Tensor) else np.asarray(value)
            shape, dtype = p.shape, p.dtype
            if name in self.scalars:
                shape, dtype = (), array.dtype if isinstance(value, Tensor) else _scalar_dtype()
            if array.dtype.kind not in "biufc":
                wrong.append(f"{where}: {name} is {describe(array)}")
            elif array.shape != shape:
                wrong.append(f"{where}: {name} has shape {array.shape}, expected {shape}")
            elif not np.can_cast(array.dtype, dtype, "same_kind"):
                wrong.append(f"{where}: {name} is {array.dtype}, expected {dtype}")
            else:
                states[name] = Variable(new_tensor(np.array(array, dtype), None), name=name)
        return states

    def _everything(self) -> dict[str, Any]:
        """Options under which `_names` lists every state the optimiser can have."""
        return {}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [
                f"    {key}: {value}" for key, value in sorted(group.items()) if key not in ("params", "param_names")
            ]
        return "\n".join([*lines, ")"])


def _number(value: Any) -> float | None:
    """A hyperparameter as a float; None where it is no number."""
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        return value.item() if value.size == 1 else None  # type: ignore[return-value]
    return float(value) if isinstance(value, int | float | np.number) else None


_SETTING = object()
_BAKED = frozenset(("eps", "ns_coefficients"))  # never scheduled


def _split(name: str, value: Any, numbers: list[float]) -> Any:
    """An option with its numbers taken out and put into `numbers`."""
    if isinstance(value, tuple | list) and name not in _BAKED:
        return tuple(_split(name, part, numbers) for part in value)
    if isinstance(value, float) and name not in _BAKED and (value or name == "lr"):
        numbers.append(value)
        return _SETTING
    return value


def _joined(part: Any, settings: Iterator[Tensor]) -> Any:
    """An option of `_split` with settings in place of its numbers."""
    if part is _SETTING:
        return Setting(next(settings))
    if isinstance(part, tuple):
        return tuple(_joined(p, settings) for p in part)
    return Setting(part) if isinstance(part, Tensor) else part


def _scalar_dtype() -> np.dtype:
    return float64 if default_dtype() == float64 else float32


def _name(p: Any, position: int, group: dict[str, Any]) -> str:
    names = group.get("param_names")
    if names:
        return f"parameter {names[position]}"
    name = getattr(p, "name", "")
    return f"parameter {name}" if isinstance(p, Variable) and name else f"parameter {position}"
