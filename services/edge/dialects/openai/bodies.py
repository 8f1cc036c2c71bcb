"""What requests hold; members that are not listed here are accepted and have no effect."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from runtime.errors import InvalidArgument
from runtime.validation import invalid

T = TypeVar("T")


class TextPart(Struct, tag_field="type", tag="text"):
    """Words."""

    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    """Words in which the model declined."""

    refusal: str


class ImageUrl(Struct):
    """Where a picture is."""

    url: str
    detail: str = ""


class ImagePart(Struct, tag_field="type", tag="image_url"):
    """A picture."""

    image_url: ImageUrl


class CalledFunction(Struct):
    """What was called."""

    name: str
    arguments: str


class CalledTool(Struct):
    """A call the assistant made."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class System(Struct, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextPart]


class Developer(Struct, tag_field="role", tag="developer"):
    """Instructions, by their newer name."""

    content: str | list[TextPart]


class User(Struct, tag_field="role", tag="user"):
    """What the person says."""

    content: str | list[TextPart | ImagePart]


class Assistant(Struct, tag_field="role", tag="assistant"):
    """What the model said."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    tool_calls: list[CalledTool] | None = None


class ToolResult(Struct, tag_field="role", tag="tool"):
    """What a tool answered."""

    tool_call_id: str
    content: str | list[TextPart]


Message = System | Developer | User | Assistant | ToolResult


class Function(Struct):
    """A function the model may call; `parameters` is passed on as it stands."""

    name: str
    description: str | None = None
    parameters: Raw = Raw()


class OfferedTool(Struct):
    """A tool on offer."""

    function: Function
    type: Literal["function"] = "function"


class FunctionName(Struct):
    """Which function."""

    name: str


class NamedTool(Struct, tag_field="type", tag="function"):
    """The tool that must be called."""

    function: FunctionName


class AnswerSchema(Struct):
    """A schema the answer must follow."""

    name: str
    schema: Raw = Raw()
    description: str | None = None
    strict: bool | None = None


class AsText(Struct, tag_field="type", tag="text"):
    """No shape."""


class AsObject(Struct, tag_field="type", tag="json_object"):
    """Any JSON object."""


class AsSchema(Struct, tag_field="type", tag="json_schema"):
    """What a schema says."""

    json_schema: AnswerSchema


class StreamOptions(Struct):
    """What else is streamed."""

    include_usage: bool | None = None


Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class ChatBody(Struct):
    """Body of `POST /chat/completions`."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1, max_length=1000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: AsText | AsObject | AsSchema | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    n: int | None = None
    modalities: list[str] | None = None
    functions: Any = None
    function_call: Any = None


class EmbeddingBody(Struct):
    """Body of `POST /embeddings`."""

    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=100_000)] | None = None


_PLACE = re.compile(r"^(?P<sentence>.*?)(?: - at `\$\.?(?P<place>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(\w+)`$")
_LONGEST_SENTENCE = 200


class Reader:
    """Reads bodies of one shape.

    Args:
        shape: The struct.
    """

    def __init__(self, shape: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(shape)

    def read(self, body: bytes) -> Any:
        """Returns what a body holds.

        Raises: InvalidArgument: metadata `field` says where it is wrong, as `messages[0].content`.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _told(str(error)) from None
        except (ValueError, RecursionError):
            raise InvalidArgument("The body is not valid JSON.") from None


def _told(said: str) -> InvalidArgument:
    match = _PLACE.match(said)
    sentence, place = (match["sentence"], match["place"] or "") if match else (said, "")
    if (missing := _MISSING.match(sentence)) is not None:
        return invalid(f"{place}.{missing[1]}".lstrip("."), "is required.")
    if sentence.startswith(("Invalid value", "Invalid enum value")):
        sentence = "is not one of the values that are taken."  # not repeating what it was
    else:
        sentence = sentence[:_LONGEST_SENTENCE].replace("`", "").replace("Expected", "must be")
        sentence = f"{sentence}." if not sentence.endswith(".") else sentence
    return invalid(place or "body", sentence)
