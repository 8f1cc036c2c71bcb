"""The web page in a real browser: where things stand and where the focus is, on any screen and in any script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.fakes.llm_provider import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.e2e.system import System
    from tests.e2e.visitor import Visitor

    Arrive = Callable[..., Awaitable[Visitor]]

pytestmark = pytest.mark.page

MIXED = """\
שלום עולם

- אחת
- שתיים

```python
print("שלום")
```

And back again."""


async def test_what_is_written_from_right_to_left_stands_so(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=MIXED), Answer(text="שיחה"), match="מה שלומך")
    await visitor.message.fill("מה שלומך?")
    await expect(visitor.message).to_have_css("direction", "rtl")
    await visitor.send.click()
    await visitor.answered()
    await expect(visitor.questions.first).to_have_css("direction", "rtl")
    ways = {"שלום עולם": "rtl", "And back again.": "ltr"}
    for words, way in ways.items():
        await expect(visitor.answer.get_by_text(words)).to_have_css("direction", way)
    await expect(visitor.answer.get_by_role("list")).to_have_css("direction", "rtl")
    await expect(visitor.answer.get_by_role("figure")).to_have_css("direction", "ltr")


async def test_a_low_screen_shows_the_welcome_from_its_beginning(arrive: Arrive) -> None:
    visitor = await arrive(viewport={"width": 600, "height": 400})
    await visitor.sign_up()
    await expect(visitor.page.get_by_role("heading", name="What shall we talk about?")).to_be_in_viewport(ratio=1)


async def test_a_long_title_leaves_the_menu_button_its_size(arrive: Arrive) -> None:
    visitor = await arrive(viewport={"width": 375, "height": 700})
    await visitor.sign_up()
    menu = visitor.button("Conversations")
    before = await menu.bounding_box()
    async with await visitor.api() as client:
        made = (await client.post("/v1/conversations", json={"title": "long " * 30})).json()
    await visitor.page.goto(f"{visitor.url}/#/c/{made['id']}")
    await expect(visitor.page.get_by_role("heading", level=1)).to_contain_text("long long")
    assert await menu.bounding_box() == before


async def test_a_question_gives_the_focus_back(visitor: Visitor) -> None:
    async with await visitor.api() as client:
        for title in ("First", "Second"):
            await client.post("/v1/conversations", json={"title": title})
    await visitor.page.reload()
    delete = visitor.button("Delete First")
    await delete.focus()
    for leave in ("Escape", "Enter"):  # Enter: on Cancel, which has the focus
        await visitor.page.keyboard.press("Enter")
        await expect(visitor.button("Cancel")).to_be_focused()
        await visitor.page.keyboard.press(leave)
        await expect(visitor.page.get_by_role("dialog")).to_have_count(0)
        await expect(delete).to_be_focused()
    await visitor.page.keyboard.press("Enter")
    await visitor.page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    await expect(visitor.conversations).to_have_text(["Second"])
    await expect(visitor.button("New conversation")).to_be_focused()
