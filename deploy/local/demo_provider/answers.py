"""What the demo model says: a fixed set of answers, chosen by words in the message, told to be a demo.

The words it understands, anywhere in a message, in any combination:

    list, table, code   shows that piece of Markdown
    long                says some 400 words
    think               thinks aloud first (reasoning)
    slow                4 words a second instead of 40
    context             lists what it was given: role and beginning of every message
    help                lists these words

and as a message of their own:

    error               fails before the first word (500)
    error 429           is busy before the first word (429, Retry-After)
    error late          breaks off in the middle
    stall               stops in the middle and never ends

It calls the tools it is offered that the message names, all at once, and those that a question is about: "What time is it?" calls
`current_time`. Arguments may follow a name as a JSON object, else they are made up from the tool's schema. Then it answers from the
results. Asked for a conversation's title it says the first words. Everything else it answers by quoting what was said, and how often one
spoke before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

Fault = Literal["", "server_error", "busy", "break", "stall"]

LABEL = "This is Parley's demo model, not a language model: no provider key was found, so nobody thinks here."

TITLES = "You name conversations."
"""How the chat service begins when it wants a title."""
_TITLE_WORDS = 6
_WORD = re.compile(r"[^\W_]+(?:_[^\W_]+)*")
_QUOTED_CHARACTERS = 400
_LISTED_CHARACTERS = 60
_FAULTS: dict[str, Fault] = {
    "error": "server_error",
    "error 429": "busy",
    "error late": "break",
    "stall": "stall",
}
_HELP = """I know these words, anywhere in your message:

| word | what you get |
|---|---|
| `list`, `table`, `code` | that piece of Markdown |
| `long` | some 400 words |
| `think` | reasoning before the answer |
| `slow` | 4 words a second |
| `context` | what I was given |

As a message of their own: `error`, `error 429`, `error late`, `stall`.
I call a tool I am offered when you name it, or ask about it: *What time is it?*"""
_LIST = """A list:

1. The browser sends your message to the **edge**.
2. The edge asks **chat**, which stores it with **data**.
3. The **gateway** asks a provider; today that is me.
   - Each word travels back the same way,
   - as soon as it is there."""
_TABLE = """A table:

| service | owns | speaks |
|---|---|---|
| edge | nothing | HTTP, SSE |
| auth | users and keys | gRPC |
| data | conversations | gRPC |
| chat | the turn | gRPC |
| gateway | providers | gRPC |"""
_CODE = """Some code:

```python
async def answer(message: str) -> AsyncIterator[str]:
    \"\"\"Yields a word at a time.\"\"\"
    for word in message.split():
        await asyncio.sleep(0.025)
        yield word + " "
```"""
_LONG = (
    "A long answer is a good test of patience, of scrolling and of the button that stops it. "
    "Every word you see left one process, crossed three others and reached you on its own, "
    "in the order in which it was said, and none of them was kept back to be sent in a heap. "
)
_LONG_REPEATS = 9
_THOUGHTS = (
    "The user wants to see me think. I do not think; I show where thoughts would stand. "
    "That seems to be enough for a demo. Now the answer."
)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool that was offered.

    Attributes:
        name: Of the tool.
        arguments: A JSON object.
    """

    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """What to say and how.

    Attributes:
        text: What to say; empty where tools are called first.
        reasoning: What to think before.
        tool_calls: What to call instead.
        slow: A tenth as fast.
        fault: What goes wrong meanwhile, if anything.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    slow: bool = False
    fault: Fault = ""


def answer(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Answer:
    """Chooses the answer to a conversation.

    Args:
        messages: In OpenAI's shape, oldest first, at least one.
        tools: In OpenAI's shape.
    """
    spoken = [_text(message) for message in messages if message.get("role") == "user"]
    *earlier, said = spoken or [_text(messages[-1])]
    if any(message.get("role") == "system" and _text(message).startswith(TITLES) for message in messages):
        return Answer(" ".join(said.split()[:_TITLE_WORDS]))
    if fault := _FAULTS.get(" ".join(said.lower().split())):
        return Answer(f"{LABEL}\n\n{_LONG}", fault=fault)
    words = set(_WORD.findall(said.lower()))
    results = _results(messages)
    if not results and (calls := tuple(_call(tool, said) for tool in tools if _wanted(tool, said, words))):
        return Answer("", tool_calls=calls)
    parts = [LABEL, f"You said: {_quote(said)}", *results]
    if earlier and not results:
        parts.append(f"Before that you said: {_quote(earlier[-1])} This is message {len(earlier) + 1} from you here.")
    shown = [
        text for word, text in (("help", _HELP), ("list", _LIST), ("table", _TABLE), ("code", _CODE)) if word in words
    ]
    if "context" in words:
        shown.append(_context(messages))
    if "long" in words:
        shown += [_LONG * 3] * (_LONG_REPEATS // 3)
    if not shown and not results:
        shown = ["Say **help** to see what I can show you. With a provider's key in the environment, a model answers."]
    slow = bool(words & {"slow", "slowly"})
    return Answer("\n\n".join([*parts, *shown]), reasoning=_THOUGHTS if "think" in words else "", slow=slow)


def pieces(text: str) -> list[str]:
    """Splits a text into words, each with the white space that follows it; joined they are the text."""
    return re.findall(r"\S+\s*|\s+", text)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _quote(text: str) -> str:
    """Quotes on one line, so that no Markdown of the user's breaks the answer's own."""
    flat = " ".join(text.split())
    return f"“{flat if len(flat) <= _QUOTED_CHARACTERS else flat[:_QUOTED_CHARACTERS] + '…'}”."


def _context(messages: list[dict[str, Any]]) -> str:
    lines = [
        f"{number}. {message.get('role')}: {' '.join(_text(message).split())[:_LISTED_CHARACTERS]}"
        for number, message in enumerate(messages, 1)
    ]
    return "\n".join([f"I was given {len(messages)} messages:", "", *lines])


def _results(messages: list[dict[str, Any]]) -> list[str]:
    """Says what the tools answered that were called last; empty where nothing was called since the user spoke."""
    names: dict[str, str] = {}
    results: list[str] = []
    for message in messages:
        if message.get("role") != "tool":
            results = []
            calls = [call for call in message.get("tool_calls") or () if isinstance(call, dict)]
            names |= {str(call.get("id")): _name(call) for call in calls}
        else:
            name = names.get(str(message.get("tool_call_id")))
            results.append(f"{f'`{name}`' if name else 'The tool'} answered: {_quote(_text(message))}")
    return results


def _wanted(tool: dict[str, Any], said: str, words: set[str]) -> bool:
    """Tells whether a message names a tool, or asks for what its name ends in: the time of `current_time`."""
    name = _name(tool).lower()
    return bool(name) and (name in words or ("?" in said and name.rpartition("_")[2] in words))


def _name(tool: dict[str, Any]) -> str:
    return str(tool.get("function", {}).get("name", ""))


def _call(tool: dict[str, Any], said: str) -> ToolCall:
    name = _name(tool)
    _, _, after = said.lower().partition(name.lower())
    after = said[len(said) - len(after) :]
    try:
        arguments, _ = json.JSONDecoder().raw_decode(after[after.index("{") :])
    except ValueError:
        arguments = _example(tool["function"].get("parameters", {}))
    return ToolCall(name, json.dumps(arguments))


def _example(schema: dict[str, Any]) -> Any:
    """Makes up a value that fits a JSON schema, its required properties alone."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties.get(name, {})) for name in schema.get("required", [])}
    simple: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "null": None}
    return simple.get(str(kind), "demo")
