"""A logged stack shows lines of code, never the values they worked on."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import structlog
from runtime import telemetry

telemetry.configure("auth", log_level="info", log_format=sys.argv[1], metrics_listen="")

def check(password):
    raise RuntimeError("unforeseen")

try:
    check("planted-" + "password")
except RuntimeError:
    structlog.stdlib.get_logger().exception("unforeseen_error")
"""


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_a_logged_stack_shows_no_variables(log_format: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True, check=True
    ).stdout
    assert "RuntimeError" in output
    assert "in check" in output
    assert "planted-password" not in output
