"""`Settings`: what can be chosen about a run of a recipe, on the command line and in `run.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

from ..core.errors import OperationError


class SettingsError(OperationError):
    """A setting has a value that it cannot have, or the recipe has no such setting."""


def setting(default: Any, help: str, *, choices: tuple[Any, ...] = (), minimum: float | None = None) -> Any:
    """A field of `Settings`, with what `--help` says about it and the values it may have."""
    return field(default=default, metadata={"help": help, "choices": choices, "minimum": minimum})


@dataclass(frozen=True)
class Settings:
    """Base class: a recipe adds fields of type int, float, bool or str (or `… | None`), each with a default.

    Class attributes:
        FAST: defaults of the size that `--fast` asks for: seconds on one core.

    Raises:
        SettingsError: a value has the wrong type, is not among the choices, or too small.
    """

    FAST: ClassVar[Mapping[str, Any]] = {}

    seed: int = setting(0, "Seed of the weights and of the order of the data.")
    fast: bool = setting(False, "A try in seconds.")
    data: str | None = setting(None, "Folder with the data, instead of the usual places.")

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> Self:
        """Settings from those that were given; `fast` has defaults of its own."""
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise SettingsError(f"there is no setting {name!r} here; there are {', '.join(known)}")
        return cls(**({**cls.FAST, **given} if given.get("fast") else given))

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for f in fields(self):
            value = getattr(self, f.name)
            if types[f.name] is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
                object.__setattr__(self, f.name, value)
            if not isinstance(value, types[f.name]) or (isinstance(value, bool) and types[f.name] is not bool):
                raise SettingsError(f"{f.name} must be {_type_name(types[f.name])}, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingsError(f"{f.name} must be a finite number, got {value}")
            choices, minimum = f.metadata.get("choices"), f.metadata.get("minimum")
            if choices and value not in choices:
                raise SettingsError(f"{f.name} must be one of {', '.join(map(str, choices))}, got {value!r}")
            if minimum is not None and value is not None and value < minimum:
                raise SettingsError(f"{f.name} must be at least {minimum}, got {value}")


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class CommonSettings(Settings):
    """What most recipes have: the options that `chainrule train --help` shows."""

    epochs: int | None = setting(None, "How often to go through the training data.", minimum=1)
    batch_size: int | None = setting(None, "Samples a step.", minimum=1)
    lr: float | None = setting(None, "Learning rate.")


def _type_name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, str(kind))


def settings_from(kind: type[S], given: Iterable[str]) -> S:
    """Settings from texts such as "algorithm=dqn".

    Raises:
        SettingsError: a text has no `=`, or a name or value is wrong.
    """
    types = get_type_hints(kind)
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise SettingsError(f"a setting is given as NAME=VALUE, got {text!r}")
        declared = types.get(name, str)
        known = next(t for t in (bool, int, float, str) if declared in (t, t | None))
        found[name] = _value(name, value.strip(), known)
    return kind.make(found)


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{name} must be {_type_name(kind)}, got {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{name} must be {_type_name(kind)}, got {text!r}") from None
