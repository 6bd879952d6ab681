"""A reporter that breaks a run off, as a crash would."""

import io

from chainrule.train import Reporter


class Stop(Exception):
    pass


class StopAfter(Reporter):
    """Raises `Stop` after a step."""

    def __init__(self, step):
        super().__init__(io.StringIO())
        self.step = step

    def update(self, status):
        if status.step == self.step:
            raise Stop
