"""Training: the loop, checkpoints, metrics, statistics, progress and plots."""

from ..data.files import OutputError
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .course import course
from .fitting import Fitted, fit
from .job import Job
from .loop import Interrupted
from .metrics import MetricsLog, read_metrics
from .nonfinite import NonFiniteError
from .objective import Batches, Objective, accuracy, evaluate
from .progress import BarReporter, Reporter, reporter_for
from .runs import Run, RunError, latest_run, new_run, open_run
from .statistics import Probe
from .tensorboard import TensorBoardError

__all__ = [
    "BarReporter",
    "Batches",
    "CheckpointError",
    "Fitted",
    "Interrupted",
    "Job",
    "MetricsLog",
    "NonFiniteError",
    "Objective",
    "OutputError",
    "Probe",
    "Reporter",
    "Run",
    "RunError",
    "TensorBoardError",
    "accuracy",
    "course",
    "evaluate",
    "fit",
    "latest_run",
    "load_checkpoint",
    "new_run",
    "open_run",
    "read_metrics",
    "reporter_for",
    "save_checkpoint",
]
