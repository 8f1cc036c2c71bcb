"""A rule that finds nothing proves nothing: each is shown a history that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos import invariants
from tests.chaos.assembled import assemble
from tests.chaos.effects import Effect
from tests.chaos.history import Event, Exchange, History, Stored, Turn
from tests.chaos.provider import Call
from tests.chaos.task import Task

TASK = Task("t-1", words=3, every_ms=10, effect=True)
RUN, CONVERSATION = "run-1", "conversation-1"
USAGE = {"input_tokens": 22, "output_tokens": 6, "cached_tokens": 0, "estimated": False}


def event(seq: int, name: str, /, client: str = "ada/1", run_id: str = RUN, **data: Any) -> Event:
    return Event(float(seq), client, run_id, seq, name, data)


def whole(client: str) -> list[Event]:
    """An answer as a client gets it: a step with a tool, and the step after it."""
    told: list[tuple[str, dict[str, Any]]] = [
        ("run", {"conversation_id": CONVERSATION, "message_id": "answer-1"}),
        ("user_message", {"content": TASK.message}),
        ("thinking", {}),
    ]
    offset = 0
    for step in (1, 2):
        for word in TASK.pieces(step):
            told.append(("text", {"delta": word, "offset": offset}))
            offset += len(word)
        if step == 1:
            told.append(("tool_use", {"tool_call_id": "call-1", "name": "note_effect", "input": {"task": "t-1"}}))
            told.append(("tool_result", {"tool_call_id": "call-1", "content": "Noted.", "is_error": False}))
    told += [("usage", USAGE), ("done", {"status": "completed"})]
    return [event(seq, name, client, **data) for seq, (name, data) in enumerate(told, 1)]


def good() -> History:
    """A history in which everything held."""
    parts = [
        {"type": "text", "text": "".join(TASK.pieces(1))},
        {"type": "tool_use", "tool_call_id": "call-1", "name": "note_effect", "input": {"task": "t-1"}},
        {
            "type": "tool_result",
            "tool_call_id": "call-1",
            "name": "note_effect",
            "content": "Noted.",
            "is_error": False,
        },
        {"type": "text", "text": "".join(TASK.pieces(2))},
    ]
    asked = {"id": "asked-1", "run_id": RUN, "role": "user", "state": "complete", "content": TASK.message}
    answer = {"id": "answer-1", "run_id": RUN, "role": "assistant", "state": "complete", "content": TASK.whole}
    run = {"conversation_id": CONVERSATION, "user_message_id": "asked-1", "message_id": "answer-1", "created_at": "1"}
    return History(
        events=[*whole("ada/1"), *whole("ada/tab")],
        exchanges=[Exchange(0.0, "ada", "POST /v1/conversations", 503, "unavailable", retry_after=True)],
        turns=[Turn(1.0, "ada/1", TASK, "key-1", CONVERSATION, RUN, "stream")],
        watchers={"ada/tab": CONVERSATION},
        hit=(40.5, 46.5),
        calls=[Call("t-1", 1, 1.0, 3, whole=True), Call("t-1", 2, 2.0, 3, whole=True)],
        effects=[Effect("t-1", RUN, "call-1", 1, 1.0)],
        stored=Stored(
            runs={RUN: run | {"status": "completed"}},
            messages={CONVERSATION: [asked, answer | {"parts": parts, "usage": USAGE}]},
        ),
        longest_pause_s=15,
    )


def answer_of(history: History) -> dict[str, Any]:
    return history.stored.messages[CONVERSATION][1]


def change(history: History, place: int, **data: Any) -> None:
    history.events[place] = replace(history.events[place], data=history.events[place].data | data)


def lose_the_run(history: History) -> None:
    history.stored.runs.clear()


def lose_the_message(history: History) -> None:
    del history.stored.messages[CONVERSATION][0]


def lose_the_answer(history: History) -> None:
    del history.stored.messages[CONVERSATION][1]


def leave_it_running(history: History) -> None:
    history.stored.runs[RUN]["status"] = "running"


def label_it_wrong(history: History) -> None:
    answer_of(history)["state"] = "partial"


def tell_another_end(history: History) -> None:
    change(history, -1, status="cancelled")


def leave_a_row(history: History) -> None:
    history.stored.unfinished = 1


def lose_the_end(history: History) -> None:
    del history.events[-1]


def lose_a_word_on_screen(history: History) -> None:
    change(history, 4, delta="")


def leave_a_hole(history: History) -> None:
    change(history, 4, offset=history.events[4].data["offset"] + 1)


def show_no_tool(history: History) -> None:
    history.events = [one for one in history.events if not one.name.startswith("tool")]


def go_on_after_the_end(history: History) -> None:
    history.events.append(event(13, "thinking", "ada/tab"))


def store_a_word_twice(history: History) -> None:
    answer_of(history)["content"] += TASK.pieces(2)[-1]


def store_a_wrong_beginning(history: History) -> None:
    history.stored.runs[RUN]["status"] = "cancelled"
    answer_of(history)["content"] = TASK.whole[:9] + TASK.whole[10:20]


def repeat_a_number(history: History) -> None:
    history.events[5] = replace(history.events[5], seq=5)


def skip_a_number(history: History) -> None:
    history.events[4:12] = [replace(one, seq=one.seq + 1) for one in history.events[4:12]]


def begin_late(history: History) -> None:
    del history.events[0]


def refuse_a_cursor(history: History) -> None:
    history.refused_cursors.append("ada/1 came back with run-1:3: 416")


def answer_twice(history: History) -> None:
    history.turns.append(replace(history.turns[0], run_id="run-2"))


def store_the_message_twice(history: History) -> None:
    history.stored.messages[CONVERSATION].append(history.stored.messages[CONVERSATION][0])


def store_two_answers(history: History) -> None:
    history.stored.messages[CONVERSATION].append(answer_of(history) | {"id": "answer-2"})


def tell_usage_twice(history: History) -> None:
    history.events.insert(-1, history.events[-2])


def charge_too_much(history: History) -> None:
    answer_of(history)["usage"] = USAGE | {"output_tokens": 12}


def charge_all_too_much(history: History) -> None:
    charge_too_much(history)
    for place in (10, 22):
        change(history, place, output_tokens=12)


def repeat_a_step(history: History) -> None:
    history.calls.append(Call("t-1", 1, 3.0))


def repeat_an_effect(history: History) -> None:
    history.effects.append(history.effects[0])


def forget_the_effect(history: History) -> None:
    history.effects.clear()


def forget_a_stop(history: History) -> None:
    leave_it_running(history)
    history.cancels[RUN] = 5.0


def go_on_after_a_stop(history: History) -> None:
    history.cancels[RUN] = 1.2
    history.hit = (90.0, 91.0)
    history.calls = [Call("t-1", 1, 1.0, 3, ended_at=9.0)]


def ask_after_a_stop(history: History) -> None:
    history.cancels[RUN] = 0.5
    history.calls[1] = replace(history.calls[1], began_at=9.0, ended_at=9.5)


def leave_the_model_going(history: History) -> None:
    history.cancels[RUN] = 5.0
    history.calls[1].ended_at = 9.0


def hide_a_run(history: History) -> None:
    history.stored.runs["run-2"] = history.stored.runs[RUN] | {"created_at": "2"}


def fail(history: History) -> None:
    history.stored.runs[RUN]["status"] = "failed"


def interrupt(history: History) -> None:
    history.stored.runs[RUN]["status"] = "interrupted"


def stand_still(history: History) -> None:
    history.hit = (4.5, 6.5)
    history.events[5:12] = [replace(one, at=one.at + 20) for one in history.events[5:12]]


def serve_nobody(history: History) -> None:
    history.unserved.append("ada: the last message was refused: 409 concurrent_request")


def refuse_without_a_word(history: History) -> None:
    history.exchanges.append(Exchange(1.0, "ada", "POST /v1/chat", 503, "unavailable"))


def break_inside(history: History) -> None:
    history.exchanges.append(Exchange(1.0, "ada", "POST /v1/chat", 500, "internal"))


@pytest.mark.parametrize(
    ("breaks", "rule"),
    [
        (lose_the_run, invariants.no_acknowledged_message_is_lost),
        (lose_the_message, invariants.no_acknowledged_message_is_lost),
        (lose_the_answer, invariants.no_acknowledged_message_is_lost),
        (leave_it_running, invariants.every_run_ends_in_one_labelled_state),
        (label_it_wrong, invariants.every_run_ends_in_one_labelled_state),
        (tell_another_end, invariants.every_run_ends_in_one_labelled_state),
        (leave_a_row, invariants.every_run_ends_in_one_labelled_state),
        (lose_the_end, invariants.what_a_client_shows_is_what_is_stored),
        (lose_a_word_on_screen, invariants.what_a_client_shows_is_what_is_stored),
        (leave_a_hole, invariants.what_a_client_shows_is_what_is_stored),
        (show_no_tool, invariants.what_a_client_shows_is_what_is_stored),
        (go_on_after_the_end, invariants.what_a_client_shows_is_what_is_stored),
        (store_a_word_twice, invariants.an_answer_is_the_right_one_or_its_beginning),
        (store_a_wrong_beginning, invariants.an_answer_is_the_right_one_or_its_beginning),
        (repeat_a_number, invariants.numbers_are_gapless),
        (skip_a_number, invariants.numbers_are_gapless),
        (begin_late, invariants.numbers_are_gapless),
        (refuse_a_cursor, invariants.no_cursor_is_refused),
        (answer_twice, invariants.one_answer_for_one_client_message_id),
        (store_the_message_twice, invariants.one_answer_for_one_client_message_id),
        (store_two_answers, invariants.one_answer_for_one_client_message_id),
        (tell_usage_twice, invariants.usage_is_counted_once),
        (charge_too_much, invariants.usage_is_counted_once),
        (charge_all_too_much, invariants.usage_is_counted_once),
        (repeat_a_step, invariants.no_finished_step_is_repeated),
        (repeat_an_effect, invariants.an_effect_happens_once),
        (forget_the_effect, invariants.an_effect_happens_once),
        (forget_a_stop, invariants.a_stop_is_kept),
        (leave_the_model_going, invariants.a_stop_is_kept),
        (go_on_after_a_stop, invariants.a_stop_is_kept),
        (ask_after_a_stop, invariants.a_stop_is_kept),
        (hide_a_run, invariants.watchers_see_every_run),
        (fail, invariants.runs_end_well_unless_they_cannot),
        (interrupt, invariants.runs_end_well_unless_they_cannot),
        (stand_still, invariants.nobody_waits_too_long),
        (serve_nobody, invariants.everybody_is_served_in_the_end),
        (refuse_without_a_word, invariants.refusals_say_when_to_come_back),
        (break_inside, invariants.refusals_say_when_to_come_back),
    ],
)
def test_a_broken_rule_is_seen(breaks: Callable[[History], None], rule: Callable[[History], Any]) -> None:
    history = good()
    assert invariants.check(history) == []
    breaks(history)
    assert rule.__name__ in {violation.rule for violation in invariants.check(history)}


def test_every_rule_has_been_seen_broken() -> None:
    shown = {case[1] for case in test_a_broken_rule_is_seen.pytestmark[0].args[1]}
    assert shown == set(invariants.RULES)


def test_resets_take_back_what_a_step_had_written() -> None:
    """However many come in a row, the client ends with the text of the step that was done again."""
    first = "".join(TASK.pieces(1))
    again = [event(20 + number, "reset", step=2, offset=len(first)) for number in range(3)]
    events = [one for one in whole("ada/1") if one.name not in {"usage", "done"}]
    rest = [event(23, "text", delta="".join(TASK.pieces(2)), offset=len(first)), event(24, "done", status="completed")]
    screen = assemble([*events, *again, *rest])
    assert screen.text == TASK.whole
    assert screen.tools["call-1"]["content"] == "Noted."
    assert screen.faults == []


def test_a_reset_takes_back_a_call_that_has_no_result() -> None:
    begun = [one for one in whole("ada/1") if one.name in {"run", "text", "tool_use"}][:5]
    assert assemble([*begun, event(20, "reset", step=1, offset=0)]).tools == {}


def test_a_snapshot_may_jump_and_resets_may_follow_unseen_numbers() -> None:
    history = good()
    history.events = [
        *history.events[:5],
        event(10_006, "reset", step=1, offset=0),
        event(10_007, "text", delta="".join(TASK.pieces(1)), offset=0),
    ]
    assert list(invariants.numbers_are_gapless(history)) == []


def read_from_the_store(*, last_at: float) -> History:
    """A client that joins in the middle: two texts and the call between them, of which the last has the number the log had reached."""
    history = good()
    first = "".join(TASK.pieces(1))
    history.events = [
        *history.events[:3],
        event(4, "text", delta=first, offset=0),
        replace(event(5, "tool_use", tool_call_id="call-1", name="note", input={}), at=4.0),
        replace(event(40, "text", delta="".join(TASK.pieces(2)), offset=len(first)), at=last_at),
    ]
    return history


def test_the_last_event_of_a_reading_has_the_number_that_the_log_had_reached() -> None:
    assert list(invariants.numbers_are_gapless(read_from_the_store(last_at=4.01))) == []


def test_a_jump_in_the_live_log_is_seen_after_a_reading_too() -> None:
    assert list(invariants.numbers_are_gapless(read_from_the_store(last_at=6.0)))


def test_a_reading_may_begin_in_the_middle_of_a_step_and_end_with_its_text() -> None:
    """Then nothing in it but its last event stands for many, and for no more than it tells."""
    history = good()
    result = replace(event(8, "tool_result", tool_call_id="call-1", content="Noted.", is_error=False), at=7.5)
    for seq, faults in ((12, 0), (13, 1)):
        rest = replace(event(seq, "text", delta="".join(TASK.pieces(2)), offset=15), at=7.5)
        history.events = [*good().events[:7], result, rest]
        assert len(list(invariants.numbers_are_gapless(history))) == faults


def waiting_in_line(*, predecessor_ends_at: float) -> History:
    """A run is asked for at second 2 and begins at 30, behind another of its conversation."""
    history = good()
    before = [
        replace(event(1, "run", client="ada/0", run_id="run-0"), at=1.0),
        replace(event(2, "done", client="ada/0", run_id="run-0", status="completed"), at=predecessor_ends_at),
    ]
    history.stored.runs["run-0"] = history.stored.runs[RUN]
    asked = [one for one in history.events if one.client == "ada/1"]
    history.events = [*before, *asked[:2], *(replace(one, at=one.at + 27) for one in asked[2:])]
    history.hit = (2.5, 31.0)
    return history


def test_waiting_in_line_is_no_pause() -> None:
    assert list(invariants.nobody_waits_too_long(waiting_in_line(predecessor_ends_at=29.5))) == []


def test_who_is_first_in_line_begins_soon() -> None:
    assert list(invariants.nobody_waits_too_long(waiting_in_line(predecessor_ends_at=5.0)))


def test_a_task_is_found_in_its_message_and_no_word_comes_twice() -> None:
    task = Task("a-1", words=20, every_ms=5, effect=True, fault="cut:3")
    assert Task.find(task.message) == task
    assert len(set(task.whole.split())) == 40
    assert task.whole == task.whole.strip()


def test_a_run_that_only_another_tab_has_seen_is_read_too() -> None:
    """Its sender may have been told, by a deadline, to try again, and let it be; it was stored all the same."""
    history = good()
    history.events += [event(1, "run", "ada/tab", "run-2"), event(1, "run", "bob/tab", "run-3")]
    assert history.runs_of("ada") == {RUN, "run-2"}
