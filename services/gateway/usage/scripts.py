"""Runs Redis scripts, those that are asked for at the same time in one round trip and in the order in which they were asked for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from runtime.resp import Line, begun, spelt
from runtime.stopping import stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    _Question = tuple["Script", tuple[str, ...], Sequence[str | bytes | int], asyncio.Future[Any]]

log = structlog.stdlib.get_logger()

AWAY = (RedisError, OSError, TimeoutError)
"""What is raised when Redis is away."""
# A first token waits for this: a Redis that hangs must not be waited for as long as its client would.
_LONGEST_WAIT_S = 0.5
_NOBODY = "nobody asks Redis any more"


class Script:
    """A script and the name Redis keeps it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """The way to Redis: one connection, however many ask.

    Args:
        redis: Client.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._line = Line(redis, answer_s=_LONGEST_WAIT_S)
        # What cannot go out at once; as long as there is any of it, all that follows waits behind it.
        self._asked: list[_Question] = []
        self._asking = False
        self._wake = asyncio.Event()
        self._over = False

    def run(self, script: Script, keys: tuple[str, ...], args: Sequence[str | bytes | int]) -> asyncio.Future[Any]:
        """Runs a script, and returns what gives its answer; the question is on its way then, or goes out once the connection is open.

        Raises: one of `AWAY`, where the answer is awaited.
        """
        answer = asyncio.get_running_loop().create_future()
        if self._over:
            answer.set_exception(RedisConnectionError(_NOBODY))
            return answer
        question = (script, keys, args, answer)
        data = _beginning(script.sha1, keys, len(args)) + spelt(args)
        if self._asked or self._asking or not self._line.tell(data, 1, partial(self._told, question)):
            self._asked.append(question)
            self._wake.set()
        return answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs what is asked for during the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._over = True
            await stop(task)
            self._line.close()
            self._fail(self._asked)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._asked = self._asked, []
            self._asking = True
            try:
                async with asyncio.timeout(_LONGEST_WAIT_S):
                    await self._ask(batch)
            except AWAY as error:
                for _, _, _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
            except Exception:
                # Whatever it is, those who ask next are to get an answer.
                log.exception("scripts_failed")
            finally:
                self._asking = False
                self._fail(batch)

    def _told(self, question: _Question, told: list[Any] | Exception) -> None:
        answer = question[3]
        result = told if isinstance(told, Exception) else told[0]
        if answer.done():
            # Whoever has left is not asked for again: what undoes the question may be done by then.
            pass
        elif isinstance(result, NoScriptError):
            # What is asked from now on waits until Redis has been told of it.
            self._asked.append(question)
            self._wake.set()
        elif isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    async def _ask(self, batch: Sequence[_Question]) -> None:
        told = await self._line.ask([_command(question) for question in batch])
        for (script, keys, args, answer), result in zip(batch, told, strict=True):
            if answer.done():
                continue
            given = result
            if isinstance(result, NoScriptError):
                given = await self._redis.eval(script.text, len(keys), *keys, *args)
            if answer.done():
                continue
            if isinstance(given, Exception):
                answer.set_exception(given)
            else:
                answer.set_result(given)

    def _fail(self, batch: Sequence[_Question]) -> None:
        for _, _, _, answer in batch:
            if not answer.done():
                answer.set_exception(RedisConnectionError(_NOBODY))


def _command(question: _Question) -> tuple[str | bytes | int, ...]:
    script, keys, args, _ = question
    return ("EVALSHA", script.sha1, len(keys), *keys, *args)


@functools.lru_cache(maxsize=64)
def _beginning(sha1: str, keys: tuple[str, ...], args: int) -> bytes:
    """Returns how the command that runs a script begins, up to its arguments: it is the same for all calls of a day."""
    return begun(3 + len(keys) + args) + spelt(("EVALSHA", sha1, len(keys), *keys))
