"""Every gradient explains itself: `cr.explain(loss, wrt=...)`.

The module is callable, so that `chainrule.explain` is the function and the package alike.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

from .check import Check
from .explanation import Explanation, explain
from .layers import Layer
from .questions.answer import Answer, Evidence
from .steps import Step, Term


class _Callable(ModuleType):
    __call__ = staticmethod(explain)


__signature__ = inspect.signature(explain)
sys.modules[__name__].__class__ = _Callable
