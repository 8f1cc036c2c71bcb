"""The running system, as the end-to-end tests see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.stack import Stack
    from tests.e2e.spans import Spans
    from tests.fakes.llm_provider import ScriptedProvider

PROVIDER_KEY = "sk-planted-provider-key-4f1d9c"
ALLOWED_ORIGIN = "https://app.example.com"


@dataclass(frozen=True)
class System:
    """Parley, running.

    Attributes:
        edge_url: Where people talk to it.
        provider: The model provider behind it.
        services: `host:port` of each service, by name.
        logs_dir: Where each process writes its log.
        spans: What the processes have exported.
        stack: The supervisor.
    """

    edge_url: str
    provider: ScriptedProvider
    services: dict[str, str]
    logs_dir: Path
    spans: Spans
    stack: Stack
