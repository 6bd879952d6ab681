"""Event files for TensorBoard, written by tensorboardX (the extra `chainrule[tensorboard]`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ChainruleError


class TensorBoardError(ChainruleError, ImportError):
    """tensorboardX is not installed."""


class TensorBoardLog:
    """Scalars of a run as TensorBoard shows them: `tensorboard --logdir runs`.

    Args:
        folder: where the event files go.
        step: what earlier files hold from this step on counts as undone; for resumed runs.

    Raises:
        TensorBoardError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise TensorBoardError("event files need tensorboardX: pip install 'chainrule[tensorboard]'") from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step or None)

    def record(self, event: str, values: Mapping[str, Any]) -> None:
        """Add one point to the curve of each number; `values` are those of a line of metrics."""
        step = values["step"]
        for name, value in values.items():
            if event == "layers" and name == "layers":
                for row in value:
                    for key in ("grad_norm", "update_ratio"):
                        if key in row:
                            self._writer.add_scalar(f"{key}/{row['name'] or 'model'}", row[key], step)
            elif name not in ("step", "epoch"):
                self._writer.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()
