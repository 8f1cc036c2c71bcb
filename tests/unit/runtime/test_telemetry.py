"""Where spans go."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CONFIGURE = """
import sys
from runtime import telemetry
telemetry.configure("test", log_level="info", log_format="json", metrics_listen="")
print("opentelemetry.exporter.otlp.proto.grpc.trace_exporter" in sys.modules)
"""


@pytest.mark.parametrize(
    ("variables", "exports"),
    [
        ({}, "False"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "True"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, "False"),
    ],
)
def test_spans_are_exported_where_an_endpoint_is_named_and_not_declined(
    variables: dict[str, str], exports: str
) -> None:
    """In a process of its own: telemetry is set up once per process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    found = subprocess.run(
        [sys.executable, "-c", _CONFIGURE], env=kept | variables, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == exports
