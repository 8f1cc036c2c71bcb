"""What an instance does and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from services.chat.ports import ActiveLimits, RequestLimits
from services.chat.turn import Pace


@dataclass(frozen=True, slots=True)
class Rules:
    """What this instance does and how much of it.

    Attributes:
        owner: Name of this process; no other has it or ever had.
        system_prompt: Instructions before every conversation; empty: none.
        message_max_chars: Longest message of a user.
        history_max_messages: Most messages of history a model is sent.
        history_max_tokens: Most tokens of it, whatever the model takes.
        max_live_runs: Most runs at once that were started here.
        max_background_runs: Most runs at once that came out of the queue.
        max_watchers: Most streams at once.
        background_tries: How often a background run is tried.
        limits: How many runs of one user and of one conversation may be active.
        request_limits: How many runs a user may begin in a while.
        claim_every_s: Between two looks for runs that nobody owns.
        suspicion_s: How long a lapsed lease must have been seen lapsed before its run is claimed.
        pace: How often and how long.
    """

    owner: str
    system_prompt: str
    message_max_chars: int
    history_max_messages: int
    history_max_tokens: int
    max_live_runs: int
    max_background_runs: int
    max_watchers: int
    background_tries: int
    limits: ActiveLimits
    request_limits: RequestLimits
    claim_every_s: float
    suspicion_s: float
    pace: Pace
