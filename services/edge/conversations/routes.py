"""Conversations: create, list, search, get, change, delete; and their messages."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel

from parley.data.v1 import data_pb2
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.conversations.shapes import (
    Change,
    Conversation,
    ConversationPage,
    ListedConversation,
    Message,
    MessagePage,
    NewConversation,
    without_nul,
)
from services.edge.description import BEARER, responses

PageSize = Annotated[int, Query(ge=0, le=100, description="Most entries of a page; 0: the default.")]
PageToken = Annotated[
    str, Query(max_length=512, description="`next_page_token` of the page before; empty for the first.")
]

Words = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        description="Words to look for in titles and messages; without them all conversations are listed.",
    ),
    AfterValidator(without_nul),
]


class ConversationRoutes:
    """The paths below `/v1/conversations`, but for runs.

    Args:
        services: The services behind.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stub = services.conversations

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Conversations"])
        many, one = "/v1/conversations", "/v1/conversations/{conversation_id}"
        router.add_api_route(
            many,
            self.create,
            methods=["POST"],
            status_code=201,
            response_model=Conversation,
            summary="Create a conversation",
            responses=responses(body=True),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            many,
            self.list_page,
            methods=["GET"],
            response_model=ConversationPage,
            summary="List or search conversations",
            responses=responses(),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one,
            self.get,
            methods=["GET"],
            response_model=Conversation,
            summary="Get a conversation",
            responses=responses(404),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one,
            self.change,
            methods=["PATCH"],
            response_model=Conversation,
            summary="Rename a conversation, or go to another branch",
            responses=responses(404, body=True),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one,
            self.delete,
            methods=["DELETE"],
            status_code=204,
            summary="Delete a conversation",
            responses=responses(404),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            one + "/messages",
            self.messages,
            methods=["GET"],
            response_model=MessagePage,
            summary="List messages",
            responses=responses(404),
            openapi_extra=BEARER,
        )
        return [router]

    async def create(self, body: NewConversation | None = None) -> Response:
        """Creates an empty conversation."""
        title = (body.title if body else None) or ""
        message = data_pb2.CreateConversationRequest(title=title)
        response = await self._services.call(self._stub.CreateConversation, message)
        return _answer(Conversation.of(response.conversation), 201)

    async def list_page(self, page_size: PageSize = 0, page_token: PageToken = "", q: Words = None) -> Response:
        """Lists the caller's conversations, the most recently active first, or those that match `q`, the best first; 20 to a page by default."""
        page = ConversationPage(conversations=[], next_page_token="")
        if q is None:
            listing = data_pb2.ListConversationsRequest(page_size=page_size, page_token=page_token)
            listed = await self._services.call(self._stub.ListConversations, listing)
            page.conversations = [ListedConversation.of(one) for one in listed.conversations]
            page.next_page_token = listed.next_page_token
        else:
            search = data_pb2.SearchConversationsRequest(query=q, page_size=page_size, page_token=page_token)
            found = await self._services.call(self._stub.SearchConversations, search)
            page.conversations = [ListedConversation.found(one) for one in found.results]
            page.next_page_token = found.next_page_token
        return _answer(page)

    async def get(self, conversation_id: UUID) -> Response:
        """Returns one conversation."""
        message = data_pb2.GetConversationRequest(conversation_id=str(conversation_id))
        response = await self._services.call(self._stub.GetConversation, message)
        return _answer(Conversation.of(response.conversation))

    async def change(self, conversation_id: UUID, body: Change) -> Response:
        """Gives a conversation another title, moves it to another branch of its messages, or both."""
        if body.head_message_id is not None:
            selection = data_pb2.SelectBranchRequest(
                conversation_id=str(conversation_id), message_id=str(body.head_message_id)
            )
            response = await self._services.call(self._stub.SelectBranch, selection)
        if body.title is not None:
            renaming = data_pb2.UpdateConversationRequest(conversation_id=str(conversation_id), title=body.title)
            response = await self._services.call(self._stub.UpdateConversation, renaming)
        return _answer(Conversation.of(response.conversation))

    async def delete(self, conversation_id: UUID) -> Response:
        """Deletes a conversation with its messages and runs."""
        message = data_pb2.DeleteConversationRequest(conversation_id=str(conversation_id))
        await self._services.call(self._stub.DeleteConversation, message)
        return Response(status_code=204)

    async def messages(self, conversation_id: UUID, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
        """Lists messages, oldest first. The first page holds the newest ones, the next page those before; 50 to a page by default."""
        message = data_pb2.ListMessagesRequest(
            conversation_id=str(conversation_id), page_size=page_size, page_token=page_token
        )
        response = await self._services.call(self._stub.ListMessages, message)
        page = MessagePage(
            messages=[Message.of(one) for one in response.messages], next_page_token=response.next_page_token
        )
        return _answer(page)


def _answer(shape: BaseModel, status: int = 200) -> Response:
    return Response(shape.model_dump_json(), status, media_type="application/json")
