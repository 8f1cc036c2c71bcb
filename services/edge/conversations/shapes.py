"""What the conversations API takes and gives."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from parley.data.v1 import data_pb2

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-21T09:30:00.123456Z"])]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewConversation(_Request):
    """A conversation to be."""

    title: Annotated[str | None, Field(max_length=200, examples=["Holiday plans"])] = None


class Rename(_Request):
    """A new title."""

    title: Annotated[str, Field(min_length=1, max_length=200, examples=["Holiday plans"])]


class Conversation(BaseModel):
    """A conversation."""

    id: str
    title: Annotated[str, Field(description="Empty until one is given or made.")]
    created_at: Instant
    updated_at: Annotated[Instant, Field(description="When a message last came or the title changed.")]

    @classmethod
    def of(cls, conversation: data_pb2.Conversation) -> "Conversation":
        """Converts what data answers."""
        return cls(
            id=conversation.id,
            title=conversation.title,
            created_at=conversation.create_time.ToJsonString(),
            updated_at=conversation.update_time.ToJsonString(),
        )


class ConversationPage(BaseModel):
    """Conversations, the most recently active first."""

    conversations: list[Conversation]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]


class Part(BaseModel):
    """One piece of a message."""

    type: Literal["text", "reasoning"]
    text: str


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
    def of(cls, usage: data_pb2.Usage) -> "Usage":
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
    role: Literal["user", "assistant"]
    content: Annotated[str, Field(description="All parts of type `text`, joined.")]
    parts: list[Part]
    state: Literal["complete", "partial", "cancelled", "failed", "interrupted"]
    model: Annotated[str, Field(description="Empty for a user's message.")]
    usage: Usage | None
    created_at: Instant

    @classmethod
    def of(cls, message: data_pb2.Message) -> "Message":
        """Converts what data answers."""
        parts = [part for part in map(_part, message.parts) if part is not None]
        return cls(
            id=message.id,
            conversation_id=message.conversation_id,
            run_id=message.run_id,
            parent_id=message.parent_id or None,
            role="user" if message.role == data_pb2.ROLE_USER else "assistant",
            content="".join(part.text for part in parts if part.type == "text"),
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
    kind = part.WhichOneof("kind")
    if kind is None:  # a kind that a newer data knows and this edge does not
        return None
    return Part(type=kind, text=getattr(part, kind))
