"""The compiler: whole training steps as native code.

trace → passes → schedule → memory → code → runtime. Each stage is a small package whose input
and output can be printed and tested by themselves.
"""

from .compile import Compiled, compile
from .control import cond, scan

__all__ = ["Compiled", "compile", "cond", "scan"]
