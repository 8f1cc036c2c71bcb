"""Conversations and messages: what they are, their rules, and what a user can do with them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from runtime import validation
from runtime.errors import NotFound
from runtime.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.context import Identity

TITLE_MAX_CHARS = 200
_CONVERSATIONS_A_PAGE = 20
_MESSAGES_A_PAGE = 50
# Fewer messages than asked for are fine; a response too large for its receiver is not (4 bytes a character, 16 MiB).
_PAGE_MAX_CHARS = 3_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ConversationNotFound(NotFound):
    """There is no such conversation, or it is not the caller's."""

    reason = "CONVERSATION_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("There is no such conversation.")


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


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message; `kind` is None where the request named none that we know."""

    kind: PartKind | None
    text: str


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
    """A conversation of one user."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message; `position` orders the messages of a conversation by arrival, from 1."""

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

    async def rename(self, caller: Identity, conversation_id: str, title: str, now: datetime) -> Conversation:
        """Changes the title."""

    async def delete(self, caller: Identity, conversation_id: str) -> None:
        """Deletes a conversation with its runs and messages."""

    async def list_messages(
        self, caller: Identity, conversation_id: str, *, before: int | None, limit: int
    ) -> list[Message]:
        """Returns the newest messages before a position, newest first."""


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
        after: tuple[datetime, str] | None = None
        if page_token:
            micros, conversation_id = _open_page_token(page_token, place, parts=2)
            after = (_from_micros(micros), _token_identifier(conversation_id))
        found = await self._store.list_conversations(caller, after=after, limit=size + 1)
        page = found[:size]
        if len(found) == len(page):
            return page, ""
        micros = str((page[-1].updated_at - _EPOCH) // _MICROSECOND)
        return page, validation.encode_page_token(*place, micros, page[-1].id)

    async def rename(self, caller: Identity, conversation_id: str, title: str) -> Conversation:
        """Changes the title.

        Raises: InvalidArgument; ConversationNotFound.
        """
        identifier = validation.identifier("conversation_id", conversation_id)
        validation.text("title", title, min_chars=1, max_chars=TITLE_MAX_CHARS)
        return await self._store.rename(caller, identifier, title, self._now())

    async def delete(self, caller: Identity, conversation_id: str) -> None:
        """Deletes a conversation with its messages and runs, also one that is being answered: its run then is no more.

        Raises: InvalidArgument; ConversationNotFound.
        """
        await self._store.delete(caller, validation.identifier("conversation_id", conversation_id))

    async def list_messages(
        self, caller: Identity, conversation_id: str, *, page_size: int, page_token: str
    ) -> tuple[list[Message], str]:
        """Returns a page, oldest first, and the token of the page of older messages; the first page holds the newest.

        A page holds fewer messages than asked for where they are very long.

        Raises: InvalidArgument; ConversationNotFound.
        """
        identifier = validation.identifier("conversation_id", conversation_id)
        size = validation.page_size(page_size, default=_MESSAGES_A_PAGE)
        place = ("messages", identifier)
        before: int | None = None
        if page_token:
            before = _token_number(*_open_page_token(page_token, place, parts=1))
        found = await self._store.list_messages(caller, identifier, before=before, limit=size + 1)
        page = _fitting(found[:size])
        token = validation.encode_page_token(*place, str(page[-1].position)) if len(page) < len(found) else ""
        return page[::-1], token

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


def _open_page_token(token: str, place: Sequence[str], *, parts: int) -> list[str]:
    """Returns what a token holds beside the list it belongs to.

    Raises: InvalidArgument: it belongs to another list, or is none.
    """
    found = validation.decode_page_token(token, parts=len(place) + parts)
    if found[: len(place)] != list(place):
        raise _foreign_token()
    return found[len(place) :]


def _token_number(value: str) -> int:
    if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= len(str(2**62))):
        raise _foreign_token()
    return int(value)


def _from_micros(value: str) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=_token_number(value))
    except OverflowError:
        raise _foreign_token() from None


def _token_identifier(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise _foreign_token() from None


def _foreign_token() -> Exception:
    return validation.invalid("page_token", "is not a token this list gave out; leave it empty for the first page.")
