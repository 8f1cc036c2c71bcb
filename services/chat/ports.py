"""What this service needs of others: to keep what was said, to get tokens, to be heard by other instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from services.chat.asking import Earlier
from services.chat.domain import Part, Run, RunStatus, Stored, Usage
from services.chat.log import RunLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager


class OnConflict(StrEnum):
    """What happens to a new run while as many are active as may be."""

    REJECT = "reject"
    ENQUEUE = "enqueue"
    INTERRUPT = "interrupt"


class BranchKind(StrEnum):
    """How a run leaves the newest message of its conversation."""

    EDIT = "edit"
    REGENERATE = "regenerate"
    CONTINUE = "continue"


class Branch(NamedTuple):
    """Where in the tree of messages a run goes: `message_id` is stood in for, answered anew, or gone on with."""

    kind: BranchKind
    message_id: str


@dataclass(frozen=True, slots=True)
class ActiveLimits:
    """How many runs may be active at once; 0: no bound."""

    per_user: int = 0
    per_conversation: int = 0
    queued_per_user: int = 0


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How many runs a user may begin in windows that slide; 0: no bound."""

    per_minute: int = 0
    per_hour: int = 0
    per_day: int = 0


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run begins with; empty texts where nothing was given, no branch: after the newest message."""

    conversation_id: str
    client_message_id: str
    content: str
    model: str
    owner: str
    lease_s: float
    history_max_messages: int
    history_max_tokens: int
    background: bool = False
    max_tries: int = 1
    on_conflict: OnConflict = OnConflict.REJECT
    limits: ActiveLimits = ActiveLimits()
    request_limits: RequestLimits = RequestLimits()
    branch: Branch | None = None


class ClaimKind(StrEnum):
    """Why a run was there to be claimed."""

    QUEUED = "queued"
    RELEASED = "released"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun, or that this instance has claimed.

    Attributes:
        run: The run.
        fence: Generation of its owner.
        content: The user's message.
        asked_at: When that was stored.
        history: Earlier messages, oldest first.
        existing: An earlier call began it.
        answer: What is stored of the answer: empty but for a claimed run, or one that goes on with another's answer.
        last_seq: Number of the last event that `answer` holds.
        claim: Why it could be claimed; None: it has just begun.
        tries: How often it has been tried, the try under way included.
        max_tries: How often it may be.
        takeovers: How often it has been taken over from an owner that had gone silent.
        cancel_requested: Somebody wants it stopped.
        unseen_events: How many events its owner before may have shown that no log holds; 0: none.
        untitled: The conversation has no title.
        usage: What earlier tries have used; None: nothing that is known.
        interrupted: Runs in its way that were asked to stop: their ids by the name of their owner.
    """

    run: Run
    fence: int
    content: str
    asked_at: datetime
    history: tuple[Earlier, ...]
    existing: bool
    answer: tuple[Part, ...] = ()
    last_seq: int = 0
    claim: ClaimKind | None = None
    tries: int = 1
    max_tries: int = 1
    takeovers: int = 0
    cancel_requested: bool = False
    unseen_events: int = 0
    untitled: bool = False
    usage: Usage | None = None
    interrupted: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this instance has claimed, of which nothing that was said is known yet; `begun_as` is the role it was begun with."""

    run_id: str
    conversation_id: str
    model: str
    fence: int
    kind: ClaimKind
    user_id: str
    org_id: str
    previous_owner: str
    begun_as: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was to be had; `next_due_at`, in seconds since the epoch, is None where nothing in the queue waits for its time."""

    claims: tuple[Claim, ...]
    next_due_at: float | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A background run that was given up."""

    run: Run
    user_id: str
    tries: int
    given_up_at: datetime


@dataclass(frozen=True, slots=True)
class Ending:
    """What a run ends with; `last_seq` is the number of its last event."""

    run_id: str
    fence: int
    status: RunStatus
    error_reason: str
    parts: tuple[Part, ...]
    usage: Usage
    model: str
    last_seq: int


class Data(Protocol):
    """Keeps what was said. Every method works with the rights of an access token and raises Unavailable while data is away."""

    async def begin_run(self, new: NewRun, *, token: str) -> Begun:
        """Stores the message, an empty answer and the run; returns the history that fits.

        Raises: ConversationNotFound and ClientMessageIdReused as data raises them; InvalidArgument.
        """

    async def claim_runs(
        self, owner: str, *, lease_s: float, suspicion_s: float, max_runs: int, limits: ActiveLimits, token: str
    ) -> Claimed:
        """Takes runs that nobody owns; needs the service's own token.

        Raises: PermissionDenied.
        """

    async def load_run(self, claim: Claim, *, history_max_messages: int, history_max_tokens: int, token: str) -> Begun:
        """Returns a claimed run with what is stored of it and the history that fits.

        Raises: RunNotFound; FailedPrecondition: it has another owner by now, or has ended.
        """

    async def checkpoint_run(
        self,
        run_id: str,
        *,
        fence: int,
        parts: Sequence[Part],
        usage: Usage | None,
        last_seq: int,
        lease_s: float,
        token: str,
    ) -> bool:
        """Stores the answer so far and renews the lease; says whether somebody wants the run stopped.

        `usage` is that of the model calls that have ended by then; None: what is stored of it stays.

        Raises: RunNotFound; FailedPrecondition: the run has another owner or has ended.
        """

    async def release_run(
        self, run_id: str, *, fence: int, parts: Sequence[Part], usage: Usage | None, last_seq: int, token: str
    ) -> None:
        """Stores the answer so far, as `checkpoint_run` does, and gives the run back, to be claimed at once.

        Raises: RunNotFound; FailedPrecondition: the run has another owner or has ended.
        """

    async def retry_run(self, failed: Ending, *, delay_s: float, token: str) -> Run:
        """Puts a failed try back into the queue; after the last one the run ends. `failed.last_seq` is that of the last event so far.

        Returns: the run, queued or failed.
        Raises: RunNotFound; FailedPrecondition: the run has another owner or has ended.
        """

    async def finish_run(self, ending: Ending, *, token: str) -> Run:
        """Stores the whole answer; a run that has ended stays as it is and is returned.

        Raises: RunNotFound; FailedPrecondition: the run has another owner.
        """

    async def cancel_run(self, run_id: str, *, token: str) -> tuple[Run, str]:
        """Stores the wish to stop a run. One that nobody owns ends at once.

        Returns: the run as it is stored, and the name of its owner; empty where it has none.
        Raises: RunNotFound.
        """

    async def get_run(self, run_id: str, *, token: str) -> Stored:
        """Returns what is stored of a run.

        Raises: RunNotFound.
        """

    async def list_runs(
        self, conversation_id: str, *, after_run_id: str = "", active_only: bool = False, token: str
    ) -> Sequence[Run]:
        """Returns the runs of a conversation in the order in which they began: all of them, or those after one, or those that are active.

        Raises: NotFound: there is no such conversation, or no such run in it.
        """

    async def check_conversation(self, conversation_id: str, *, token: str) -> None:
        """Returns where there is such a conversation and the caller may see it.

        Raises: NotFound.
        """

    async def entitle(self, conversation_id: str, title: str, *, token: str) -> None:
        """Gives a title to a conversation that has none.

        Raises: NotFound: there is no such conversation.
        """

    async def list_dead_letters(
        self, *, page_size: int, page_token: str, token: str
    ) -> tuple[Sequence[DeadLetter], str]:
        """Returns one page of dead letters, the newest first, and the token of the next one.

        Raises: PermissionDenied; InvalidArgument.
        """

    async def retry_dead_letter(self, run_id: str, *, token: str) -> Run:
        """Puts a dead letter back into the queue.

        Raises: PermissionDenied; NotFound.
        """

    async def drop_dead_letter(self, run_id: str, *, token: str) -> None:
        """Takes a dead letter off the list.

        Raises: PermissionDenied; NotFound.
        """


class Auth(Protocol):
    """Gives out tokens."""

    async def delegate(self, *, token: str) -> str:
        """Returns a token with which this service acts for the user for up to an hour.

        Raises: Unavailable; Unauthenticated and PermissionDenied: there is none to be had.
        """

    async def delegate_for(self, user_id: str, org_id: str, *, role_at_most: str) -> str:
        """Returns a token with which this service acts for a user who is not there, for up to an hour, with no more than a role.

        Raises: Unavailable; PermissionDenied; NotFound: there is no such user any more.
        """

    async def service_token(self) -> str:
        """Returns a token with which this service speaks for itself.

        Raises: Unavailable; PermissionDenied.
        """


@dataclass(frozen=True, slots=True)
class TakenTail:
    """What a new owner finds of a run's log.

    Attributes:
        log: What it tells; None: there is none.
        seen: The furthest position a watcher has come with that was past its end; 0: none.
        away: There may be one that cannot be read just now.
    """

    log: RunLog | None
    seen: int = 0
    away: bool = False


class Tail(Protocol):
    """The logs of live runs, where other instances can read them. It may be away: then it takes nothing, says nothing and fails nothing."""

    def keep(
        self,
        org_id: str,
        run_id: str,
        log: RunLog,
        *,
        fence: int,
        conversation_id: str,
        superseded: Callable[[], None],
        sent_seq: int = 0,
    ) -> None:
        """Sends what is and will be in the log, beside its owner; up to `sent_seq` it is there already.

        Calls `superseded` where another owner is found to write the log, and sends no more of it.
        """

    def let_go(self, run_id: str, log: RunLog) -> None:
        """Sends no more of a log; whatever else is kept of its run is sent on."""

    async def flush(self, run_id: str, log: RunLog) -> None:
        """Returns once what is in the log has been sent, or after a moment in which it could not be."""

    async def take(self, org_id: str, run_id: str, *, fence: int) -> TakenTail:
        """Shuts all earlier owners out of a run's log and returns what is in it."""

    async def forget(self, org_id: str, run_id: str) -> None:
        """Drops a run's log, for the next owner to make it anew from what is stored."""

    async def note_seen(self, org_id: str, run_id: str, seq: int) -> None:
        """Takes note of a position a watcher has come with that is past the log's end."""

    def replica(self, org_id: str, run_id: str) -> AbstractAsyncContextManager[RunLog]:
        """Gives a copy of another instance's log that grows for the length of the block, from the first event; empty while there is none."""


class Signals(Protocol):
    """Carries words between instances. A word may be lost; whoever waits for one also looks at what is stored."""

    async def ask_to_cancel(self, owner: str, run_id: str) -> None:
        """Asks once; nothing tells whether it was heard.

        Raises: Unavailable.
        """

    async def tell_queued(self) -> None:
        """Tells every instance that there is something to claim."""

    async def tell_begun(self, org_id: str, conversation_id: str, run_id: str) -> None:
        """Tells the watchers of a conversation of a new run."""

    def tell_begun_here(self, org_id: str, conversation_id: str, run_id: str) -> None:
        """Tells only the watchers on this instance, of a run whose log the tail keeps: it tells the others."""

    def begun(self, org_id: str, conversation_id: str) -> AbstractAsyncContextManager[Announcements]:
        """Gives the runs of a conversation that are told of during the block."""


class Announcements(Protocol):
    """Runs of a conversation, as they begin."""

    async def next(self, timeout_s: float) -> tuple[str, float] | None:
        """Returns the id of the next run told of, and when it was, by `time.monotonic`; None where none was within the time."""

    @property
    def reliable(self) -> bool:
        """Whether a word is likely to arrive just now."""
