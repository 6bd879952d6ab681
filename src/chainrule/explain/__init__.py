"""Every gradient explains itself: `cr.explain(loss, wrt=...)`.

The module is callable, so that `chainrule.explain` is the function and the package alike.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .explanation import Explanation, explain
from .steps import Step, Term


class _Callable(ModuleType):
    __call__ = staticmethod(explain)


sys.modules[__name__].__class__ = _Callable
