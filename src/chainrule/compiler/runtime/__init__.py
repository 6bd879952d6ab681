"""Running a schedule: native functions, their table of pointers, what NumPy does in between, the disk cache."""

from .build import build
from .program import Program

__all__ = ["Program", "build"]
