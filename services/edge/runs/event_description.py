"""How the API's description tells of event streams."""

from __future__ import annotations

from typing import Any

_EXAMPLE = """\
: ok

id: 0193…:1
event: run
data: {"run_id":"0193…","seq":1,"conversation_id":"…","message_id":"…","user_message_id":"…","model":"fast"}

id: 0193…:4
event: text
data: {"run_id":"0193…","seq":4,"delta":"Because","offset":0}

id: 0193…:9
event: done
data: {"run_id":"0193…","seq":9,"status":"completed","message_id":"…","model":"…"}

"""
_NAMES = [
    *("run", "user_message", "thinking", "progress", "text", "reasoning", "tool_use", "tool_result", "reset", "usage"),
    *("done", "error"),
]
_EVENT = {
    "title": "RunEvent",
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "`<run_id>:<seq>`: what to come back with."},
        "event": {"type": "string", "enum": _NAMES},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_ABOUT_RUN = """\
The run's events: `run`, `user_message`, `thinking`, `progress`, `text`, `reasoning`, `tool_use`, `tool_result`, `reset`, `usage`, and at last \
`done` or `error`. Ignore names you do not know.

A `text` takes the place of everything from its `offset` on, counted in Unicode code points. A `reset` says that a step is done again: drop the \
text from its `offset` on, and the reasoning and the tool calls of that step: a `tool_use` names the `step` it belongs to.

A stream that ends without `done` or `error` was cut off: go on from `GET /v1/runs/{run_id}/events` with the last id you saw.\
"""
_ABOUT_CONVERSATION = """\
The events of each run of the conversation, as `GET /v1/runs/{run_id}/events` has them; tell the runs apart by `run_id`. After a cursor the rest \
of its run and all later runs; without one the runs that are active now and all later ones.

It never ends by itself: when it is cut off, open it again with the last id you saw. Where runs overlap, only the oldest has ids: what you know \
of the others comes again, under the same `seq`.\
"""


def _stream(description: str) -> dict[int | str, dict[str, Any]]:
    content = {"text/event-stream": {"itemSchema": _EVENT, "example": _EXAMPLE}}
    return {200: {"description": description, "content": content}}


RUN_STREAM = _stream(_ABOUT_RUN)
"""The answer that is one run's events."""
CONVERSATION_STREAM = _stream(_ABOUT_CONVERSATION)
"""The answer that is a conversation's events."""
