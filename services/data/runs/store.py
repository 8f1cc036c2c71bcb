"""Runs in Postgres: a turn's boundaries are one function and one round trip each."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from services.data.conversations.domain import ConversationNotFound, Earlier, MessageNotFound, Role
from services.data.conversations.store import message_of, parts_json, parts_of
from services.data.runs import at_head
from services.data.runs.domain import (
    Begun,
    ClientMessageIdReused,
    ConcurrentRequest,
    DailyLimitExceeded,
    MessageNotFinished,
    NotInterrupted,
    QueueFull,
    RequestLimitExceeded,
    Run,
    RunEnded,
    RunNotFound,
    RunStatus,
    StaleFence,
)
from services.data.tenancy import claims_json, claims_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from asyncpg import Record

    from runtime.context import Identity
    from runtime.errors import ParleyError
    from runtime.postgres import Database
    from services.data.conversations.domain import Message, MessageState, Usage
    from services.data.runs.keeping import Checkpoint, FinishRequest, Progress, RetryRequest
    from services.data.runs.starting import NewRun

_REFUSALS: dict[str, Callable[[], ParleyError]] = {
    "conversation_not_found": ConversationNotFound,
    "message_not_found": MessageNotFound,
    "message_not_finished": MessageNotFinished,
    "not_interrupted": NotInterrupted,
    "client_message_id_reused": ClientMessageIdReused,
    "queue_full": QueueFull,
    "run_not_found": RunNotFound,
    "stale_fence": StaleFence,
    "run_ended": RunEnded,
}
"""What the functions' outcomes mean; any other is a success."""


class PostgresRuns:
    """Both `Store`s on Postgres; whose rows a statement sees is row-level security's to say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, caller: Identity, new: NewRun) -> Begun:
        """Stores a run with its messages, or finds the one this is a resend of."""
        if new.branch is None and not new.background:
            row = await self._database.fetch_row("begin_run_at_head", *at_head.arguments(caller, new))
            if row is not None and row["lease_expires_at"] is not None:
                return at_head.begun(row, new)
        kind, message_id = new.branch or (None, None)
        rows = await self._database.fetch(
            "start_run",
            *at_head.opening(caller, new),
            new.background,
            new.max_tries,
            new.on_conflict,
            new.limits.per_user,
            new.limits.per_conversation,
            new.limits.queued_per_user,
            kind,
            message_id,
            new.request_limits.per_minute,
            new.request_limits.per_hour,
            new.request_limits.per_day,
        )
        if rows[0]["item"] == "concurrent_request":
            raise ConcurrentRequest(str(rows[0]["run.id"]))
        if rows[0]["item"] == "limited":
            raise _limited(rows[0], new.now)
        return _begun(rows)

    async def load(
        self, caller: Identity, run_id: str, *, fence: int, history_max_messages: int, history_max_bytes: int
    ) -> Begun:
        """Returns a run with its messages and its history."""
        return _begun(
            await self._database.fetch(
                "load_run", claims_json(caller), run_id, fence, history_max_messages, history_max_bytes
            )
        )

    async def checkpoint(self, caller: Identity, progress: Progress, *, text_bytes: int, lease_s: float) -> bool:
        """Stores the answer so far and renews the lease; parts older than what is stored only renew it."""
        row = await self._database.fetch_row(
            "checkpoint_run",
            claims_json(caller),
            progress.run_id,
            progress.fence,
            parts_json(progress.parts),
            text_bytes,
            _usage(progress.usage),
            progress.last_seq,
            timedelta(seconds=lease_s),
        )
        cancel_requested: bool = _allowed(row)["cancel_requested"]
        return cancel_requested

    async def checkpoint_many(self, checkpoints: Sequence[Checkpoint]) -> list[bool | None]:
        """Stores many answers so far and renews their leases, in one transaction."""
        rows = await self._database.fetch(
            "checkpoint_runs",
            [claims_json(one.caller) for one in checkpoints],
            [one.progress.run_id for one in checkpoints],
            [str(one.progress.fence) for one in checkpoints],
            [parts_json(one.progress.parts) for one in checkpoints],
            [str(one.text_bytes) for one in checkpoints],
            [_usage(one.progress.usage) for one in checkpoints],
            [str(one.progress.last_seq) for one in checkpoints],
            [f"{one.lease_s:f} seconds" for one in checkpoints],
        )
        wanted = {row["place"]: row["cancel_requested"] for row in rows}
        return [wanted.get(place) for place in range(1, len(checkpoints) + 1)]

    async def release(self, caller: Identity, progress: Progress, *, text_bytes: int) -> None:
        """Stores the answer so far and gives the run back."""
        row = await self._database.fetch_row(
            "release_run",
            claims_json(caller),
            progress.run_id,
            progress.fence,
            parts_json(progress.parts),
            text_bytes,
            _usage(progress.usage),
            progress.last_seq,
        )
        _allowed(row)

    async def retry(self, caller: Identity, request: RetryRequest, *, text_bytes: int, now: datetime) -> Run:
        """Puts a run back into the queue, or ends it after its last try."""
        row = await self._database.fetch_row(
            "retry_run",
            claims_json(caller),
            request.run_id,
            request.fence,
            request.error_reason,
            timedelta(seconds=request.delay_s),
            parts_json(request.parts),
            text_bytes,
            _usage(request.usage),
            request.last_seq,
            now,
        )
        return run_of(_allowed(row))

    async def finish(
        self, caller: Identity, request: FinishRequest, *, state: MessageState, text_bytes: int, now: datetime
    ) -> Run:
        """Ends a run that is running; returns the run as it is stored."""
        row = await self._database.fetch_row(
            "finish_run",
            claims_json(caller),
            request.run_id,
            request.fence,
            request.status,
            state,
            request.error_reason,
            parts_json(request.parts),
            text_bytes,
            _usage(request.usage),
            request.model,
            request.last_seq,
            now,
        )
        return run_of(_allowed(row))

    async def cancel(self, caller: Identity, run_id: str, now: datetime) -> Run:
        """Stores the wish to stop a run, and ends it where nobody owns it."""
        row = await self._database.fetch_row("cancel_run", claims_json(caller), run_id, now)
        if row is None or row["run.id"] is None:
            raise RunNotFound
        return run_of(row)

    async def find(self, caller: Identity, run_id: str) -> tuple[Run, Message, Message]:
        """Returns a run, its user message and its answer."""
        async with self._database.transaction(claims_of(caller)) as transaction:
            rows = await transaction.fetch("find_run", run_id)
        if not rows:
            raise RunNotFound
        user_message, answer = map(message_of, rows)
        return run_of(rows[0]), user_message, answer

    async def list_runs(
        self, caller: Identity, conversation_id: str, *, after_run_id: str | None, active_only: bool, limit: int
    ) -> list[Run]:
        """Returns the runs of a conversation in the order in which they began."""
        async with self._database.transaction(claims_of(caller)) as transaction:
            rows = await transaction.fetch("list_runs", conversation_id, after_run_id, active_only, limit)
        if not rows:
            raise ConversationNotFound
        if rows[0]["after_is_unknown"]:
            raise RunNotFound
        return [run_of(row) for row in rows if row["run.id"] is not None]


def run_of(row: Record) -> Run:
    """Builds a run from a row of the columns that the queries name."""
    return Run(
        id=str(row["run.id"]),
        conversation_id=str(row["run.conversation_id"]),
        user_message_id=str(row["run.user_message_id"]),
        answer_message_id=str(row["run.answer_message_id"]),
        client_message_id=row["run.client_message_id"],
        model=row["run.model"],
        response_model=row["run.response_model"],
        status=RunStatus(row["run.status"]),
        error_reason=row["run.error_reason"],
        last_seq=row["run.last_seq"],
        fence=row["run.fence"],
        owner=row["run.owner"],
        lease_expires_at=row["run.lease_expires_at"],
        created_at=row["run.created_at"],
        ended_at=row["run.ended_at"],
        cancel_requested=row["run.cancel_requested"],
        tries=row["run.tries"],
        max_tries=row["run.max_tries"],
        takeovers=row["run.takeovers"],
    )


def _limited(row: Record, now: datetime) -> RequestLimitExceeded:
    error = DailyLimitExceeded if row["limit_type"] == "requests_day" else RequestLimitExceeded
    return error(row["limit_type"], row["limit_current"], row["limit_most"], row["limit_resets_at"], now)


def _begun(rows: list[Record]) -> Begun:
    _allowed(rows[0])
    run = next(row for row in rows if row["item"] == "run")
    user_message, answer = (message_of(row) for row in rows if row["item"] == "message")
    return Begun(
        run=run_of(run),
        user_message=user_message,
        answer=answer,
        history=[_earlier(row) for row in reversed(rows) if row["item"] == "history"],
        existing=run["existing"],
        conversation_created=run["conversation_created"],
        interrupted=[run_of(row) for row in rows if row["item"] == "interrupted"],
        untitled=run["untitled"],
    )


def _earlier(row: Record) -> Earlier:
    return Earlier(Role(row["role"]), parts_of(row["parts"]))


def _usage(usage: Usage | None) -> str | None:
    if usage is None:
        return None
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
    """Returns the row a function answered with, unless it refused; its first column says which."""
    assert row is not None  # noqa: S101 - the functions always answer
    refusal = _REFUSALS.get(row[0])
    if refusal is not None:
        raise refusal()
    return row
