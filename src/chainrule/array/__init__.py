"""The Python Array API standard 2024.12 and a few functions beyond it, composed of the primitives.

One subject a file. `chainrule` exports all of it at top level; the standard's extensions
are `chainrule.linalg` and `chainrule.fft`.
"""

from . import (
    constants,
    creation,
    datatypes,
    elementwise,
    indexing,
    info,
    linear,
    manipulation,
    methods,
    searching,
    sets,
    sorting,
    statistical,
    utility,
)
from .constants import *  # noqa: F403
from .creation import *  # noqa: F403
from .datatypes import *  # noqa: F403
from .einsum import einsum
from .elementwise import *  # noqa: F403
from .indexing import *  # noqa: F403
from .info import *  # noqa: F403
from .linear import *  # noqa: F403
from .manipulation import *  # noqa: F403
from .searching import *  # noqa: F403
from .sets import *  # noqa: F403
from .sorting import *  # noqa: F403
from .statistical import *  # noqa: F403
from .utility import *  # noqa: F403

methods.install()

__all__ = ["einsum"]
__all__ += [
    name
    for subject in (
        constants, creation, datatypes, elementwise, indexing, info, linear, manipulation,
        searching, sets, sorting, statistical, utility,
    )
    for name in subject.__all__
]  # fmt: skip
