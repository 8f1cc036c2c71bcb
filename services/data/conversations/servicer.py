"""`parley.data.v1.ConversationService`: the contract's messages to the domain's and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.data.v1 import data_pb2, data_pb2_grpc
from runtime.context import current_identity
from runtime.wellknown import timestamp
from services.data.conversations.domain import Conversation, Message, MessageState, Part, PartKind, Role, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.data.conversations.domain import Conversations, Earlier
    from services.data.search.domain import Search

_ROLES = {Role.USER: data_pb2.ROLE_USER, Role.ASSISTANT: data_pb2.ROLE_ASSISTANT}
_STATES = {
    MessageState.COMPLETE: data_pb2.MESSAGE_STATE_COMPLETE,
    MessageState.PARTIAL: data_pb2.MESSAGE_STATE_PARTIAL,
    MessageState.CANCELLED: data_pb2.MESSAGE_STATE_CANCELLED,
    MessageState.FAILED: data_pb2.MESSAGE_STATE_FAILED,
    MessageState.INTERRUPTED: data_pb2.MESSAGE_STATE_INTERRUPTED,
}


class ConversationServicer(data_pb2_grpc.ConversationServiceServicer):
    """Conversations over gRPC."""

    def __init__(self, conversations: Conversations, search: Search) -> None:
        self._conversations = conversations
        self._search = search

    async def CreateConversation(
        self, request: data_pb2.CreateConversationRequest, context: Any
    ) -> data_pb2.CreateConversationResponse:
        conversation = await self._conversations.create(current_identity(), request.title)
        return data_pb2.CreateConversationResponse(conversation=_conversation_pb(conversation))

    async def GetConversation(
        self, request: data_pb2.GetConversationRequest, context: Any
    ) -> data_pb2.GetConversationResponse:
        conversation = await self._conversations.get(current_identity(), request.conversation_id)
        return data_pb2.GetConversationResponse(conversation=_conversation_pb(conversation))

    async def ListConversations(
        self, request: data_pb2.ListConversationsRequest, context: Any
    ) -> data_pb2.ListConversationsResponse:
        page, token = await self._conversations.list_conversations(
            current_identity(), page_size=request.page_size, page_token=request.page_token
        )
        return data_pb2.ListConversationsResponse(conversations=map(_conversation_pb, page), next_page_token=token)

    async def UpdateConversation(
        self, request: data_pb2.UpdateConversationRequest, context: Any
    ) -> data_pb2.UpdateConversationResponse:
        conversation = await self._conversations.rename(
            current_identity(), request.conversation_id, request.title, if_untitled=request.if_untitled
        )
        return data_pb2.UpdateConversationResponse(conversation=_conversation_pb(conversation))

    async def DeleteConversation(
        self, request: data_pb2.DeleteConversationRequest, context: Any
    ) -> data_pb2.DeleteConversationResponse:
        await self._conversations.delete(current_identity(), request.conversation_id)
        return data_pb2.DeleteConversationResponse()

    async def SelectBranch(self, request: data_pb2.SelectBranchRequest, context: Any) -> data_pb2.SelectBranchResponse:
        conversation = await self._conversations.select_branch(
            current_identity(), request.conversation_id, request.message_id
        )
        return data_pb2.SelectBranchResponse(conversation=_conversation_pb(conversation))

    async def SearchConversations(
        self, request: data_pb2.SearchConversationsRequest, context: Any
    ) -> data_pb2.SearchConversationsResponse:
        page, token = await self._search.find(
            current_identity(), request.query, page_size=request.page_size, page_token=request.page_token
        )
        results = (
            data_pb2.SearchResult(
                conversation=_conversation_pb(found.conversation),
                message_id=found.message_id or "",
                snippet=found.snippet,
            )
            for found in page
        )
        return data_pb2.SearchConversationsResponse(results=results, next_page_token=token)

    async def ListMessages(self, request: data_pb2.ListMessagesRequest, context: Any) -> data_pb2.ListMessagesResponse:
        page, token = await self._conversations.list_messages(
            current_identity(), request.conversation_id, page_size=request.page_size, page_token=request.page_token
        )
        return data_pb2.ListMessagesResponse(messages=map(message_pb, page), next_page_token=token)


def message_pb(message: Message) -> data_pb2.Message:
    """Returns a message as the contract spells it."""
    return data_pb2.Message(
        id=message.id,
        conversation_id=message.conversation_id,
        run_id=message.run_id,
        parent_id=message.parent_id or "",
        role=_ROLES[message.role],
        parts=[_part_pb(part) for part in message.parts],
        state=_STATES[message.state],
        model=message.model,
        usage=None if message.usage is None else _usage_pb(message.usage),
        create_time=timestamp(message.created_at),
        sibling_ids=message.sibling_ids,
    )


def spell_history(history: Iterable[Earlier], spelt: Any) -> None:
    """Adds what was said before to a response's messages, as the contract spells it: who, and what.

    Made in its place: a message that is made by itself is copied into the response, at twice the cost.
    """
    for earlier in history:
        parts = spelt.add(role=_ROLES[earlier.role]).parts
        for part in earlier.parts:
            if part.kind is PartKind.TEXT:
                parts.add(text=part.text)
            else:
                parts.append(_part_pb(part))


def part_of(part: data_pb2.Part) -> Part:
    """Returns a part of a request; its kind is None where it has none that we know."""
    match part.WhichOneof("kind"):
        case "text":
            return Part(PartKind.TEXT, part.text)
        case "reasoning":
            return Part(PartKind.REASONING, part.reasoning)
        case "tool_use":
            use = part.tool_use
            return Part(PartKind.TOOL_USE, use.input_json, use.tool_call_id, use.name)
        case "tool_result":
            result = part.tool_result
            return Part(PartKind.TOOL_RESULT, result.content, result.tool_call_id, result.name, result.is_error)
    return Part(None, "")


def usage_of(usage: data_pb2.Usage) -> Usage:
    """Returns the usage of a request."""
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=usage.cost_usd if usage.HasField("cost_usd") else None,
        estimated=usage.estimated,
    )


def _part_pb(part: Part) -> data_pb2.Part:
    kind = part.kind
    if kind is PartKind.TEXT:
        return data_pb2.Part(text=part.text)
    if kind is PartKind.REASONING:
        return data_pb2.Part(reasoning=part.text)
    if kind is PartKind.TOOL_USE:
        use = data_pb2.ToolUse(tool_call_id=part.tool_call_id, name=part.name, input_json=part.text)
        return data_pb2.Part(tool_use=use)
    result = data_pb2.ToolResult(
        tool_call_id=part.tool_call_id, name=part.name, content=part.text, is_error=part.is_error
    )
    return data_pb2.Part(tool_result=result)


def _usage_pb(usage: Usage) -> data_pb2.Usage:
    return data_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=usage.cost_usd,
        estimated=usage.estimated,
    )


def _conversation_pb(conversation: Conversation) -> data_pb2.Conversation:
    return data_pb2.Conversation(
        id=conversation.id,
        title=conversation.title,
        create_time=timestamp(conversation.created_at),
        update_time=timestamp(conversation.updated_at),
        head_message_id=conversation.head_message_id or "",
    )
