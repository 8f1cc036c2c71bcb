"""Tools that leave a trace: a line in the file that `PARLEY_TEST_TRACES` names, for every time they took effect."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.chat.tools.tool import ToolContext, ToolError


def traces() -> list[str]:
    """Returns the ids of the calls that took effect, in order; one that took effect twice is there twice."""
    path = Path(os.environ["PARLEY_TEST_TRACES"])
    return path.read_text().split() if path.exists() else []


def _leave(trace: str) -> None:
    with Path(os.environ["PARLEY_TEST_TRACES"]).open("a") as file:
        file.write(f"{trace}\n")


@dataclass
class Trace:
    """Takes effect, and then answers, fails or hangs as its argument `then` says."""

    name: str
    read_only: bool = False
    idempotent: bool = False
    permission: str = ""
    description: str = "Leaves a trace."
    timeout_s: float = 30.0
    result_max_bytes: int = 10_000
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {
            "type": "object",
            "properties": {"then": {"enum": ["answer", "fail", "break", "hang"]}},
            "additionalProperties": False,
        }
    )

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        _leave(context.tool_call_id)
        context.progress("Left a trace")
        match arguments.get("then", "answer"):
            case "fail":
                raise ToolError("It could not be done.")
            case "break":
                raise RuntimeError("secret words")
            case "hang" if len(traces()) == 1:
                await asyncio.Event().wait()
        return f"trace {len(traces())}"


@dataclass
class Bulk:
    """Says a mebibyte, and would say more."""

    name: str = "bulk"
    read_only: bool = True
    idempotent: bool = True
    permission: str = ""
    description: str = "Says much."
    timeout_s: float = 30.0
    result_max_bytes: int = 2**20
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        return "é" * 2**20


PAY = Trace("pay")
LOOK = Trace("look", read_only=True)
RULE = Trace("rule", permission="run:admin")
BULK = Bulk()
PLACES = tuple(f"tests.contract.chat.effects:{name}" for name in ("PAY", "LOOK", "RULE"))
