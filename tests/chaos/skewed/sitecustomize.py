"""Imported by Python itself at its start: turns this process's wall clock back or ahead.

Only `time.time` is wrong, which is what tokens and pauses are reckoned by; `datetime.now` is written in C and reads the kernel's clock.
"""

import importlib
import os
import time
import types

_BY_S = float(os.environ["PARLEY_CHAOS_CLOCK_OFF_BY_S"])
_right_time = time.time

# gRPC makes an instant of a timeout by `time.time` and compares it with the kernel's clock: on a machine whose clock is wrong both are one.
_right = types.ModuleType("time")
_right.__dict__.update(time.__dict__)
for _name in ("grpc._cython.cygrpc", "grpc._channel", "grpc.aio._utils"):
    vars(importlib.import_module(_name))["time"] = _right


def _time() -> float:
    return _right_time() + _BY_S


time.time = _time
