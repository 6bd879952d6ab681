"""chainrule: backpropagation that is fast, visible and explainable."""

from . import primitives
from .core.autodiff import enable_grad, grad, no_grad
from .core.tensor import Tensor

__version__ = "0.1.0"
