"""`make run`: brings a stack up, says where it is, and takes it down on Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING

from deploy.local.home import HomeTakenError
from deploy.local.progress import Progress
from deploy.local.stack import Stack
from deploy.local.unit import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.local.settings import Settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run(settings: Settings) -> int:
    """Runs Parley until a signal and returns the exit status: 0, or 1 where it could not start.

    A second signal takes the grace from calls under way; data is never left in a hurry.
    """
    progress = Progress()
    stack = Stack(settings, on_change=progress.changed)
    signals: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, signals.put_nowait, None)
    first = asyncio.create_task(signals.get())
    starting = asyncio.create_task(stack.start())
    progress.say(f"Parley starts in {stack.home.path}")
    progress.begin(stack.members)
    await asyncio.wait({first, starting}, return_when=asyncio.FIRST_COMPLETED)
    progress.end()
    if starting.done():
        try:
            starting.result()
        except (StartError, HomeTakenError, OSError) as error:
            progress.say(f"\n{error}", "bold red")
            return 1
        await _announce(stack, progress)
        await first
    progress.say("\nStopping; press Ctrl-C again to cut what is under way.")
    starting.cancel()
    await asyncio.wait({starting})
    stopping = asyncio.create_task(stack.stop())
    second = asyncio.create_task(signals.get())
    await asyncio.wait({stopping, second}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait({stopping})
        await stack.stop(hurry=True)
    second.cancel()
    progress.say("Stopped.")
    return 0


async def _announce(stack: Stack, progress: Progress) -> None:
    """Says the one URL a person needs, and where else to look."""
    progress.say()
    progress.say(f"Parley is ready: {stack.edge_url}", "bold green")
    for another in stack.edge_urls[1:]:
        progress.say(f"  also    {another}")
    progress.say(f"  traces  {stack.traces_url or 'sent to ' + _traces_elsewhere(os.environ)}")
    progress.say(f"  logs    {stack.home.logs}")
    providers = _providers(stack.home.log(stack.instances("gateway")[0]))
    if providers == ["demo"]:
        progress.say("  models  no provider was found: a demo answers, which is not a language model.", "yellow")
        progress.say("          Set OPENAI_API_KEY, ANTHROPIC_API_KEY or another provider's key to use one.", "yellow")
    elif providers:
        progress.say(f"  models  {', '.join(providers)}")
    progress.say("  stop    Ctrl-C")


def _traces_elsewhere(environ: Mapping[str, str]) -> str:
    """Returns the place for traces that the user has named; OpenTelemetry's narrower variable comes first."""
    return environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


def _providers(log: Path) -> list[str]:
    """Returns the providers that the gateway said it found, none where it did not say."""
    found: list[str] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "providers_found":
                found = event["providers"]
    return found
