"""Optimisers, learning-rate schedules and gradient clipping, under PyTorch's names."""

from . import lr_scheduler
from .adam import Adam, Adamax, AdamW, NAdam
from .adaptive import Adadelta, Adagrad, RMSprop
from .clip import clip_grad_norm_, clip_grad_value_, get_total_norm
from .lion import Lion
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Muon", "NAdam", "Optimizer", "RMSprop",
    "clip_grad_norm_", "clip_grad_value_", "get_total_norm", "lr_scheduler",
]  # fmt: skip
