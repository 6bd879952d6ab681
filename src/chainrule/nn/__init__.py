"""Networks: modules, layers, losses and initial values under PyTorch's names."""

from . import functional, init
from .activation import *
from .containers import ModuleDict, ModuleList, ParameterList, Sequential
from .linear import Bilinear, Flatten, Identity, Linear, Unflatten
from .loss import CrossEntropyLoss, NLLLoss
from .module import Module, StateDictError, module_path
from .parameter import Buffer, Parameter
