"""Optimisers, learning-rate schedules and gradient clipping, under PyTorch's names."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

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

if _TYPE_CHECKING:
    from . import lr_scheduler


def __getattr__(name: str) -> object:
    if name == "lr_scheduler":  # loaded when it is first asked for
        from importlib import import_module

        return import_module(f"{__name__}.lr_scheduler")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
