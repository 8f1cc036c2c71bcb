"""Conversations and messages in Postgres."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from services.data.conversations.domain import (
    Conversation,
    ConversationNotFound,
    Message,
    MessageNotFound,
    MessageState,
    Part,
    PartKind,
    Role,
    Usage,
)
from services.data.tenancy import claims_json, claims_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from asyncpg import Record

    from runtime.context import Identity
    from runtime.postgres import Database

_KINDS = {kind.value: kind for kind in PartKind}
_SAID = frozenset((PartKind.TEXT, PartKind.REASONING))
_spell = json.JSONEncoder(ensure_ascii=False).encode
_quoted = json.encoder.encode_basestring


class PostgresConversations:
    """`Store` on Postgres; whose rows a statement sees is row-level security's to say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, caller: Identity, conversation_id: str, title: str, now: datetime) -> Conversation:
        """Stores an empty conversation."""
        return await self._one(
            caller, "create_conversation", caller.org_id, caller.user_id, conversation_id, title, now
        )

    async def find(self, caller: Identity, conversation_id: str) -> Conversation:
        """Returns a conversation."""
        return await self._one(caller, "find_conversation", conversation_id)

    async def list_conversations(
        self, caller: Identity, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Conversation]:
        """Returns conversations by activity and id, both descending, that come after the given place."""
        async with self._database.transaction(claims_of(caller)) as transaction:
            rows = await transaction.fetch("list_conversations", *(after or (None, None)), limit)
        return [conversation_of(row) for row in rows]

    async def rename(
        self, caller: Identity, conversation_id: str, title: str, now: datetime, *, if_untitled: bool
    ) -> Conversation:
        """Changes the title, or leaves one there is where only an untitled conversation was to get it."""
        return await self._one(caller, "rename_conversation", conversation_id, title, now, if_untitled)

    async def select_branch(self, caller: Identity, conversation_id: str, message_id: str) -> Conversation:
        """Puts a conversation on the branch that a message is on."""
        row = await self._database.fetch_row("select_branch", claims_json(caller), conversation_id, message_id)
        if row is None or row["outcome"] == "conversation_not_found":
            raise ConversationNotFound
        if row["outcome"] == "message_not_found":
            raise MessageNotFound
        return conversation_of(row)

    async def delete(self, caller: Identity, conversation_id: str) -> None:
        """Deletes a conversation with its runs and messages."""
        async with self._database.transaction(claims_of(caller)) as transaction:
            if await transaction.fetch_row("delete_conversation", conversation_id) is None:
                raise ConversationNotFound

    async def list_messages(
        self, caller: Identity, conversation_id: str, *, newest_id: str | None, limit: int
    ) -> list[Message]:
        """Returns the messages of a branch, newest first, from `newest_id` or the conversation's head on."""
        async with self._database.transaction(claims_of(caller)) as transaction:
            rows = await transaction.fetch("list_messages", conversation_id, newest_id, limit)
        if not rows:
            raise ConversationNotFound
        return [
            replace(message_of(row), sibling_ids=tuple(row["sibling_ids"])) for row in rows if row["id"] is not None
        ]

    async def _one(self, caller: Identity, query: str, *args: Any) -> Conversation:
        async with self._database.transaction(claims_of(caller)) as transaction:
            row = await transaction.fetch_row(query, *args)
        if row is None:
            raise ConversationNotFound
        return conversation_of(row)


def conversation_of(row: Record) -> Conversation:
    """Builds a conversation from a row of the columns that the queries name."""
    return Conversation(
        id=str(row["id"]),
        title=row["title"],
        head_message_id=None if row["head_message_id"] is None else str(row["head_message_id"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def message_of(row: Record) -> Message:
    """Builds a message from a row of the columns that the queries name."""
    return Message(
        id=str(row["id"]),
        conversation_id=str(row["conversation_id"]),
        run_id=str(row["run_id"]),
        parent_id=None if row["parent_id"] is None else str(row["parent_id"]),
        position=row["position"],
        role=Role(row["role"]),
        state=MessageState(row["state"]),
        model=row["model"],
        parts=parts_of(row["parts"]),
        usage=None if row["usage"] is None else _usage(row["usage"]),
        created_at=row["created_at"],
    )


def parts_of(stored: str) -> tuple[Part, ...]:
    """Returns parts as they were stored."""
    return _known(json.loads(stored))


def all_parts_of(stored: Sequence[str]) -> list[tuple[Part, ...]]:
    """Returns the parts of many messages as they were stored, read in one go: most of what one costs is to begin."""
    return [_known(parts) for parts in json.loads(f"[{','.join(stored)}]")]


def _known(stored: list[dict[str, Any]]) -> tuple[Part, ...]:
    # A newer release, rolling out beside this one, may store kinds that this one does not know.
    return tuple([_part(part) for part in stored if part["type"] in _KINDS])


def _part(stored: dict[str, Any]) -> Part:
    kind = _KINDS[stored["type"]]
    if kind in _SAID:
        return Part(kind, stored["text"])
    if kind is PartKind.TOOL_USE:
        return Part(kind, stored["input"], stored["tool_call_id"], stored["name"])
    return Part(kind, stored["content"], stored["tool_call_id"], stored["name"], stored["is_error"])


def parts_json(parts: Sequence[Part]) -> str:
    """Returns parts as they are stored."""
    return f"[{', '.join([_stored_part(part) for part in parts])}]"


def _stored_part(part: Part) -> str:
    if part.kind in _SAID:
        # By hand: an encoder is made anew for each object, and this is on the way to the first word of every answer.
        return f'{{"type": "{part.kind}", "text": {_quoted(part.text)}}}'
    if part.kind is PartKind.TOOL_USE:
        return _spell({"type": part.kind, "tool_call_id": part.tool_call_id, "name": part.name, "input": part.text})
    return _spell(
        {
            "type": part.kind,
            "tool_call_id": part.tool_call_id,
            "name": part.name,
            "content": part.text,
            "is_error": part.is_error,
        }
    )


def _usage(stored: str) -> Usage:
    fields = json.loads(stored)
    return Usage(
        input_tokens=fields["input_tokens"],
        output_tokens=fields["output_tokens"],
        cached_tokens=fields["cached_tokens"],
        reasoning_tokens=fields["reasoning_tokens"],
        cost_usd=fields["cost_usd"],
        estimated=fields["estimated"],
    )
