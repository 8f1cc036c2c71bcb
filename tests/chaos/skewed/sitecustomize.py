"""Imported by Python itself at its start: turns this process's wall clock back or ahead.

Only `time.time` is wrong, which is what leases, tokens and pauses are reckoned by; `datetime.now` is written in C and reads the kernel's clock.
"""

import os
import time

_BY_S = float(os.environ["PARLEY_CHAOS_CLOCK_OFF_BY_S"])
_right_time = time.time


def _time() -> float:
    return _right_time() + _BY_S


time.time = _time
