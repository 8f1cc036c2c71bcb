"""One call of a tool: checked, bounded in time and length, and told to the model in words, whatever happens."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import structlog

from runtime import telemetry
from services.chat import metrics
from services.chat.domain import ToolResult
from services.chat.tools.tool import ToolContext, ToolError, repeatable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.chat.domain import ToolUse
    from services.chat.tools.registry import Toolbox
    from services.chat.tools.tool import Tool

log = structlog.stdlib.get_logger()

NOT_CALLED = "The tool was not called: what had been written before it could not be stored just now. Try again later."
_PROGRESS_MAX_CHARS = 200
_PROGRESS_MOST = 100
_running: set[asyncio.Task[str]] = set()
"""Calls, until they have really ended: one that does not heed its cancellation ends when it likes, and nobody waits for it."""


def arguments_of(text: str) -> dict[str, Any] | None:
    """Returns the arguments a model has written; None where they are no JSON object. No text at all stands for no arguments."""
    try:
        value = json.loads(text or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def fault(box: Toolbox, use: ToolUse) -> str:
    """Returns why a call cannot be made, in words for the model; empty: it can."""
    item = box.find(use.name)
    if item is None:
        names = ", ".join(offer.name for offer in box.offers) or "none"
        return f"There is no tool {use.name}. There are: {names}."
    if not box.may_use(item.tool):
        return f"The user may not use the tool {use.name}."
    arguments = arguments_of(use.input_json)
    if arguments is None:
        return "The arguments are no JSON object."
    wrong = item.fault(arguments)
    return f"The arguments do not fit the tool: {wrong}" if wrong else ""


async def call(
    box: Toolbox, use: ToolUse, *, run_id: str, progress: Callable[[str], None], room_bytes: Callable[[], int]
) -> ToolResult:
    """Calls a tool whose call has no fault.

    Args:
        box: Where the tool is.
        use: The call.
        run_id: UUID of the run.
        progress: Tells the user what the tool is doing.
        room_bytes: Says, once the tool has answered, how much of it there is room for.
    """
    item = box.find(use.name)
    arguments = arguments_of(use.input_json)
    if item is None or arguments is None:
        return failed(use, fault(box, use))
    tool = item.tool
    said = _Said(progress)
    context = ToolContext(box.identity, run_id, use.tool_call_id, said)
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool.name,
        "gen_ai.tool.call.id": use.tool_call_id,
    }
    began = time.perf_counter()
    with telemetry.span(f"execute_tool {tool.name}", attributes=attributes) as span:
        try:
            content, outcome = await _bounded(tool, arguments, context), ""
        except ToolError as error:
            content, outcome = str(error) or "The tool failed.", "tool_error"
        except TimeoutError:
            content, outcome = _late(tool), "timeout"
        except Exception:
            # Whatever it says may hold what nobody here may see.
            log.exception("tool_failed", tool=tool.name, run_id=run_id)
            content, outcome = "The tool failed with an internal error.", "internal"
        finally:
            said.over = True
        if outcome:
            telemetry.fail(span, outcome)
        metrics.TOOL_SECONDS.labels(tool.name, outcome or "ok").observe(time.perf_counter() - began)
    return ToolResult(
        use.tool_call_id, tool.name, _cut(content, min(tool.result_max_bytes, room_bytes())), is_error=bool(outcome)
    )


def failed(use: ToolUse, why: str) -> ToolResult:
    """Returns the result of a call that was not made."""
    return ToolResult(use.tool_call_id, use.name, why, is_error=True)


class _Said:
    """What a tool tells the user while it runs: not too much, not too long, nothing afterwards."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.over = False
        self._progress = progress
        self._left = _PROGRESS_MOST

    def __call__(self, message: str) -> None:
        if self._left and not self.over:
            self._left -= 1
            self._progress(_clean(message)[:_PROGRESS_MAX_CHARS])


async def _bounded(tool: Tool, arguments: Mapping[str, Any], context: ToolContext) -> str:
    """Returns what a tool says.

    Raises: TimeoutError: it took too long. Otherwise whatever the tool raises.
    """
    # A task of its own: a tool's own trouble with cancellations is not taken for the run's, and a tool that does not heed one holds nobody up.
    task = asyncio.create_task(_said_by(tool, arguments, context))
    _running.add(task)
    task.add_done_callback(_forget)
    try:
        done, _ = await asyncio.wait([task], timeout=tool.timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise TimeoutError
    if task.cancelled():
        raise RuntimeError("the tool has cancelled itself")
    return task.result()


async def _said_by(tool: Tool, arguments: Mapping[str, Any], context: ToolContext) -> str:
    said: Any = await tool.call(arguments, context)
    if not isinstance(said, str):
        raise TypeError(f"the tool returned {type(said).__name__}")
    return said


def _forget(task: asyncio.Task[str]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # seen: nobody else may be there to take it


def _late(tool: Tool) -> str:
    late = f"The tool did not answer within {tool.timeout_s:g} seconds."
    return late if repeatable(tool) else f"{late} It is not known whether it took effect."


def _cut(text: str, max_bytes: int) -> str:
    text = _clean(text)
    raw = text.encode()
    if len(raw) <= max_bytes:
        return text
    note = f"\n[Cut off: these are the first {max_bytes} of {len(raw)} bytes.]"
    return raw[:max_bytes].decode(errors="ignore") + note


def _clean(text: str) -> str:
    """Returns a text without what cannot be stored or sent: U+0000 and halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _refuse(constant: str) -> None:
    raise ValueError(constant)
