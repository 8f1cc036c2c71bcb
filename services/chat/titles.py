"""Titles of new conversations, made beside the answers: by a small model, or of the first words where that does not work."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import structlog

from runtime import telemetry
from runtime.errors import ParleyError
from services.chat import metrics
from services.chat.asking import ModelCall, PromptMessage, Role, TextDelta
from services.chat.domain import PartKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.chat.asking import Earlier, Gateway
    from services.chat.delegation import Credential
    from services.chat.ports import Data

log = structlog.stdlib.get_logger()

TITLE_MAX_CHARS = 60
INSTRUCTIONS = (
    "You name conversations. Give a title for the conversation that begins with the message below: two to six words in the "
    "message's language, no quotes, no full stop, nothing but the title. Do not answer the message."
)
_READ_CHARS = 2_000
_ANSWER_TOKENS = 40
_ANSWER_CHARS = 400
_DEADLINE_S = 10.0
_AT_ONCE = 8
_WAITING_MOST = 500
_TRIES = 3
_PAUSE_S = 1.0
_MARKS = " \t\"'`*_#.:;,-\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_LABEL = re.compile(r"^(title|titel|titre|título)\s*:\s*", re.IGNORECASE)


class Titles:
    """Gives titles to conversations that have none.

    Args:
        gateway: Who is asked for one.
        data: Where it is stored.
        model: Model or alias that makes titles; empty: none, titles are first words.
    """

    def __init__(self, gateway: Gateway, data: Data, *, model: str) -> None:
        self._gateway = gateway
        self._data = data
        self._model = model
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def make(self, conversation_id: str, history: Sequence[Earlier], message: str, credential: Credential) -> None:
        """Begins to give a conversation a title and returns at once; whether that works concerns nobody.

        A model is asked for the first message of a conversation alone. One that comes without a title later, since the instance that was
        to make it has gone, gets its first words.
        """
        if len(self._tasks) >= _WAITING_MOST:
            return
        first = next((earlier for earlier in history if earlier.role is Role.USER), None)
        if first is not None:
            message = "".join(part.text for part in first.parts if part.kind is PartKind.TEXT)
        task = asyncio.create_task(self._make(conversation_id, message, credential, ask=first is None))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    async def drain(self, timeout_s: float) -> None:
        """Returns when the titles under way are stored, or after the timeout; the rest is dropped."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _make(self, conversation_id: str, message: str, credential: Credential, *, ask: bool) -> None:
        async with self._places:
            with telemetry.span("make_title", attributes={"gen_ai.conversation.id": conversation_id}) as span:
                title, source = "", "model"
                if ask and self._model:
                    title = await self._asked(message, credential)
                if not title:
                    title, source = first_words(message), "first words"
                span.set_attribute("parley.title.source", source)
                if title and await self._store(conversation_id, title, credential):
                    metrics.TITLES.labels(source).inc()

    async def _asked(self, message: str, credential: Credential) -> str:
        """Returns a model's title; empty where there is none to be had in time."""
        call = ModelCall(
            self._model,
            [PromptMessage(Role.SYSTEM, INSTRUCTIONS), PromptMessage(Role.USER, message[:_READ_CHARS])],
            total_s=_DEADLINE_S,
            max_output_tokens=_ANSWER_TOKENS,
        )
        text = ""
        try:
            async with (
                asyncio.timeout(_DEADLINE_S),
                contextlib.aclosing(self._gateway.chat(call, token=credential.token)) as batches,
            ):
                async for batch in batches:
                    text += "".join(delta.text for delta in batch if isinstance(delta, TextDelta))
                    if len(text) > _ANSWER_CHARS:
                        break
        except (ParleyError, TimeoutError) as error:
            log.info("title_not_made", reason=error.code if isinstance(error, ParleyError) else "TIMEOUT")
            return ""
        return cleaned(text)

    async def _store(self, conversation_id: str, title: str, credential: Credential) -> bool:
        for left in reversed(range(_TRIES)):
            try:
                await self._data.entitle(conversation_id, title, token=credential.token)
            except ParleyError as error:
                if not left or error.code != "UNAVAILABLE":
                    log.info("title_not_stored", reason=error.code)
                    return False
                await asyncio.sleep(_PAUSE_S)
            else:
                return True
        return False

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unforeseen_error", exc_info=error)


def cleaned(text: str) -> str:
    """Returns a model's answer as a title: one line, no marks around it, no longer than a title may be; empty where nothing is left."""
    line = next((line for line in text.splitlines() if line.strip(_MARKS)), "")
    line = _LABEL.sub("", " ".join(line.split()).strip(_MARKS)).strip(_MARKS)
    return _shortened(line)


def first_words(message: str) -> str:
    """Returns the first words of a message as a title."""
    return _shortened(" ".join(message[: TITLE_MAX_CHARS * 8].split()))


def _shortened(text: str) -> str:
    text = "".join(character for character in text if character.isprintable()).strip()
    if len(text) <= TITLE_MAX_CHARS:
        return text
    cut = text[: TITLE_MAX_CHARS - 1]
    words, _, rest = cut.rpartition(" ")
    # Where the last word is whole it stays; a first word that is longer than a title is cut.
    return (words if words and text[TITLE_MAX_CHARS - 1] != " " and len(rest) < len(cut) // 2 else cut).rstrip() + "…"
