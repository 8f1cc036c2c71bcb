"""How long a recorded history had people wait."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.chaos.history import FINAL

if TYPE_CHECKING:
    from tests.chaos.history import History


def pauses(history: History) -> list[float]:
    """Returns how long each answer that was under way when the fault came stood still, for the client who started it.

    One that waits in line stands still from the moment in which the one before it has ended.
    """
    begun, whole = history.hit
    found = []
    starters = {turn.client for turn in history.turns if turn.how == "stream"}
    ends = _ends(history)
    for client, run_id, events in history.views():
        if client not in starters or not events[0].at <= begun < events[-1].at:
            continue
        stood = [0.0]
        for before, after in pairwise(events):
            since = before.at
            if after.name == "thinking":
                since = max([since, *(at for at in ends[_conversation(history, run_id)] if at < after.at)])
            if after.at >= begun and since <= whole:
                stood.append(after.at - since)
        found.append(max(stood))
    return found


def stops_s(history: History) -> list[float]:
    """Returns how long each stop took that no fault was in the way of, from the wish to its acknowledgement."""
    begun, whole = history.hit
    return [
        exchange.took_s
        for exchange in history.exchanges
        if exchange.what.endswith("/cancel") and exchange.took_s and not begun <= exchange.at + exchange.took_s <= whole
    ]


def _ends(history: History) -> dict[str, list[float]]:
    """Returns when the runs of each conversation ended, as soon as anybody was told."""
    ends: dict[str, dict[str, float]] = defaultdict(dict)
    for _, run_id, events in history.views():
        if events[-1].name in FINAL:
            told = ends[_conversation(history, run_id)]
            told[run_id] = min(events[-1].at, told.get(run_id, events[-1].at))
    return defaultdict(list, {conversation: list(told.values()) for conversation, told in ends.items()})


def _conversation(history: History, run_id: str) -> str:
    return str(history.stored.runs.get(run_id, {}).get("conversation_id", ""))
