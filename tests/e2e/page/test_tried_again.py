"""The web page in a real browser: what was given up in the background and is tried again."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.fakes.llm_provider import Answer, Fault

if TYPE_CHECKING:
    from tests.e2e.system import System
    from tests.e2e.visitor import Visitor

pytestmark = [pytest.mark.page, pytest.mark.timeout(90)]

PATH = "/v1/admin/dead-letters"
FAILED = "provider is not answering"
COUNT = " ".join(f"word{number}" for number in range(40))


async def test_a_failed_answer_that_is_tried_again_is_written_where_it_stands(stack: System, visitor: Visitor) -> None:
    """In a tab that has seen it fail, and in one that was opened afterwards; nobody loads the page anew."""
    await visitor.say("Hello")
    await visitor.answered()
    message = f"Fail {secrets.token_hex(6)}"
    stack.provider.script(Fault(status=500), match=message, times=1000)
    async with await visitor.api() as client:
        path = f"/v1/conversations/{visitor.conversation_id}/runs"
        submitted = await client.post(path, json={"message": message}, headers={"prefer": "respond-async"})
        assert submitted.status_code == 202
        await expect(visitor.answers).to_have_count(2)
        await expect(visitor.answer).to_contain_text(FAILED, timeout=40_000)
        other = await visitor.second_tab()
        await expect(other.answer).to_contain_text(FAILED)
        stack.provider._matched.clear()
        stack.provider.script(Answer(text=COUNT, delay_s=0.1), match=message)
        retried = await client.post(f"{PATH}/{submitted.json()['run_id']}/retry")
        assert retried.status_code == 200
    for tab in (visitor, other):
        await expect(tab.answer).to_contain_text("word3")
        await expect(tab.stop).to_be_visible()
    for tab in (visitor, other):
        await tab.answered()
        await expect(tab.answer.get_by_role("paragraph").filter(has_text="word0")).to_have_text(COUNT)
        await expect(tab.answer).not_to_contain_text(FAILED)
        await expect(tab.answers).to_have_count(2)
