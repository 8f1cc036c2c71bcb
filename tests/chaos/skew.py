"""A wrong clock for one process: its wall clock, as Python code reads it, is off by some seconds; its monotonic clock is right.

Behind it may be by less than the five seconds that tokens allow: further behind, an instance refuses every new token, as it should.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "PARLEY_CHAOS_CLOCK_OFF_BY_S"
_FOLDER = Path(__file__).with_name("skewed")


def environment(env: Mapping[str, str], by_s: float) -> dict[str, str]:
    """Returns a process's environment in which its clock is off by so many seconds.

    Python imports a module `sitecustomize` from the path before anything else; ours turns `time.time` back or ahead.
    """
    return {**env, "PYTHONPATH": f"{_FOLDER}:{env['PYTHONPATH']}", VARIABLE: str(by_s)}
