"""The interface of a tool: what it says of itself, and what it is given when it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from runtime.context import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping


class ToolError(Exception):
    """The tool cannot do what it was asked; the model is told its text, so that it can try otherwise or say so."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom and for what a tool is called.

    Attributes:
        identity: Whose run it is.
        run_id: UUID of the run.
        tool_call_id: Id of the call, the same when it is repeated: an idempotency key.
        progress: Tells the user in a few words what the tool is doing; may be called any number of times.
    """

    identity: Identity
    run_id: str
    tool_call_id: str
    progress: Callable[[str], None]


@runtime_checkable
class Tool(Protocol):
    """Something that a model may call.

    Attributes:
        name: 1-64 characters of [A-Za-z0-9_-].
        description: What it does, for the model.
        parameters: JSON schema of its arguments, of type object.
        permission: What the caller's role must carry, `resource:action`; empty: nothing.
        read_only: It changes nothing.
        idempotent: Called twice with one `tool_call_id` it changes no more than called once.
        timeout_s: Longest time a call may take.
        result_max_bytes: Longest answer a model is given, in UTF-8; the rest is cut off.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    permission: str
    read_only: bool
    idempotent: bool
    timeout_s: float
    result_max_bytes: int

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Does it.

        Args:
            arguments: They fit the schema.
            context: For whom and for what.

        Returns: what the model is told.
        Raises: ToolError: with words for the model. Whatever else is raised is told as an internal error.
        """


def repeatable(tool: Tool) -> bool:
    """Says whether a call of which nobody knows whether it took effect may be made again."""
    return tool.read_only or tool.idempotent
