"""Background runs that fail are tried three times and then kept for an operator: to look at, to try again, to drop."""

import secrets
from typing import Any

import pytest

from tests.e2e.person import Person
from tests.e2e.refusals import refusal
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Fault

PATH = "/v1/admin/dead-letters"
UNKNOWN = "0193f000-0000-7000-8000-000000000000"


async def letters(person: Person) -> list[dict[str, Any]]:
    answer = await person.http.get(PATH)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["dead_letters"]
    return found


async def given_up(stack: System, person: Person, message: str) -> dict[str, Any]:
    """Lets a run fail for good and returns its letter."""
    stack.provider.script(Fault(status=500), match=message, times=1000)
    submitted = await person.submit(message)
    watched = await person.events(submitted["run_id"])
    assert (watched.last.event, watched.last.data["code"]) == ("error", "provider_unavailable")
    [letter] = await letters(person)
    assert letter["run"]["id"] == submitted["run_id"]
    return letter


@pytest.mark.timeout(60)
async def test_what_fails_three_times_is_kept_with_its_reason_and_can_be_tried_again(
    stack: System, person: Person
) -> None:
    message = f"Fail {secrets.token_hex(6)}"
    letter = await given_up(stack, person, message)
    run = letter["run"]
    assert (run["status"], run["error_code"], letter["tries"]) == ("failed", "provider_unavailable", 3)
    stack.provider._matched.clear()
    stack.provider.script(Answer(text="At last"), match=message)
    retried = await person.http.post(f"{PATH}/{run['id']}/retry")
    assert (retried.status_code, retried.json()["status"]) == (200, "queued")
    watched = await person.events(run["id"])
    assert (watched.text, watched.last.data["status"]) == ("At last", "completed")
    assert await letters(person) == []


@pytest.mark.timeout(60)
async def test_what_is_dropped_stays_failed(stack: System, person: Person) -> None:
    letter = await given_up(stack, person, f"Fail {secrets.token_hex(6)}")
    path = f"{PATH}/{letter['run']['id']}"
    assert (await person.http.delete(path)).status_code == 204
    assert await letters(person) == []
    assert (await person.run(letter["run"]["id"]))["status"] == "failed"
    assert refusal(await person.http.delete(path))[:2] == (404, "dead_letter_not_found")


async def test_a_run_that_did_not_fail_is_no_dead_letter(person: Person) -> None:
    run_id = (await person.say("Hi")).run_id
    for one in (run_id, UNKNOWN):
        assert refusal(await person.http.post(f"{PATH}/{one}/retry"))[:2] == (404, "dead_letter_not_found")
        assert refusal(await person.http.delete(f"{PATH}/{one}"))[:2] == (404, "dead_letter_not_found")


async def test_a_turn_somebody_waits_for_is_no_dead_letter(stack: System, person: Person) -> None:
    """It is tried once, and whoever waits is told."""
    message = f"Fail {secrets.token_hex(6)}"
    stack.provider.script(Fault(status=500), match=message, times=10)
    assert (await person.say(message)).last.event == "error"
    assert await letters(person) == []
