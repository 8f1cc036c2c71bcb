"""A tool with an effect that nobody can take back: it adds a line to a file. Chat loads it by its name."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.provider import TOOL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from services.chat.tools.tool import ToolContext

LEDGER = "PARLEY_CHAOS_LEDGER"
"""The variable that names the file."""
_TAKES_S = 0.4


@dataclass(frozen=True)
class Effect:
    """One line of the ledger.

    Attributes:
        task: Id of the task whose model called the tool.
        run_id: The run.
        tool_call_id: The call.
        pid: The process that did it.
        at: Seconds since the epoch.
    """

    task: str
    run_id: str
    tool_call_id: str
    pid: int
    at: float


class NoteEffect:
    """Writes down that it was called; half of its time passes before the effect and half after it, so that a crash can hit either."""

    name = TOOL
    description = "Notes something down, once and for all."
    parameters = {  # noqa: RUF012 - the interface wants a mapping
        "type": "object",
        "properties": {"task": {"type": "string"}},
        "required": ["task"],
        "additionalProperties": False,
    }
    permission = ""
    read_only = False
    idempotent = False
    timeout_s = 20.0
    result_max_bytes = 1_000

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Adds the line."""
        await asyncio.sleep(_TAKES_S / 2)
        effect = Effect(arguments["task"], context.run_id, context.tool_call_id, os.getpid(), time.time())
        descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (json.dumps(effect.__dict__) + "\n").encode())
        finally:
            os.close(descriptor)
        await asyncio.sleep(_TAKES_S / 2)
        return "Noted."


NOTE_EFFECT = NoteEffect()


def effects(ledger: Path) -> list[Effect]:
    """Returns what has been done, in order."""
    try:
        lines = pathlib.Path(ledger).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Effect(**json.loads(line)) for line in lines]
