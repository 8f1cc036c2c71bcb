"""What the conversations API takes and gives."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from parley.data.v1 import data_pb2
from services.edge import tool_input
from services.edge.description import one_of
from services.edge.problems import InvalidRequest

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-21T09:30:00.123456Z"])]


def without_nul(text: str | None) -> str | None:
    """Refuses U+0000, which Postgres cannot store."""
    if text is not None and "\x00" in text:
        raise PydanticCustomError("nul", "must not hold the character U+0000.")
    return text


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewConversation(_Request):
    """A conversation to be."""

    title: Annotated[str | None, Field(max_length=200, examples=["Holiday plans"])] = None


class Change(_Request):
    """A new title, another branch, or both."""

    model_config = ConfigDict(json_schema_extra=one_of((("title",), ()), (("head_message_id",), ())))

    title: Annotated[
        str | None, Field(min_length=1, max_length=200, examples=["Holiday plans"]), AfterValidator(without_nul)
    ] = None
    head_message_id: Annotated[
        UUID | None,
        Field(description="A message of it: the conversation goes to its branch, to the newest message below it."),
    ] = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        """Raises: InvalidRequest, which pydantic lets through: it names the field."""
        if self.title is None and self.head_message_id is None:
            raise InvalidRequest([("title", "is required, unless head_message_id is given.")])
        return self


class Conversation(BaseModel):
    """A conversation."""

    id: str
    title: Annotated[str, Field(description="Empty until one is given or made.")]
    created_at: Instant
    updated_at: Annotated[Instant, Field(description="When a message last came or the title changed.")]
    head_message_id: Annotated[
        str | None, Field(description="The newest message of the branch it is on; null while it has none.")
    ]

    @classmethod
    def of(cls, conversation: data_pb2.Conversation) -> Self:
        """Converts what data answers."""
        return cls(
            id=conversation.id,
            title=conversation.title,
            created_at=conversation.create_time.ToJsonString(),
            updated_at=conversation.update_time.ToJsonString(),
            head_message_id=conversation.head_message_id or None,
        )


class Match(BaseModel):
    """What a search has found in a conversation."""

    message_id: Annotated[str, Field(description="The best matching message; empty where the title matches.")]
    snippet: Annotated[str, Field(description="Plain text around the match.")]


class ListedConversation(Conversation):
    """A conversation in a list."""

    match: Annotated[Match | None, Field(description="With `q` only.")] = None

    @classmethod
    def found(cls, result: data_pb2.SearchResult) -> Self:
        """Converts what data has found."""
        listed = cls.of(result.conversation)
        listed.match = Match(message_id=result.message_id, snippet=result.snippet)
        return listed


class ConversationPage(BaseModel):
    """Conversations, the most recently active first; with `q` the best match first."""

    conversations: list[ListedConversation]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]


class TextPart(BaseModel):
    """Text of a message."""

    type: Literal["text", "reasoning"]
    text: str


class ToolUsePart(BaseModel):
    """A call of a tool by the model."""

    type: Literal["tool_use"] = "tool_use"
    tool_call_id: Annotated[str, Field(description="Unique within the run.")]
    name: str
    input: dict[str, Any]


class ToolResultPart(BaseModel):
    """What a tool answered."""

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: Annotated[str, Field(description="The call it answers.")]
    name: str
    content: Annotated[str, Field(description="As the model got it.")]
    is_error: bool


Part = TextPart | ToolUsePart | ToolResultPart


class Usage(BaseModel):
    """Tokens a run has used."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: Annotated[int, Field(description="The part of `input_tokens` that came from the provider's cache.")]
    reasoning_tokens: Annotated[int, Field(description="The part of `output_tokens` that was reasoning.")]
    cost: Annotated[float | None, Field(description="US dollars; null when the model's price is not known.")]
    estimated: Annotated[bool, Field(description="Counted by us, since the provider did not say.")]

    @classmethod
    def of(cls, usage: data_pb2.Usage) -> Self:
        """Converts what data answers."""
        return cls(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.input_tokens + usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost=usage.cost_usd if usage.HasField("cost_usd") else None,
            estimated=usage.estimated,
        )


class Message(BaseModel):
    """A stored message."""

    id: str
    conversation_id: str
    run_id: str
    parent_id: Annotated[str | None, Field(description="The message it follows; null for the first.")]
    sibling_ids: Annotated[
        list[str],
        Field(description="All messages that follow the same one, itself included, oldest first: the branches here."),
    ]
    role: Literal["user", "assistant"]
    content: Annotated[str, Field(description="All parts of type `text`, joined.")]
    parts: list[Part]
    state: Literal["complete", "partial", "cancelled", "failed", "interrupted"]
    model: Annotated[str, Field(description="Empty for a user's message.")]
    usage: Usage | None
    created_at: Instant

    @classmethod
    def of(cls, message: data_pb2.Message) -> Self:
        """Converts what data answers."""
        parts = [part for part in map(_part, message.parts) if part is not None]
        return cls(
            id=message.id,
            conversation_id=message.conversation_id,
            run_id=message.run_id,
            parent_id=message.parent_id or None,
            sibling_ids=list(message.sibling_ids),
            role="user" if message.role == data_pb2.ROLE_USER else "assistant",
            content="".join(part.text for part in parts if isinstance(part, TextPart) and part.type == "text"),
            parts=parts,
            state=_STATES[message.state],
            model=message.model,
            usage=Usage.of(message.usage) if message.HasField("usage") else None,
            created_at=message.create_time.ToJsonString(),
        )


class MessagePage(BaseModel):
    """Messages, oldest first."""

    messages: list[Message]
    next_page_token: Annotated[str, Field(description="Leads to older messages; empty when there are none.")]


_STATES: dict[int, Literal["complete", "partial", "cancelled", "failed", "interrupted"]] = {
    data_pb2.MESSAGE_STATE_COMPLETE: "complete",
    data_pb2.MESSAGE_STATE_PARTIAL: "partial",
    data_pb2.MESSAGE_STATE_CANCELLED: "cancelled",
    data_pb2.MESSAGE_STATE_FAILED: "failed",
    data_pb2.MESSAGE_STATE_INTERRUPTED: "interrupted",
}


def _part(part: data_pb2.Part) -> Part | None:
    match part.WhichOneof("kind"):
        case "text":
            return TextPart(type="text", text=part.text)
        case "reasoning":
            return TextPart(type="reasoning", text=part.reasoning)
        case "tool_use":
            use = part.tool_use
            return ToolUsePart(tool_call_id=use.tool_call_id, name=use.name, input=tool_input.parsed(use.input_json))
        case "tool_result":
            result = part.tool_result
            return ToolResultPart(
                tool_call_id=result.tool_call_id, name=result.name, content=result.content, is_error=result.is_error
            )
    return None  # a kind that a newer data knows and this edge does not
