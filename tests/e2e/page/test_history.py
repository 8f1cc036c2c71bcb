"""The web page in a real browser: versions of messages, answers that are gone on with, tools, and finding what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.fakes.llm_provider import Answer, StreamError
from tests.fakes.script import ToolUse

if TYPE_CHECKING:
    from tests.e2e.system import System
    from tests.e2e.visitor import Visitor

pytestmark = pytest.mark.page

COUNT = " ".join(f"word{number}" for number in range(40))


async def test_an_edited_message_begins_a_branch_and_the_old_one_is_kept(stack: System, visitor: Visitor) -> None:
    for place in ("north", "south"):
        stack.provider.script(Answer(text=f"It is {place}."), match=f"look {place}")
    await visitor.say("Please look north")
    await expect(visitor.answer).to_contain_text("It is north.")
    await visitor.answered()
    await visitor.questions.first.hover()
    await visitor.button("Edit message").click()
    edited = visitor.page.get_by_role("textbox", name="Edited message")
    await expect(edited).to_be_focused()
    await expect(edited).to_have_value("Please look north")
    await edited.fill("Please look south")
    await edited.press("Enter")
    await expect(visitor.answer).to_contain_text("It is south.")
    await visitor.answered()
    for reloaded in (False, True):
        if reloaded:
            await visitor.page.reload()
        await expect(visitor.questions).to_have_text(["Please look south"])
        await expect(visitor.versions).to_have_text(["Version 2/ of 2"])
    await visitor.button("Previous version").click()
    await expect(visitor.questions).to_have_text(["Please look north"])
    await expect(visitor.answer).to_contain_text("It is north.")
    await expect(visitor.button("Next version")).to_be_focused()
    await visitor.page.reload()
    await expect(visitor.questions).to_have_text(["Please look north"])


async def test_leaving_the_editor_changes_nothing(visitor: Visitor) -> None:
    await visitor.say("As it is")
    await visitor.answered()
    await visitor.questions.first.hover()
    await visitor.button("Edit message").click()
    await visitor.page.get_by_role("textbox", name="Edited message").fill("Other words")
    await visitor.page.keyboard.press("Escape")
    await expect(visitor.questions).to_have_text(["As it is"])
    await expect(visitor.button("Edit message")).to_be_focused()
    await expect(visitor.versions).to_have_count(0)


async def test_an_answer_given_anew_stands_beside_the_old_one(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text="Heads."), Answer(text="Coin toss"), Answer(text="Tails."), match="toss a coin")
    await visitor.say("Please toss a coin")
    await expect(visitor.conversations).to_have_text(["Coin toss"])
    await visitor.button("Regenerate").click()
    await expect(visitor.answer).to_contain_text("Tails.")
    await expect(visitor.answers).to_have_count(1)
    await expect(visitor.versions).to_have_text(["Version 2/ of 2"])
    await visitor.button("Previous version").click()
    await expect(visitor.answer).to_contain_text("Heads.")
    await expect(visitor.versions).to_have_text(["Version 1/ of 2"])
    await expect(visitor.questions).to_have_text(["Please toss a coin"])


async def test_a_stopped_answer_is_gone_on_with(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=COUNT, delay_s=0.2), match="count in two goes")
    await visitor.say("Please count in two goes")
    await expect(visitor.answer).to_contain_text("word2")
    await visitor.stop.click()
    await visitor.answered()
    kept = await visitor.answer.get_by_role("paragraph").filter(has_text="word0").inner_text()
    stack.provider.script(Answer(text=" and the rest."))
    await visitor.button("Continue").click()
    await visitor.answered()
    for reloaded in (False, True):
        if reloaded:
            await visitor.page.reload()
        await expect(visitor.answer.get_by_role("paragraph").filter(has_text="word0")).to_have_text(
            f"{kept.strip()} and the rest."
        )
        await expect(visitor.answer.get_by_text("Stopped")).to_have_count(0)
        await expect(visitor.versions).to_have_text(["Version 2/ of 2"])


async def test_an_answer_cut_off_at_the_limit_says_so_after_a_reload_too(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text="As far as this", finish="length"), match="be long")
    await visitor.say("Please be long")
    for reloaded in (False, True):
        if reloaded:
            await visitor.page.reload()
        await expect(visitor.answer).to_contain_text("As far as this")
        await expect(visitor.answer.get_by_text("Cut off at the model's length limit")).to_be_visible()
        await expect(visitor.button("Continue")).to_be_visible()


async def test_a_failed_answer_tried_again_is_another_version(stack: System, visitor: Visitor) -> None:
    stack.provider.script(StreamError(after=3, answer=Answer(text=COUNT)), match="break once")
    await visitor.say("Please break once")
    await expect(visitor.answer).to_contain_text("word0")
    await visitor.button("Try again").click()
    await expect(visitor.answer).to_contain_text("Hello from the scripted provider.")
    await expect(visitor.answers).to_have_count(1)
    await expect(visitor.questions).to_have_text(["Please break once"])
    await expect(visitor.versions).to_have_text(["Version 2/ of 2"])


async def test_a_tool_is_seen_at_work_and_what_it_said_is_kept(stack: System, visitor: Visitor) -> None:
    zone = '{"timezone": "Europe/Berlin"}'
    stack.provider.script(Answer(text="Let me look.", tools=[ToolUse("current_time", zone)]), match="the hour", step=0)
    stack.provider.script(Answer(text="It is late.", first_delay_s=0.5, delay_s=0.1), match="the hour", step=1)
    await visitor.say("Tell me the hour")
    await expect(visitor.tool("current time")).to_be_visible()
    await visitor.answered()
    for reloaded in (False, True):
        if reloaded:
            await visitor.page.reload()
        await expect(visitor.answer.get_by_role("paragraph").filter(has_text="Let me look.")).to_have_count(1)
        await expect(visitor.answer.get_by_role("paragraph").filter(has_text="It is late.")).to_have_count(1)
        await expect(visitor.tool("current time")).to_contain_text("done")
        await visitor.tool("current time").click()
        await expect(visitor.answer.get_by_text("Europe/Berlin").first).to_be_visible()


async def test_what_was_said_is_found_again(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text="A heron stands in the reeds."), Answer(text="Birds"), match="about birds")
    stack.provider.script(Answer(text="Nothing of the kind."), Answer(text="Stones"), match="about stones")
    await visitor.say("Tell me about birds")
    await expect(visitor.conversations).to_have_text(["Birds"])
    await visitor.button("New conversation").click()
    await visitor.say("Tell me about stones")
    await expect(visitor.conversations).to_have_text(["Stones", "Birds"])
    await visitor.search.fill("heron")
    await expect(visitor.conversations).to_have_count(1)
    await expect(visitor.conversations).to_contain_text("Birds")
    await expect(visitor.conversations.locator("mark")).to_have_text("heron")
    await visitor.conversations.click()
    await expect(visitor.answer).to_contain_text("A heron stands in the reeds.")
    await visitor.search.fill("nowhere to be found")
    await expect(visitor.page.get_by_role("status").filter(has_text="Nothing found.")).to_be_attached()
    await visitor.search.press("Escape")
    await expect(visitor.search).to_have_value("")
    await expect(visitor.conversations).to_have_count(2)
