"""The web page in a real browser, against the whole system: one person, one tab, and what can go wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.visitor import PASSWORD, Visitor
from tests.fakes.llm_provider import Answer, Fault, Stall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.e2e.system import System
    from tests.e2e.wire import Wire

    Arrive = Callable[..., Awaitable[Visitor]]

pytestmark = pytest.mark.page

MARKDOWN = """\
## Tides

The **moon** pulls:

| sea | height |
|---|--:|
| north | 4 m |

- [x] read

```python
def tide(hour: int) -> float:
    return 4.0
```

See https://example.com/tides."""
COUNT = " ".join(f"word{number}" for number in range(40))
"""An answer whose every piece can be told from the others."""


async def stored(visitor: Visitor) -> list[tuple[str, str]]:
    """Returns role and state of each message of the open conversation, as the API tells them."""
    async with await visitor.api() as client:
        answer = await client.get(f"/v1/conversations/{visitor.conversation_id}/messages")
    return [(message["role"], message["state"]) for message in answer.json()["messages"]]


async def test_an_answer_streams_in_as_markdown_and_is_found_again(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=MARKDOWN, delay_s=0.04), Answer(text="The tides"), match="about tides")
    await visitor.say("Tell me about tides")
    await expect(visitor.answer.get_by_role("heading", name="Tides")).to_be_visible()
    await expect(visitor.stop).to_be_visible()
    await expect(visitor.answer).not_to_contain_text("example.com")
    await visitor.answered()
    for reloaded in (False, True):
        if reloaded:
            await visitor.page.reload()
        await expect(visitor.answer.get_by_role("cell", name="4 m")).to_be_visible()
        await expect(visitor.answer.locator("strong")).to_have_text("moon")
        await expect(visitor.answer.get_by_role("checkbox", name="done")).to_be_checked()
        await expect(visitor.answer.get_by_text("def", exact=True)).to_have_class("hljs-keyword")
        await expect(visitor.answer.get_by_role("link", name="https://example.com/tides")).to_have_attribute(
            "rel", "noopener noreferrer"
        )
        await expect(visitor.conversations).to_have_text(["The tides"])
        await expect(visitor.answer.get_by_text("gpt-4o-mini")).to_be_visible()


async def test_stop_keeps_what_was_written_and_closes_the_upstream(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=COUNT, delay_s=0.2), match="count until stopped")
    await visitor.say("Please count until stopped")
    await expect(visitor.answer).to_contain_text("word2")
    await visitor.stop.click()
    await expect(visitor.answer.get_by_text("Stopped")).to_be_visible()
    await visitor.answered()
    await stack.provider.until(
        lambda: any("count until stopped" in str(one.body) for one in stack.provider.closed_early)
    )
    await visitor.page.reload()
    await expect(visitor.answer).to_contain_text("word2")
    await expect(visitor.answer.get_by_text("Stopped")).to_be_visible()
    await expect(visitor.answer).not_to_contain_text("word39")


async def test_a_reload_in_mid_answer_shows_the_rest(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Answer(text=COUNT, delay_s=0.1), match="count slowly")
    await visitor.say("Please count slowly")
    await expect(visitor.answer).to_contain_text("word4")
    await visitor.page.reload()
    await expect(visitor.stop).to_be_visible()
    await visitor.answered()
    await expect(visitor.answer.get_by_role("paragraph").filter(has_text="word0")).to_have_text(COUNT)
    await expect(visitor.answers).to_have_count(1)


async def test_a_dropped_connection_loses_and_repeats_nothing(stack: System, wire: Wire, arrive: Arrive) -> None:
    visitor = await arrive(wire.url)
    await visitor.sign_up()
    stack.provider.script(Answer(text=COUNT, delay_s=0.1), match="count through a cut")
    await visitor.say("Please count through a cut")
    for word in ("word4", "word12"):
        await expect(visitor.answer).to_contain_text(word)
        await wire.cut()
    await visitor.answered()
    await expect(visitor.answer.get_by_role("paragraph").filter(has_text="word0")).to_have_text(COUNT)
    assert len([url for url in visitor.requested if url.endswith("/events")]) >= 2


async def test_a_message_that_cannot_be_sent_says_so_and_is_sent_once(
    stack: System, wire: Wire, arrive: Arrive
) -> None:
    visitor = await arrive(wire.url)
    await visitor.sign_up()
    await visitor.say("First")
    await visitor.answered()
    await wire.sever()
    await visitor.say("Second")
    await expect(visitor.page.get_by_role("alert")).to_contain_text("Parley cannot be reached")
    await wire.mend()
    await visitor.button("Try again").click()
    await expect(visitor.answers).to_have_count(2)
    await visitor.answered()
    await expect(visitor.page.get_by_role("alert")).to_have_count(0)
    assert await stored(visitor) == [("user", "complete"), ("assistant", "complete")] * 2


async def test_a_provider_that_refuses_the_key_is_told_in_words(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Fault(status=401), match="with a wrong key")
    await visitor.say("Try with a wrong key")
    await expect(visitor.answer).to_contain_text("did not accept this server's key")
    await expect(visitor.page.locator("body")).not_to_contain_text("PROVIDER-SECRET-WORDS")
    await visitor.page.reload()
    await expect(visitor.answer).to_contain_text("did not accept this server's key")
    await visitor.button("Try again").click()
    await expect(visitor.answer).to_contain_text("Hello from the scripted provider.")


async def test_a_provider_that_stalls_is_told_in_words_and_the_partial_is_kept(stack: System, visitor: Visitor) -> None:
    stack.provider.script(Stall(after=3, answer=Answer(text=COUNT)), match="and stall")
    await visitor.say("Begin and stall")
    await expect(visitor.answer).to_contain_text("The model stopped in the middle of its answer")
    await expect(visitor.answer).to_contain_text("word0")


async def test_an_answer_loads_nothing_from_elsewhere_and_brings_no_html(stack: System, visitor: Visitor) -> None:
    text = (
        "![a chart](https://images.example.net/x.png) <img src='https://images.example.net/y.png' onerror='hacked=1'> "
        "<script>hacked=1</script> [click](javascript:hacked=1) [fine](https://example.com/)"
    )
    stack.provider.script(Answer(text=text), match="attack me")
    await visitor.say("Please attack me")
    await visitor.answered()
    await expect(visitor.answer.get_by_role("link")).to_have_text(["a chart images.example.net", "fine"])
    await expect(visitor.answer).to_contain_text("<script>hacked=1</script>")
    assert await visitor.page.locator("img").count() == 0
    assert await visitor.page.evaluate("'hacked' in window") is False
    assert [url for url in visitor.requested if not url.startswith(stack.edge_url)] == []


async def test_the_finished_answer_is_announced_and_not_its_pieces(stack: System, visitor: Visitor) -> None:
    status = visitor.page.get_by_role("status")
    stack.provider.script(Answer(text=COUNT, delay_s=0.05), match="read it to me")
    await visitor.say("Please read it to me")
    await expect(visitor.answer).to_contain_text("word5")
    await expect(visitor.answer).to_have_attribute("aria-busy", "true")
    await expect(status).to_have_text("")
    await visitor.answered()
    await expect(status).to_have_text(f"Parley: {COUNT}")
    await expect(visitor.answer).to_have_attribute("aria-busy", "false")


async def test_everything_works_with_the_keyboard_alone(stack: System, arrive: Arrive) -> None:
    visitor = await arrive()
    keyboard = visitor.page.keyboard

    async def reach(name: str) -> None:
        """Presses Tab until the thing of this name has the focus."""
        for _ in range(30):
            focused = await visitor.page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.innerText"
            )
            if focused == name:
                return
            await keyboard.press("Tab")
        pytest.fail(f"Tab does not lead to {name!r}")

    await reach("Create an account")
    await keyboard.press("Enter")
    await keyboard.type(visitor.email)
    await keyboard.press("Tab")
    await keyboard.type(PASSWORD)
    await keyboard.press("Enter")
    await expect(visitor.message).to_be_focused()

    stack.provider.script(Answer(text=COUNT, delay_s=0.2), match="stop me")
    await keyboard.type("First line")
    await keyboard.press("Shift+Enter")
    await keyboard.type("stop me")
    await keyboard.press("Enter")
    await expect(visitor.answer).to_contain_text("word1")
    await keyboard.press("Escape")
    await expect(visitor.answer.get_by_text("Stopped")).to_be_visible()
    await expect(visitor.message).to_be_focused()

    await reach("Skip to the conversation")
    await keyboard.press("Enter")
    await expect(visitor.page.get_by_role("main")).to_be_focused()
    await reach("Rename First line stop me")
    await keyboard.press("Enter")
    await keyboard.type("By keyboard")
    await keyboard.press("Enter")
    await expect(visitor.conversations).to_have_text(["By keyboard"])
    await expect(visitor.conversations).to_be_focused()
    await reach("Delete By keyboard")
    await keyboard.press("Enter")
    await reach("Delete")
    await keyboard.press("Enter")
    await expect(visitor.conversations).to_have_count(0)


async def test_a_phone_shows_everything_without_scrolling_sideways(stack: System, arrive: Arrive) -> None:
    visitor = await arrive(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = visitor.page
    wide = "| " + " | ".join(f"column{n}" for n in range(9)) + " |\n" + "|---" * 9 + "|\n\n"
    stack.provider.script(
        Answer(text=f"{wide}```js\n{'x' * 300}\n```\n\n{'y' * 300} https://example.com/{'z' * 200}"),
        Answer(text="A wide answer"),
        match="be wide",
    )

    async def assert_fits() -> None:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360

    await assert_fits()
    await visitor.sign_up()
    await assert_fits()
    await visitor.say("Please be wide")
    await visitor.answered()
    await assert_fits()
    await expect(page.get_by_role("navigation", name="Conversations")).not_to_be_visible()
    await visitor.button("Conversations").click()
    await expect(visitor.conversations).to_have_text(["A wide answer"])
    await expect(visitor.button("New conversation")).to_be_focused()
    await assert_fits()
    await visitor.button("New conversation").click()
    await expect(page.get_by_role("navigation", name="Conversations")).not_to_be_visible()
    await expect(page.get_by_role("heading", name="What shall we talk about?")).to_be_visible()


async def test_conversations_are_kept_apart_renamed_and_deleted(stack: System, visitor: Visitor) -> None:
    page = visitor.page
    stack.provider.script(Answer(text="About cats."), Answer(text="Cats"), match="cats")
    stack.provider.script(Answer(text="About dogs."), Answer(text="Dogs"), match="dogs")
    await visitor.say("Tell me of cats")
    await visitor.answered()
    await visitor.button("New conversation").click()
    await visitor.say("Tell me of dogs")
    await visitor.answered()
    await expect(visitor.conversations).to_have_text(["Dogs", "Cats"])

    await visitor.conversations.filter(has_text="Cats").click()
    await expect(visitor.answers).to_have_count(1)
    await expect(visitor.answer).to_contain_text("About cats.")
    address = page.url
    await visitor.conversations.filter(has_text="Cats").hover()
    await visitor.button("Rename Cats").click()
    await page.get_by_role("textbox", name="Title").fill("Felines")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Felines")

    await page.goto("about:blank")
    await page.goto(address)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Felines")
    await expect(visitor.answer).to_contain_text("About cats.")

    await visitor.conversations.filter(has_text="Felines").hover()
    await visitor.button("Delete Felines").click()
    await visitor.button("Cancel").click()
    await expect(visitor.conversations).to_have_count(2)
    await visitor.button("Delete Felines").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(visitor.conversations).to_have_text(["Dogs"])
    await expect(page.get_by_role("heading", name="What shall we talk about?")).to_be_visible()
    await page.goto(address)
    await expect(page.get_by_role("alert")).to_contain_text("This conversation is not here")


async def test_a_session_survives_a_reload_and_ends_in_every_tab(visitor: Visitor) -> None:
    await visitor.page.reload()
    await expect(visitor.message).to_be_visible()
    other = await visitor.second_tab()
    await expect(other.message).to_be_visible()
    await visitor.button("Sign out").click()
    for tab in (visitor, other):
        await expect(tab.button("Sign in")).to_be_visible()
    await visitor.page.reload()
    await visitor.fill_in(visitor.email, PASSWORD)
    await visitor.button("Sign in").click()
    for tab in (visitor, other):
        await expect(tab.message).to_be_visible()


async def test_two_tabs_with_a_dead_access_token_refresh_once_and_stay_signed_in(visitor: Visitor) -> None:
    other = await visitor.second_tab()
    await expect(other.message).to_be_visible()
    await visitor.page.evaluate(
        """() => {
            const session = JSON.parse(localStorage.getItem("parley.session"));
            localStorage.setItem("parley.session", JSON.stringify({ ...session, accessToken: "dead" }));
        }"""
    )
    await visitor.message.fill("Hello")
    # The other one searches: two answers at once would be one more than a user may have.
    await asyncio.gather(visitor.message.press("Enter"), other.search.fill("nowhere to be found"))
    await expect(visitor.answer).to_contain_text("Hello from the scripted provider.")
    await expect(other.page.get_by_role("status").filter(has_text="Nothing found.")).to_be_attached()
    refreshes = [url for tab in (visitor, other) for url in tab.requested if "grant_type=refresh_token" in url]
    assert len(refreshes) == 1


async def test_sign_in_faults_are_told_next_to_their_field(visitor: Visitor, arrive: Arrive) -> None:
    stranger = await arrive()
    email, password = stranger.page.get_by_label("E-mail"), stranger.page.get_by_label("Password", exact=True)
    await stranger.fill_in(visitor.email, "not the password")
    await stranger.button("Sign in").click()
    await expect(password).to_have_accessible_description("That e-mail address and password do not go together.")
    await expect(password).to_be_focused()
    await stranger.button("Create an account").click()
    await stranger.fill_in(visitor.email, "short")
    await stranger.button("Create account").click()
    await expect(password).to_have_accessible_description("Use at least 8 characters.")
    await stranger.fill_in(visitor.email, PASSWORD)
    await stranger.button("Create account").click()
    await expect(email).to_have_accessible_description(
        "There is already an account with this e-mail address. Sign in instead."
    )
