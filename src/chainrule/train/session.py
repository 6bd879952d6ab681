"""What one session of a run needs besides the loop: its clock and its signals."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class Clock:
    """Time and samples of this session."""

    def __init__(self) -> None:
        self._start = self._save = time.monotonic()
        self._samples = self._steps = 0
        self._training = 0.0
        self._mark = self._start

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def count(self, samples: int) -> None:
        now = time.monotonic()
        self._samples += samples
        self._steps += 1
        self._training += now - self._mark
        self._mark = now

    def pause(self) -> None:
        """What happened since the last step was no training."""
        self._mark = time.monotonic()

    def saved(self) -> None:
        self._save = self._mark = time.monotonic()

    def since_save(self) -> float:
        return time.monotonic() - self._save

    def rate(self, steps_left: int) -> tuple[float, float]:
        """Samples a second while training, and the seconds that `steps_left` will take."""
        if not self._steps or not self._training:
            return 0.0, 0.0
        return self._samples / self._training, steps_left * self.seconds / self._steps


class Signals:
    """Notes Ctrl-C and SIGTERM instead of breaking off; a second Ctrl-C does break off."""

    def __init__(self) -> None:
        self.received = 0
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Only the main thread may install handlers; elsewhere the loop runs without them.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
