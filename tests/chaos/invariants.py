"""What must hold whatever happened: each rule looks at a recorded history and says where it was broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.chaos.assembled import assemble
from tests.chaos.durations import pauses
from tests.chaos.history import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.history import Event, History

MESSAGE_STATES = {
    "completed": "complete",
    "limited": "complete",
    "cancelled": "cancelled",
    "failed": "failed",
    "interrupted": "interrupted",
}
"""How the answer of a run is labelled, by the run's final status."""
_STOPPED_WITHIN_S = 2.0
"""From the acknowledgement of a stop to when the provider has noticed: it does when it says the next word."""
_ONE_READ_S = 0.2
"""What is read from the store is told at once; it may come in several pieces."""


@dataclass(frozen=True)
class Violation:
    """A rule that was broken.

    Attributes:
        rule: Its name.
        detail: Where, in words.
    """

    rule: str
    detail: str


def check(history: History) -> list[Violation]:
    """Returns every violation of every rule."""
    return [Violation(rule.__name__, detail) for rule in RULES for detail in rule(history)]


def no_acknowledged_message_is_lost(history: History) -> Iterator[str]:
    """Who was told a run's id finds the run, the message and an answer."""
    for turn in history.turns:
        if turn.run_id not in history.stored.runs:
            yield f"run {turn.run_id} of {turn.task.id} is gone"
            continue
        run = history.stored.runs[turn.run_id]
        found = {message["id"]: message for message in history.stored.messages.get(turn.conversation_id, [])}
        asked = found.get(run["user_message_id"])
        if asked is None or asked["content"] != turn.task.message:
            yield f"the message of {turn.task.id} ({turn.run_id}) is {'gone' if asked is None else 'another'}"
        if run["message_id"] not in found:
            yield f"the answer of {turn.task.id} ({turn.run_id}) is gone"


def every_run_ends_in_one_labelled_state(history: History) -> Iterator[str]:
    """A final status is stored, the answer is labelled likewise, and every client was told the same."""
    if history.stored.unfinished:
        yield f"{history.stored.unfinished} runs have no final status"
    answers = {message["id"]: message for found in history.stored.messages.values() for message in found}
    for run_id, run in history.stored.runs.items():
        state = MESSAGE_STATES.get(run["status"])
        if state is None:
            yield f"run {run_id} is {run['status']}"
            continue
        answer = answers.get(run["message_id"])
        if answer is not None and answer["state"] != state:
            yield f"run {run_id} is {run['status']}, its answer {answer['state']}"
    for client, run_id, events in history.views():
        stored = history.stored.runs.get(run_id, {}).get("status")
        for event in events:
            if event.name in FINAL and (told := _told(event)) != stored:
                yield f"{client} was told that run {run_id} is {told}; stored is {stored}"


def what_a_client_shows_is_what_is_stored(history: History) -> Iterator[str]:
    """Put together across all reconnects, by the rules for clients; nobody is left without the end."""
    for client, run_id, events in history.views():
        screen = assemble(events)
        for fault in screen.faults:
            yield f"{client}, run {run_id}: {fault}"
        if screen.end is None:
            yield f"{client} never got the end of run {run_id}"
            continue
        answer = _answer(history, run_id)
        if answer is None:
            continue
        if screen.text != answer["content"]:
            yield f"{client}, run {run_id}: shows {_differ(screen.text, answer['content'])}"
        stored = _tools(answer)
        if screen.tools != stored:
            yield f"{client}, run {run_id}: shows the tools {screen.tools}; stored are {stored}"


def an_answer_is_the_right_one_or_its_beginning(history: History) -> Iterator[str]:
    """No word is lost, repeated, or out of place, whatever was done again."""
    for run_id, run in history.stored.runs.items():
        task, answer = history.task_of(run_id), _answer(history, run_id)
        if task is None or answer is None:
            continue
        text = answer["content"]
        if run["status"] == "completed" and text != task.whole:
            yield f"run {run_id} is completed with {_differ(text, task.whole)}"
        elif not task.whole.startswith(text):
            yield f"run {run_id} is {run['status']} with {_differ(text, task.whole)}"


def numbers_are_gapless(history: History) -> Iterator[str]:
    """A client gets each number once, in order, except for one jump within what is read from the store, where one text stands for many.

    The last event of such a reading has the number that the log had reached, those before it have lower ones of their own.
    """
    for client, run_id, events in history.views():
        seen = [event.seq for event in events]
        if any(after <= before for before, after in pairwise(seen)):
            yield f"{client}, run {run_id}: numbers repeat or go back: {_around_first_fall(seen)}"
        read_at = None
        for before, after in pairwise(events):
            if _stands_for_many(before):
                read_at = before.at
            if after.seq > before.seq + 1:
                read = read_at is not None and after.at <= read_at + _ONE_READ_S
                if not _stands_alone(after) and not read and after.seq > before.seq + _told_by(after):
                    yield f"{client}, run {run_id}: after {before.name} {before.seq} came {after.name} {after.seq}"
                read_at = None
        if seen and seen[0] != 1 and client not in history.watchers:
            yield f"{client}, run {run_id}: begins with {seen[0]}"


def no_cursor_is_refused(history: History) -> Iterator[str]:
    """Whatever id a client was given, it may come back with."""
    yield from history.refused_cursors


def one_answer_for_one_client_message_id(history: History) -> Iterator[str]:
    """However often a message is sent, it is one run, one message and one answer."""
    runs = defaultdict(set)
    for turn in history.turns:
        runs[turn.conversation_id, turn.client_message_id].add(turn.run_id)
    for (_, client_message_id), found in runs.items():
        if len(found) > 1:
            yield f"{client_message_id} is the runs {', '.join(sorted(found))}"
    for messages in history.stored.messages.values():
        asked = Counter(message["content"] for message in messages if message["role"] == "user")
        yield from (f"{count} messages say {content!r}" for content, count in asked.items() if count > 1)
        answered = Counter(message["run_id"] for message in messages if message["role"] == "assistant")
        yield from (f"run {run_id} has {count} answers" for run_id, count in answered.items() if count > 1)


def usage_is_counted_once(history: History) -> Iterator[str]:
    """Each client gets one `usage`, which is the stored one; an answer that no fault touched cost what the provider said."""
    for client, run_id, events in history.views():
        screen, answer = assemble(events), _answer(history, run_id)
        if screen.end is None or answer is None:
            continue
        if len(screen.usages) != 1:
            yield f"{client}, run {run_id}: {len(screen.usages)} times usage"
        elif answer["usage"] is None or _tokens(screen.usages[0]) != _tokens(answer["usage"]):
            yield f"{client}, run {run_id}: was told {screen.usages[0]}; stored is {answer['usage']}"
    calls = Counter(call.task for call in history.calls)
    touched = _touched(history)
    for run_id, run in history.stored.runs.items():
        task, answer = history.task_of(run_id), _answer(history, run_id)
        again = any(turn.again for turn in history.turns_of(run_id))
        if task is None or answer is None or run["status"] != "completed" or again or run_id in touched:
            continue
        if calls[task.id] != task.steps:
            continue
        used = answer["usage"] or {}
        if used.get("output_tokens") != task.words * task.steps or used.get("estimated"):
            yield f"run {run_id} used {used}, for {task.words * task.steps} words in {task.steps} calls"


def no_finished_step_is_repeated(history: History) -> Iterator[str]:
    """Once the model has been given a tool's result, nobody asks it for the step before again."""
    furthest: dict[str, int] = {}
    again = {turn.task.id for turn in history.turns if turn.again}
    for call in sorted(history.calls, key=lambda call: call.began_at):
        if call.task in again:
            continue
        if call.step < furthest.get(call.task, 0):
            yield f"{call.task}: step {call.step} was asked for after step {furthest[call.task]}"
        furthest[call.task] = max(call.step, furthest.get(call.task, 0))


def an_effect_happens_once(history: History) -> Iterator[str]:
    """A tool that cannot be called twice without harm is not; of a completed run it was called."""
    done = Counter(effect.run_id for effect in history.effects)
    yield from (f"run {run_id} had its effect {count} times" for run_id, count in done.items() if count > 1)
    for run_id, run in history.stored.runs.items():
        task = history.task_of(run_id)
        if task is None or not task.effect or run["status"] != "completed" or done[run_id]:
            continue
        answer = _answer(history, run_id)
        if answer is None or not any(tool.get("is_error") for tool in _tools(answer).values()):
            yield f"run {run_id} is completed without its effect, and the model was not told so"


def a_stop_is_kept(history: History) -> Iterator[str]:
    """A stop that was acknowledged has ended the run: no model is asked for it any more, and none goes on writing."""
    again = {turn.task.id for turn in history.turns if turn.again}
    touched = _touched(history)  # an owner that is frozen or parted holds its call a while, though nobody hears of it
    for run_id, stopped_at in history.cancels.items():
        status = history.stored.runs.get(run_id, {}).get("status")
        if status not in MESSAGE_STATES:
            yield f"run {run_id} was stopped and is {status}"
        task, over = history.task_of(run_id), stopped_at + _STOPPED_WITHIN_S
        for call in history.calls:
            if task is None or call.task != task.id or task.id in again:
                continue
            if call.began_at > over:
                yield f"run {run_id} was stopped, and its model asked {call.began_at - stopped_at:.1f} s later"
            elif run_id not in touched and (call.ended_at is None or call.ended_at > over):
                yield f"run {run_id} was stopped, and its model went on writing"


def watchers_see_every_run(history: History) -> Iterator[str]:
    """Who follows a conversation sees each run from its first event, from the first it saw on."""
    order = defaultdict(list)
    for run_id, run in sorted(history.stored.runs.items(), key=lambda item: item[1]["created_at"]):
        order[run["conversation_id"]].append(run_id)
    seen: dict[str, dict[str, int]] = defaultdict(dict)
    for client, run_id, events in history.views():
        if client in history.watchers:
            seen[client][run_id] = events[0].seq
    for client, conversation_id in history.watchers.items():
        runs = order[conversation_id]
        first = min((runs.index(run_id) for run_id in seen[client] if run_id in runs), default=len(runs))
        for run_id in runs[first:]:
            if run_id not in seen[client]:
                yield f"{client} was not shown run {run_id}"
            elif seen[client][run_id] != 1 and run_id != runs[first]:
                yield f"{client} was shown run {run_id} from {seen[client][run_id]} on"


def runs_end_well_unless_they_cannot(history: History) -> Iterator[str]:
    """A run fails or is interrupted only where the fault leaves no other way."""
    for run_id, run in history.stored.runs.items():
        task, status = history.task_of(run_id), run["status"]
        effect = task is not None and task.effect
        if status == "failed" and not history.fails:
            yield f"run {run_id} failed with {run.get('error') or run.get('error_code')}"
        if status == "interrupted" and not (history.interrupts or (effect and history.interrupts_effects)):
            yield f"run {run_id} was interrupted"


def nobody_waits_too_long(history: History) -> Iterator[str]:
    """An answer under way goes on soon."""
    longest = max(pauses(history), default=0.0)
    if history.longest_pause_s is not None and longest > history.longest_pause_s:
        yield f"an answer stood still for {longest:.1f} s; {history.longest_pause_s:.0f} s is the most"


def everybody_is_served_in_the_end(history: History) -> Iterator[str]:
    """Once all is whole again nothing is left in anybody's way."""
    yield from history.unserved


def refusals_say_when_to_come_back(history: History) -> Iterator[str]:
    """Whoever is refused because something is away is told its name and when to try again; nothing is an internal error."""
    for exchange in history.exchanges:
        where = f"{exchange.client}: {exchange.what} was answered {exchange.status} {exchange.code}"
        if exchange.status == 503 and not (exchange.code and exchange.retry_after):
            yield f"{where} without {'a code' if not exchange.code else 'Retry-After'}"
        if exchange.status >= 500 and exchange.status not in {503, 504}:
            yield f"{where} {exchange.detail}".rstrip()


RULES: tuple[Callable[[History], Iterator[str]], ...] = (
    no_acknowledged_message_is_lost,
    every_run_ends_in_one_labelled_state,
    what_a_client_shows_is_what_is_stored,
    an_answer_is_the_right_one_or_its_beginning,
    numbers_are_gapless,
    no_cursor_is_refused,
    one_answer_for_one_client_message_id,
    usage_is_counted_once,
    no_finished_step_is_repeated,
    an_effect_happens_once,
    a_stop_is_kept,
    watchers_see_every_run,
    runs_end_well_unless_they_cannot,
    nobody_waits_too_long,
    everybody_is_served_in_the_end,
    refusals_say_when_to_come_back,
)


def _touched(history: History) -> set[str]:
    """Returns the runs that were under way at any time of the fault: an owner that takes one over estimates what it did not see itself."""
    begun, whole = history.hit
    found = set()
    for _, run_id, events in history.views():
        if events[0].at <= whole and events[-1].at >= begun:
            found.add(run_id)
    return found


def _told(event: Event) -> str:
    return "failed" if event.name == "error" else str(event.data["status"])


def _answer(history: History, run_id: str) -> dict[str, Any] | None:
    run = history.stored.runs.get(run_id)
    if run is None:
        return None
    messages = history.stored.messages.get(run["conversation_id"], [])
    return next((message for message in messages if message["id"] == run["message_id"]), None)


def _tools(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for part in answer["parts"]:
        if part["type"] == "tool_use":
            found[part["tool_call_id"]] = {"name": part["name"], "input": part["input"]}
        elif part["type"] == "tool_result":
            found.setdefault(part["tool_call_id"], {}).update(content=part["content"], is_error=part["is_error"])
    return found


def _tokens(usage: dict[str, Any]) -> tuple[object, ...]:
    return tuple(usage.get(name) for name in ("input_tokens", "output_tokens", "cached_tokens", "estimated"))


def _stands_alone(event: Event) -> bool:
    """Whether it may come after a gap: it replaces all before it, takes some of it back, or is an end read from the store."""
    return event.name in {"reset", "usage", *FINAL} or (event.name == "text" and event.data["offset"] == 0)


def _stands_for_many(event: Event) -> bool:
    """Whether it is read from the store: one text for all there is, with a number low enough for whoever leaves right after it."""
    return event.name == "text" and " " in str(event.data["delta"]).strip()


def _told_by(event: Event) -> int:
    """How many events it may stand for: one for each word, and the one that says that a step begins."""
    return len(str(event.data["delta"]).split()) + 1 if _stands_for_many(event) else 1


def _differ(found: str, wanted: str) -> str:
    at = next(
        (place for place, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
    )
    return f"{len(found)} characters instead of {len(wanted)}; from {at} on {found[at : at + 40]!r} instead of {wanted[at : at + 40]!r}"


def _around_first_fall(seen: list[int]) -> str:
    place = next(place for place, (before, after) in enumerate(pairwise(seen)) if after <= before)
    return ", ".join(str(number) for number in seen[max(place - 2, 0) : place + 4])
