"""Conversations and messages: what they are, their rules, and what a user can do with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.errors import NotFound
from runtime.ids import uuid7
from services.data import paging

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.context import Identity

TITLE_MAX_CHARS = 200
_CONVERSATIONS_A_PAGE = 20
_MESSAGES_A_PAGE = 50
# Fewer messages than asked for are fine; a response too large for its receiver is not (4 bytes a character, 16 MiB).
_PAGE_MAX_CHARS = 3_000_000


class ConversationNotFound(NotFound):
    """There is no such conversation, or it is not the caller's."""

    reason = "CONVERSATION_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such conversation.")


class MessageNotFound(NotFound):
    """There is no such message in this conversation."""

    reason = "MESSAGE_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such message in this conversation.")


class Role(StrEnum):
    """Who wrote a message."""

    USER = "user"
    ASSISTANT = "assistant"


class MessageState(StrEnum):
    """How far a message has come."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class PartKind(StrEnum):
    """What a piece of a message is."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL_USE = "tool_use"
    TOOL_RESULT = "tool_result"


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message.

    Attributes:
        kind: What it is; None where the request named none that we know.
        text: Its text; a tool's arguments as JSON, or what the tool said.
        tool_call_id: The call it is or answers; empty for what is said.
        name: Name of the tool; empty for what is said.
        is_error: The tool failed.
    """

    kind: PartKind | None
    text: str
    tool_call_id: str = ""
    name: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens a run has used; `cost_usd` is None where the model's price is not known."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    estimated: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one user; `head_message_id` is the newest message of the branch it is on, None while it has none."""

    id: str
    title: str
    head_message_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message.

    Attributes:
        parent_id: The message it follows; None for a first one.
        position: Order of arrival in its conversation, from 1.
        sibling_ids: All that follow the same message, itself included, oldest first; only in lists.
    """

    id: str
    conversation_id: str
    run_id: str
    parent_id: str | None
    position: int
    role: Role
    state: MessageState
    model: str
    parts: tuple[Part, ...]
    usage: Usage | None
    created_at: datetime
    sibling_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was said before, without what was thought."""

    role: Role
    parts: tuple[Part, ...]


class Store(Protocol):
    """Keeps conversations; every method sees the caller's own rows alone and raises ConversationNotFound for any other."""

    async def create(self, caller: Identity, conversation_id: str, title: str, now: datetime) -> Conversation:
        """Stores an empty conversation."""

    async def find(self, caller: Identity, conversation_id: str) -> Conversation:
        """Returns a conversation."""

    async def list_conversations(
        self, caller: Identity, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Conversation]:
        """Returns conversations by activity and id, both descending, that come after the given place."""

    async def rename(
        self, caller: Identity, conversation_id: str, title: str, now: datetime, *, if_untitled: bool
    ) -> Conversation:
        """Changes the title, or leaves one there is where only an untitled conversation was to get it."""

    async def select_branch(self, caller: Identity, conversation_id: str, message_id: str) -> Conversation:
        """Puts a conversation on the branch that a message is on.

        Raises: MessageNotFound.
        """

    async def delete(self, caller: Identity, conversation_id: str) -> None:
        """Deletes a conversation with its runs and messages."""

    async def list_messages(
        self, caller: Identity, conversation_id: str, *, newest_id: str | None, limit: int
    ) -> list[Message]:
        """Returns the messages of a branch, newest first, from `newest_id` or the conversation's head on."""


class Conversations:
    """What a user does with conversations.

    Args:
        store: Keeps them.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def create(self, caller: Identity, title: str) -> Conversation:
        """Creates an empty conversation.

        Raises: InvalidArgument.
        """
        validation.text("title", title, max_chars=TITLE_MAX_CHARS)
        return await self._store.create(caller, uuid7(), title, self._now())

    async def get(self, caller: Identity, conversation_id: str) -> Conversation:
        """Returns a conversation.

        Raises: InvalidArgument; ConversationNotFound.
        """
        return await self._store.find(caller, validation.identifier("conversation_id", conversation_id))

    async def list_conversations(
        self, caller: Identity, *, page_size: int, page_token: str
    ) -> tuple[list[Conversation], str]:
        """Returns a page, the most recently active first, and the token of the next one; empty on the last.

        Raises: InvalidArgument.
        """
        size = validation.page_size(page_size, default=_CONVERSATIONS_A_PAGE)
        place = ("conversations", caller.org_id, caller.user_id)
        after = paging.unseal_moment(page_token, place) if page_token else None
        found = await self._store.list_conversations(caller, after=after, limit=size + 1)
        page = found[:size]
        if len(found) == len(page):
            return page, ""
        return page, paging.seal_moment(place, page[-1].updated_at, page[-1].id)

    async def rename(
        self, caller: Identity, conversation_id: str, title: str, *, if_untitled: bool = False
    ) -> Conversation:
        """Changes the title; with `if_untitled` only where there is none yet.

        Raises: InvalidArgument; ConversationNotFound.
        """
        identifier = validation.identifier("conversation_id", conversation_id)
        validation.text("title", title, min_chars=1, max_chars=TITLE_MAX_CHARS)
        return await self._store.rename(caller, identifier, title, self._now(), if_untitled=if_untitled)

    async def select_branch(self, caller: Identity, conversation_id: str, message_id: str) -> Conversation:
        """Puts a conversation on the branch that a message is on: the newest one below it, if it has any.

        Raises: InvalidArgument; ConversationNotFound; MessageNotFound.
        """
        identifier = validation.identifier("conversation_id", conversation_id)
        return await self._store.select_branch(caller, identifier, validation.identifier("message_id", message_id))

    async def delete(self, caller: Identity, conversation_id: str) -> None:
        """Deletes a conversation with its messages and runs, also one that is being answered: its run then is no more.

        Raises: InvalidArgument; ConversationNotFound.
        """
        await self._store.delete(caller, validation.identifier("conversation_id", conversation_id))

    async def list_messages(
        self, caller: Identity, conversation_id: str, *, page_size: int, page_token: str
    ) -> tuple[list[Message], str]:
        """Returns a page of the branch the conversation is on, oldest first, and the token of the page of older messages.

        The first page holds the newest; a token stays on its branch. A page holds fewer messages than asked for where they are very long.

        Raises: InvalidArgument; ConversationNotFound.
        """
        identifier = validation.identifier("conversation_id", conversation_id)
        size = validation.page_size(page_size, default=_MESSAGES_A_PAGE)
        place = ("messages", identifier)
        newest_id = paging.identifier_of(*paging.unseal(page_token, place, parts=1)) if page_token else None
        page = _fitting(await self._store.list_messages(caller, identifier, newest_id=newest_id, limit=size))
        following = page[-1].parent_id if page else None
        return page[::-1], paging.seal(place, following) if following else ""

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _fitting(messages: list[Message]) -> list[Message]:
    """Returns the first messages that fit into a response together; at least one."""
    room = _PAGE_MAX_CHARS
    for index, message in enumerate(messages):
        room -= sum(len(part.text) for part in message.parts)
        if room < 0:
            return messages[: max(index, 1)]
    return messages
