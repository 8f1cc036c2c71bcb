"""Somebody at the page, in a browser: finds things by what is seen or read out, never by how they are built."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Locator, Page

CHROMIUM = Path(os.environ.get("PARLEY_CHROMIUM", "/usr/bin/chromium"))
PASSWORD = "correct horse battery"

_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
LAUNCH = {"executable_path": str(CHROMIUM), "args": list(_ARGS)}

expect.set_options(timeout=15_000)


class Visitor:
    """A tab and what it shows.

    Attributes:
        page: The tab.
        email: Theirs.
        requested: The address of every request the page has made.
        violations: What the page tried against its Content-Security-Policy, and scripts that failed.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.email = f"{secrets.token_hex(8)}@example.com"
        self.requested: list[str] = []
        self.violations: list[str] = []
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("pageerror", lambda error: self.violations.append(str(error)))
        page.on("console", lambda said: self._hear(said.text))

    @classmethod
    async def arrive(cls, browser: Browser, url: str, **context: object) -> Visitor:
        """Opens the page in a browser profile of its own; the keywords are Playwright's for a context."""
        own: BrowserContext = await browser.new_context(**context)  # type: ignore[arg-type]
        visitor = cls(await own.new_page(), url)
        await visitor.page.goto(url)
        return visitor

    async def api(self) -> httpx.AsyncClient:
        """Returns a client of the API in their name; the caller closes it."""
        session = await self.page.evaluate("JSON.parse(localStorage.getItem('parley.session'))")
        headers = {"authorization": f"Bearer {session['accessToken']}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    @property
    def conversation_id(self) -> str:
        """The id of the open conversation."""
        return self.page.url.rpartition("/")[2]

    async def second_tab(self) -> Visitor:
        """Opens the page once more in the same profile, at the same conversation."""
        other = Visitor(await self.page.context.new_page(), self.url)
        other.email = self.email
        await other.page.goto(self.page.url)
        return other

    async def leave(self) -> None:
        """Closes the profile."""
        await self.page.context.close()

    async def sign_up(self) -> None:
        """Creates an account and waits for the page behind the form."""
        await self.button("Create an account").click()
        await self.fill_in(self.email, PASSWORD)
        await self.button("Create account").click()
        await expect(self.message).to_be_visible()

    async def fill_in(self, email: str, password: str) -> None:
        """Fills in the sign-in form."""
        await self.page.get_by_label("E-mail").fill(email)
        await self.page.get_by_label("Password", exact=True).fill(password)

    async def say(self, text: str) -> None:
        """Sends a message."""
        await self.message.fill(text)
        await self.send.click()

    async def answered(self) -> None:
        """Waits until no answer is being written."""
        await expect(self.send).to_be_visible()
        await expect(self.stop).to_have_count(0)

    @property
    def message(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    @property
    def send(self) -> Locator:
        return self.button("Send")

    @property
    def stop(self) -> Locator:
        return self.page.get_by_role("button", name=re.compile("^Stop(ping)?$"))

    @property
    def conversations(self) -> Locator:
        return self.page.get_by_role("navigation", name="Conversations").get_by_role("link")

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article").filter(has=self.page.get_by_role("heading", name="Parley said"))

    @property
    def answer(self) -> Locator:
        """The newest answer."""
        return self.answers.last

    @property
    def questions(self) -> Locator:
        """What they said, each without what can be done about it."""
        asked = self.page.get_by_role("article").filter(has=self.page.get_by_role("heading", name="You said"))
        return asked.locator(".bubble")

    @property
    def versions(self) -> Locator:
        """Where a version of a message can be chosen."""
        return self.page.get_by_role("group", name="Versions")

    @property
    def search(self) -> Locator:
        return self.page.get_by_role("searchbox", name="Search conversations")

    def tool(self, name: str) -> Locator:
        """Returns a tool that the newest answer has used: what opens its details."""
        return self.answer.get_by_role("list", name="Tools used").locator("summary").filter(has_text=name)

    def button(self, name: str) -> Locator:
        """Returns a button by its name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def _hear(self, said: str) -> None:
        if "Content Security Policy" in said:
            self.violations.append(said)
