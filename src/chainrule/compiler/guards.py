"""Guards: what a graph takes for granted about Python objects, and whether it still holds.

A traced function has read attributes of modules (`training`, a dropout rate) and values of tensors that
are neither arguments nor state. Where one of them changes, the function has to be traced again.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from ..nn.module import Module, changes

if TYPE_CHECKING:
    from .trace import Trace

_value_of = operator.attrgetter("_value")
_PLAIN = (bool, int, float, complex, str, type(None))


class Guards:
    """The facts that one trace depended on."""

    def __init__(self, trace: Trace) -> None:
        modules: dict[Module, None] = {}
        for entered in trace.entered:
            modules.update(dict.fromkeys(entered.modules()))
        self._modules = [(module, dict(vars(module))) for module in modules]
        self._version = changes[0]
        # What the function made for itself is gone by now; a tensor that is left can get another value.
        alive = [(tensor, array) for ref, array in trace.constants if (tensor := ref()) is not None]
        self._tensors = [tensor for tensor, _ in alive]
        self._arrays = [array for _, array in alive]

    def hold(self) -> bool:
        """Whether nothing has changed."""
        if self._version != changes[0]:
            version = changes[0]
            if not all(_same(vars(module), before) for module, before in self._modules):
                return False
            self._version = version
        return not self._tensors or all(map(operator.is_, map(_value_of, self._tensors), self._arrays))


def _same(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return now.keys() == before.keys() and all(_unchanged(now[name], value) for name, value in before.items())


def _unchanged(now: Any, before: Any) -> bool:
    if isinstance(before, _PLAIN):
        return type(now) is type(before) and bool(now == before)
    return now is before or (isinstance(before, tuple) and all(isinstance(b, _PLAIN) for b in before) and now == before)
