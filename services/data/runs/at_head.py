"""What a run at the head of its conversation is begun with, and what it is by then: little of it has to be read back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from services.data.conversations.domain import Earlier, Message, MessageState, Role
from services.data.conversations.store import all_parts_of, parts_json
from services.data.runs.domain import Begun, Run, RunStatus
from services.data.tenancy import claims_json

if TYPE_CHECKING:
    from typing import Any

    from asyncpg import Record

    from runtime.context import Identity
    from services.data.runs.starting import NewRun

_ROLES = {role.value: role for role in Role}


def opening(caller: Identity, new: NewRun) -> tuple[Any, ...]:
    """Returns what every statement that begins a run takes first."""
    return (
        claims_json(caller),
        new.conversation_id,
        new.new_conversation_id,
        new.id,
        new.user_message_id,
        new.answer_message_id,
        new.client_message_id,
        parts_json(new.parts),
        new.text_bytes,
        new.content_sha256,
        new.model,
        new.owner,
        new.now,
        timedelta(seconds=new.lease_s),
        new.history_max_messages,
        new.history_max_bytes,
    )


def arguments(caller: Identity, new: NewRun) -> tuple[Any, ...]:
    """Returns what the statement `begin_run_at_head` takes."""
    return (
        *opening(caller, new),
        new.max_tries,
        new.limits.per_user,
        new.limits.per_conversation,
        new.request_limits.per_minute,
        new.request_limits.per_hour,
        new.request_limits.per_day,
    )


def begun(row: Record, new: NewRun) -> Begun:
    """Returns the run as it was stored.

    Args:
        row: What the statement answered.
        new: What it was called with.
    """
    conversation_id = new.conversation_id or new.new_conversation_id
    run = Run(
        id=new.id,
        conversation_id=conversation_id,
        user_message_id=new.user_message_id,
        answer_message_id=new.answer_message_id,
        client_message_id=new.client_message_id,
        model=new.model,
        response_model="",
        status=RunStatus.RUNNING,
        error_reason="",
        last_seq=0,
        fence=1,
        owner=new.owner,
        lease_expires_at=row["lease_expires_at"],
        created_at=new.now,
        ended_at=None,
        cancel_requested=False,
        tries=1,
        max_tries=new.max_tries,
        takeovers=0,
    )
    user_message = Message(
        id=new.user_message_id,
        conversation_id=conversation_id,
        run_id=new.id,
        parent_id=None if row["parent_id"] is None else str(row["parent_id"]),
        position=row["last_position"] + 1,
        role=Role.USER,
        state=MessageState.COMPLETE,
        model="",
        parts=new.parts,
        usage=None,
        created_at=new.now,
    )
    answer = Message(
        id=new.answer_message_id,
        conversation_id=conversation_id,
        run_id=new.id,
        parent_id=new.user_message_id,
        position=row["last_position"] + 2,
        role=Role.ASSISTANT,
        state=MessageState.PARTIAL,
        model=new.model,
        parts=(),
        usage=None,
        created_at=new.now,
    )
    roles, parts = row["history_roles"] or (), all_parts_of(row["history_parts"] or ())
    return Begun(
        run=run,
        user_message=user_message,
        answer=answer,
        history=[Earlier(_ROLES[role], said) for role, said in zip(reversed(roles), reversed(parts), strict=True)],
        existing=False,
        conversation_created=new.conversation_id is None,
        interrupted=[],
        untitled=row["untitled"],
    )
