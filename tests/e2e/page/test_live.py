"""The web page in a real browser: the same conversation in two tabs, turns in the background, and one answer at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.fakes.llm_provider import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.e2e.system import System
    from tests.e2e.visitor import Visitor
    from tests.e2e.wire import Wire

    Arrive = Callable[..., Awaitable[Visitor]]

pytestmark = pytest.mark.page

COUNT = " ".join(f"word{number}" for number in range(40))
"""An answer whose every piece can be told from the others."""
WORDS = "word0"


async def whole(visitor: Visitor) -> None:
    """Waits until the newest answer is whole, each word of it once."""
    await visitor.answered()
    await expect(visitor.answer.get_by_role("paragraph").filter(has_text=WORDS)).to_have_text(COUNT)


async def test_two_tabs_show_the_same_answer_while_it_is_written(stack: System, visitor: Visitor) -> None:
    await visitor.say("Hello")
    await visitor.answered()
    other = await visitor.second_tab()
    await expect(other.answers).to_have_count(1)
    stack.provider.script(Answer(text=COUNT, delay_s=0.15), match="count for both")
    await visitor.say("Please count for both")
    for tab in (other, visitor):
        await expect(tab.answer).to_contain_text("word3")
        await expect(tab.stop).to_be_visible()
    for tab in (visitor, other):
        await whole(tab)
        await expect(tab.answers).to_have_count(2)
        await expect(tab.questions).to_have_text(["Hello", "Please count for both"])


async def test_stop_in_another_tab_stops_it_in_both(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=COUNT, delay_s=0.2), match="count until stopped elsewhere")
    await visitor.say("Please count until stopped elsewhere")
    await expect(visitor.answer).to_contain_text("word2")
    other = await visitor.second_tab()
    await expect(other.answer).to_contain_text("word3")
    await other.stop.click()
    for tab in (visitor, other):
        await expect(tab.answer.get_by_text("Stopped")).to_be_visible()
        await tab.answered()
        await expect(tab.answer).not_to_contain_text("word39")
    await visitor.page.reload()
    await expect(visitor.answer.get_by_text("Stopped")).to_be_visible()


async def test_a_watched_answer_survives_a_cut_and_a_severed_wire(stack: System, wire: Wire, arrive: Arrive) -> None:
    """The tab that only watches says that it reconnects, and in the end has every word once."""
    writer = await arrive(stack.edge_url)
    await writer.sign_up()
    stack.provider.script(Answer(text=COUNT, delay_s=0.2), match="count through cuts")
    await writer.say("Please count through cuts")
    await expect(writer.answer).to_contain_text("word1")
    watcher = await arrive(wire.url)
    session = await writer.page.evaluate("localStorage.getItem('parley.session')")
    await watcher.page.evaluate("session => localStorage.setItem('parley.session', session)", session)
    await watcher.page.goto(f"{wire.url}/#/c/{writer.conversation_id}")
    await watcher.page.reload()
    await expect(watcher.answer).to_contain_text("word4")
    await wire.cut()
    await expect(watcher.answer).to_contain_text("word12")
    await wire.sever()
    await expect(watcher.answer.get_by_text("Reconnecting")).to_be_visible()
    await wire.mend()
    await whole(watcher)
    await expect(watcher.answer.get_by_text("Reconnecting")).to_have_count(0)
    await expect(watcher.answers).to_have_count(1)


async def test_a_turn_in_the_background_appears_while_it_is_written(stack: System, visitor: Visitor) -> None:
    await visitor.say("Hello")
    await visitor.answered()
    stack.provider.script(Answer(text=COUNT, delay_s=0.1), match="in the background")
    async with await visitor.api() as client:
        path = f"/v1/conversations/{visitor.conversation_id}/runs"
        submitted = await client.post(path, json={"message": "in the background"}, headers={"prefer": "respond-async"})
    assert submitted.status_code == 202
    await expect(visitor.questions).to_have_text(["Hello", "in the background"])
    await expect(visitor.answer).to_contain_text("word2")
    await whole(visitor)


async def test_a_message_that_meets_another_answer_can_wait_for_it(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=COUNT, delay_s=0.15), match="count first")
    stack.provider.script(Answer(text="After that."), match="then this")
    await visitor.say("Please count first")
    await expect(visitor.answer).to_contain_text("word1")
    await visitor.say("And then this")
    await expect(visitor.page.get_by_role("alert")).to_contain_text("Another answer of yours is still being written")
    await visitor.button("Wait for it").click()
    await expect(visitor.answer).to_contain_text("Waiting for your other answer")
    other = await visitor.second_tab()
    await expect(other.answer).to_contain_text("Waiting to begin")
    for tab in (visitor, other):
        await expect(tab.answer).to_contain_text("After that.")
        await expect(tab.answers.first.get_by_role("paragraph").filter(has_text=WORDS)).to_have_text(COUNT)
        await tab.answered()


async def test_what_waits_can_be_cancelled_and_the_other_goes_on(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=COUNT, delay_s=0.15), match="count on")
    await visitor.say("Please count on")
    await expect(visitor.answer).to_contain_text("word1")
    await visitor.say("Not this after all")
    await visitor.button("Wait for it").click()
    await visitor.answer.get_by_role("button", name="Cancel").click()
    await expect(visitor.answer.get_by_text("Stopped")).to_be_visible()
    await visitor.answered()
    await expect(visitor.answers.first.get_by_role("paragraph").filter(has_text=WORDS)).to_have_text(COUNT)
    assert not [one for one in stack.provider.requests if "Not this after all" in str(one.body["messages"][-1])]


async def test_a_message_can_stop_the_answer_in_its_way(stack: System, visitor: Visitor) -> None:
    """Also one in another conversation."""
    stack.provider.script(Answer(text=COUNT, delay_s=0.3), match="count in vain")
    stack.provider.script(Answer(text="At once."), match="urgent")
    await visitor.say("Please count in vain")
    await expect(visitor.answer).to_contain_text("word1")
    first = visitor.page.url
    await visitor.button("New conversation").click()
    await visitor.say("This is urgent")
    await visitor.button("Stop it and send this").click()
    await expect(visitor.answer).to_contain_text("At once.")
    await visitor.answered()
    await visitor.page.goto(first)
    await expect(visitor.answer.get_by_text("Stopped")).to_be_visible()
    await expect(visitor.answer).to_contain_text("word1")


async def test_a_title_made_in_the_background_shows_up(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text="They follow the moon."), Answer(text="Moon and tides"), match="why tides come")
    await visitor.say("Tell me why tides come")
    await expect(visitor.conversations).to_have_text(["Moon and tides"])
    await expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Moon and tides")
    await expect(visitor.page).to_have_title("Moon and tides · Parley")
