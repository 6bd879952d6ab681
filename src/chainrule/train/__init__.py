"""Training: the loop, checkpoints, metrics, statistics, progress and plots."""

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .files import OutputError
from .metrics import MetricsLog, read_metrics

__all__ = ["CheckpointError", "MetricsLog", "OutputError", "load_checkpoint", "read_metrics", "save_checkpoint"]
