"""What `make run` tells a person."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.home import Home
from deploy.local.run import _announce

if TYPE_CHECKING:
    from pathlib import Path

ALL, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({ALL: "http://all:4317"}, "http://all:4317"),
        ({TRACES: "http://traces:4317"}, "http://traces:4317"),
        ({ALL: "http://all:4317", TRACES: "http://traces:4317"}, "http://traces:4317"),
    ],
    ids=["all", "traces", "both"],
)
async def test_it_names_the_place_that_traces_are_sent_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], place: str
) -> None:
    for name in (ALL, TRACES):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    home = Home(tmp_path)
    home.log("gateway").parent.mkdir(parents=True, exist_ok=True)
    home.log("gateway").write_text("")
    lines: list[str] = []
    stack: Any = SimpleNamespace(
        traces_url=None,
        edge_url="http://127.0.0.1:8080",
        edge_urls=("http://127.0.0.1:8080",),
        home=home,
        instances=lambda service: (service,),
    )
    progress: Any = SimpleNamespace(say=lambda line="", _style="": lines.append(line))
    await _announce(stack, progress)
    assert f"  traces  sent to {place}" in lines
