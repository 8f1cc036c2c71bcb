"""Puts stores, rules and servicers together, for the process as for a test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from parley.data.v1 import data_pb2_grpc
from runtime import queries
from runtime.server import Servicer
from services.data.conversations.domain import Conversations
from services.data.conversations.servicer import ConversationServicer
from services.data.conversations.store import PostgresConversations
from services.data.queue.domain import Queue
from services.data.queue.store import PostgresQueue
from services.data.runs.credentials import Credentials
from services.data.runs.keeping import Keeping
from services.data.runs.servicer import RunServicer
from services.data.runs.starting import Starting
from services.data.runs.store import PostgresRuns
from services.data.search.domain import Search
from services.data.search.store import PostgresSearch

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.identity import Verifier
    from runtime.postgres import Database

HERE = Path(__file__).parent


def load_queries() -> dict[str, str]:
    """Returns every statement of the service by name."""
    loaded: dict[str, str] = {}
    for noun in ("conversations", "search", "runs", "queue"):
        loaded |= queries.load(HERE / noun / "queries.sql")
    return loaded


def servicers(
    database: Database,
    *,
    message_max_chars: int,
    searching: Database | None = None,
    turns_at_once: int = 8,
    verifier: Verifier | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[Servicer, Servicer]:
    """Returns what the service serves.

    Args:
        database: Opened with `load_queries()`, as the role `parley_data`.
        message_max_chars: Longest message of a user.
        searching: The same with connections of its own, so that searches take none from answers; None: there are enough.
        turns_at_once: Most that are being begun, and most that are being ended. A crowd waits for the same few connections anyhow; what
            would be made of each meanwhile takes memory, and the first would wait for the last.
        verifier: The server's own, for credentials that come within a request; None refuses those.
        clock: Seconds since the epoch.
    """
    conversations = Conversations(PostgresConversations(database), clock)
    search = Search(PostgresSearch(searching or database))
    runs = PostgresRuns(database)
    starting = Starting(runs, clock, message_max_chars=message_max_chars)
    keeping = Keeping(runs, clock)
    queue = Queue(PostgresQueue(database))
    return (
        Servicer(
            data_pb2_grpc.add_ConversationServiceServicer_to_server,
            ConversationServicer(conversations, search),
            "parley.data.v1.ConversationService",
        ),
        Servicer(
            data_pb2_grpc.add_RunServiceServicer_to_server,
            RunServicer(starting, keeping, queue, Credentials(verifier)),
            "parley.data.v1.RunService",
            at_once=dict.fromkeys(("BeginRun", "FinishRun"), turns_at_once),
        ),
    )
