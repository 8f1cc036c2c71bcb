"""Runs in Postgres: a turn's boundaries are one function and one round trip each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.data.conversations.domain import ConversationNotFound
from services.data.conversations.store import message_of
from services.data.runs.domain import Begun, ClientMessageIdReused, Run, RunEnded, RunNotFound, RunStatus, StaleFence
from services.data.tenancy import claims_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from asyncpg import Record

    from runtime.context import Identity
    from runtime.errors import ParleyError
    from runtime.postgres import Database
    from services.data.conversations.domain import Message, MessageState, Part, Usage
    from services.data.runs.domain import FinishRequest, NewRun

_REFUSALS: dict[str, Callable[[], ParleyError]] = {
    "conversation_not_found": ConversationNotFound,
    "client_message_id_reused": ClientMessageIdReused,
    "run_not_found": RunNotFound,
    "stale_fence": StaleFence,
    "run_ended": RunEnded,
}
"""What the functions' outcomes mean; any other is a success."""


class PostgresRuns:
    """`Store` on Postgres; whose rows a statement sees is row-level security's to say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, caller: Identity, new: NewRun) -> Begun:
        """Stores a run with its messages, or finds the one this is a resend of."""
        rows = await self._database.fetch(
            "begin_run",
            _claims(caller),
            new.conversation_id,
            new.new_conversation_id,
            new.id,
            new.user_message_id,
            new.answer_message_id,
            new.client_message_id,
            _parts(new.parts),
            new.text_bytes,
            new.content_sha256,
            new.model,
            new.owner,
            new.now,
            new.lease_expires_at,
            new.history_max_messages,
            new.history_max_bytes,
        )
        last = _allowed(rows[-1])
        *history, user_message = map(message_of, rows)
        return Begun(
            run=_run(last),
            user_message=user_message,
            history=history,
            existing=last["existing"],
            conversation_created=last["conversation_created"],
        )

    async def checkpoint(
        self,
        caller: Identity,
        run_id: str,
        *,
        fence: int,
        parts: tuple[Part, ...],
        text_bytes: int,
        last_seq: int,
        lease_expires_at: datetime,
    ) -> None:
        """Stores the answer so far and renews the lease; parts older than what is stored only renew it."""
        row = await self._database.fetch_row(
            "checkpoint_run",
            _claims(caller),
            run_id,
            fence,
            _parts(parts),
            text_bytes,
            last_seq,
            lease_expires_at,
        )
        _allowed(row)

    async def finish(
        self, caller: Identity, request: FinishRequest, *, state: MessageState, text_bytes: int, now: datetime
    ) -> Run:
        """Ends a run that is running; returns the run as it is stored."""
        row = await self._database.fetch_row(
            "finish_run",
            _claims(caller),
            request.run_id,
            request.fence,
            request.status,
            state,
            request.error_reason,
            _parts(request.parts),
            text_bytes,
            None if request.usage is None else _usage(request.usage),
            request.model,
            request.last_seq,
            now,
        )
        return _run(_allowed(row))

    async def find(self, caller: Identity, run_id: str) -> tuple[Run, Message, Message]:
        """Returns a run, its user message and its answer."""
        async with self._database.transaction(claims_of(caller)) as transaction:
            rows = await transaction.fetch("find_run", run_id)
        if not rows:
            raise RunNotFound
        user_message, answer = map(message_of, rows)
        return _run(rows[0]), user_message, answer


def _claims(caller: Identity) -> str:
    return json.dumps(claims_of(caller))


def _parts(parts: Sequence[Part]) -> str:
    return json.dumps([{"type": part.kind, "text": part.text} for part in parts], ensure_ascii=False)


def _usage(usage: Usage) -> str:
    return json.dumps(
        {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost_usd": usage.cost_usd,
            "estimated": usage.estimated,
        }
    )


def _allowed(row: Record | None) -> Record:
    """Returns the row a function answered with, unless it refused."""
    assert row is not None  # noqa: S101 - the functions always answer
    refusal = _REFUSALS.get(row["outcome"])
    if refusal is not None:
        raise refusal()
    return row


def _run(row: Record) -> Run:
    return Run(
        id=str(row["run.id"]),
        conversation_id=str(row["run.conversation_id"]),
        user_message_id=str(row["run.user_message_id"]),
        answer_message_id=str(row["run.answer_message_id"]),
        client_message_id=row["run.client_message_id"],
        model=row["run.model"],
        status=RunStatus(row["run.status"]),
        error_reason=row["run.error_reason"],
        last_seq=row["run.last_seq"],
        fence=row["run.fence"],
        owner=row["run.owner"],
        lease_expires_at=row["run.lease_expires_at"],
        created_at=row["run.created_at"],
        ended_at=row["run.ended_at"],
    )
