"""The web page in a real browser: the tokens of today, and what it says when there are no more."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.fakes.llm_provider import Answer, UsageReport

if TYPE_CHECKING:
    from tests.e2e.person import Person
    from tests.e2e.system import System
    from tests.e2e.visitor import Visitor

pytestmark = pytest.mark.page

WHEN = r"(at|tomorrow at) \d\d:\d\d"


async def limit(visitor: Visitor, operator: Person, tokens: int) -> None:
    """Sets the visitor's own budget; they have used some tokens today."""
    async with await visitor.api() as client:
        user_id = (await client.get("/auth/v1/user")).json()["id"]
    by = {"by": ["user", "organization"], "user_id": user_id}
    [row] = (await operator.http.get("/v1/admin/usage", params=by)).json()["rows"]
    whose = {"scope": "user", "org_id": row["org_id"], "user_id": user_id}
    answer = await operator.http.put("/v1/admin/budgets", params=whose, json={"limit": tokens})
    assert answer.status_code == 200, answer.text


async def ask(stack: System, visitor: Visitor, text: str) -> None:
    """Asks for an answer that takes 150 tokens, and its title 10 more; waits until they are counted."""
    answer = Answer(text="Here.", usage=UsageReport(120, 30))
    stack.provider.script(answer, Answer(text="A title", usage=UsageReport(10, 0)), match=text)
    await visitor.say(text)
    await visitor.answered()
    await expect(visitor.page.get_by_role("region", name="Usage")).to_contain_text(re.compile("^1[56]0 of"))
    await expect(visitor.conversations).to_have_text(["A title"])
    async with await visitor.api() as client, asyncio.timeout(10):
        while True:
            if (await client.get("/v1/usage")).json()["budgets"][0]["current"] == 160:
                return
            await asyncio.sleep(0.05)


async def test_what_an_answer_took_is_counted_and_the_end_of_the_tokens_is_announced(
    stack: System, visitor: Visitor, operator: Person
) -> None:
    usage = visitor.page.get_by_role("region", name="Usage")
    warning = visitor.page.get_by_role("paragraph").filter(has_text="tokens of today")
    await expect(usage).to_contain_text(re.compile("^0 of .* tokens today"))
    await ask(stack, visitor, "What does this take?")
    await expect(warning).to_have_count(0)
    await limit(visitor, operator, 180)
    await visitor.page.reload()
    await expect(usage).to_contain_text(re.compile(rf"160 of 180 tokens todayNew ones {WHEN}"))
    await expect(warning).to_have_text(re.compile(rf"88 % of your 180 tokens of today are used\. .*new ones {WHEN}"))


async def test_who_has_no_tokens_left_is_told_so_and_when_there_are_more(
    stack: System, visitor: Visitor, operator: Person
) -> None:
    await ask(stack, visitor, "What is the last thing?")
    await limit(visitor, operator, 160)
    await visitor.say("One more?")
    refused = re.compile(rf"The 160 tokens for you today are used up\. There are new ones {WHEN}\.")
    await expect(visitor.answer).to_contain_text(refused)
    again = visitor.answer.get_by_role("button", name=re.compile(r"^Try again in \d+ (s|min|h)$"))
    await expect(again).to_be_disabled()
    await visitor.page.reload()
    await expect(visitor.answer).to_contain_text("not enough tokens left")
    await limit(visitor, operator, 100_000)
    stack.provider.script(Answer(text="There are more now."), match="One more?")
    await visitor.button("Try again").click()
    await expect(visitor.answer).to_contain_text("There are more now.")
