"""What is kept of responses: what was asked is listed, and both go when they are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response

from parley.data.v1 import data_pb2
from runtime.errors import FailedPrecondition, NotFound
from services.edge.dialects.openai.response_ids import response_id as response_id_of
from services.edge.dialects.openai.response_ids import run_id_of, told_as_response
from services.edge.dialects.openai.routing import Operation, router_of

if TYPE_CHECKING:
    from services.edge.clients import Services


class ConversationNotFound(NotFound):
    """There is no such conversation, or it is not the caller's."""

    reason = "CONVERSATION_NOT_FOUND"


class ResponseNotAlone(FailedPrecondition):
    """Others in its conversation were asked for knowing it."""

    reason = "RESPONSE_NOT_ALONE"


class KeptRoutes:
    """The paths below `/openai/v1/responses` and `/openai/v1/conversations` that look at what is kept, or delete it.

    Args:
        services: The services behind.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        return [
            router_of(
                Operation(
                    "GET", "/responses/{response_id}/input_items", self.input_items, "List what a response answers"
                ),
                Operation("DELETE", "/responses/{response_id}", self.delete_response, "Delete a response"),
                Operation(
                    "DELETE", "/conversations/{conversation_id}", self.delete_conversation, "Delete a conversation"
                ),
            )
        ]

    async def input_items(
        self,
        response_id: str,
        after: Annotated[str, Query(max_length=128, description="Id of the last item seen.")] = "",
        limit: Annotated[int, Query(ge=1, le=100, description="Most items of a page.")] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        """Lists what a response answers, as OpenAI's `input_items` does: here that is one message, in any order and on one page."""
        del limit, order
        stored = await self._stored(response_id)
        asked = stored.user_message
        item = {
            "id": f"msg_{UUID(asked.id).hex}",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": part.text} for part in asked.parts if part.HasField("text")],
        }
        items = [] if after == item["id"] else [item]
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": "", "last_id": ""}
        return _json({"object": "list", "data": items, "has_more": False, **ends})

    async def delete_response(self, response_id: str) -> Response:
        """Deletes a response with its conversation, which must hold no other: those were answered knowing this one.

        Raises: ResponseNotAlone; ResponseNotFound.
        """
        stored = await self._stored(response_id)
        conversation_id = stored.run.conversation_id
        listing = data_pb2.ListRunsRequest(conversation_id=conversation_id, page_size=2)
        with told_as_response():
            listed = await self._services.call(self._services.runs.ListRuns, listing)
            if len(listed.runs) > 1:
                raise ResponseNotAlone(
                    "Other responses of its conversation stand on this one; delete the conversation instead.",
                    conversation_id=conversation_id,
                )
            await self._delete(conversation_id)
        return _json({"id": response_id_of(stored.run.id), "object": "response", "deleted": True})

    async def delete_conversation(self, conversation_id: str) -> Response:
        """Deletes a conversation with all its responses.

        Raises: ConversationNotFound.
        """
        try:
            name = str(UUID(conversation_id))
            await self._delete(name)
        except (ValueError, NotFound):
            raise ConversationNotFound("There is no such conversation.") from None
        return _json({"id": name, "object": "conversation.deleted", "deleted": True})

    async def _stored(self, response_id: str) -> data_pb2.GetRunResponse:
        request = data_pb2.GetRunRequest(run_id=run_id_of(response_id))
        with told_as_response():
            stored: data_pb2.GetRunResponse = await self._services.call(self._services.runs.GetRun, request)
        return stored

    async def _delete(self, conversation_id: str) -> None:
        request = data_pb2.DeleteConversationRequest(conversation_id=conversation_id)
        await self._services.call(self._services.conversations.DeleteConversation, request)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
