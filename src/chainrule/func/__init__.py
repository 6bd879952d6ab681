"""Function transformations, under the names of torch.func: they take a function and return one."""

from .batching import vmap
from .check import check_grad
from .forward_mode import jvp
from .jacobians import hessian, hvp, jacfwd, jacrev
from .rematerialise import checkpoint
from .reverse import grad, value_and_grad, vjp

__all__ = [
    "check_grad",
    "checkpoint",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "value_and_grad",
    "vjp",
    "vmap",
]
