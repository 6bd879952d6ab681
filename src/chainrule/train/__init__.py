"""Training: the loop, checkpoints, metrics, statistics, progress and plots."""

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .files import OutputError
from .loop import Interrupted, Trainer, count_correct, evaluate
from .metrics import MetricsLog, read_metrics
from .nonfinite import NonFiniteError
from .progress import BarReporter, Reporter, reporter_for
from .runs import Run, RunError, latest_run, new_run, open_run
from .statistics import Probe

__all__ = [
    "BarReporter",
    "CheckpointError",
    "Interrupted",
    "MetricsLog",
    "NonFiniteError",
    "OutputError",
    "Probe",
    "Reporter",
    "Run",
    "RunError",
    "Trainer",
    "count_correct",
    "evaluate",
    "latest_run",
    "load_checkpoint",
    "new_run",
    "open_run",
    "read_metrics",
    "reporter_for",
    "save_checkpoint",
]
