"""A connection to Redis for what many ask of it at once: commands go out in one write, and their answers are read as they arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import redis.asyncio
from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Sequence[str | bytes | int | float]

Answered: TypeAlias = "Callable[[list[Any] | Exception], None]"
"""Is told the answers of a batch, or why there are none; it waits for nothing and raises nothing."""

_CONNECT_S = 1.0
_ANSWER_S = 2.0
# Before Redis is called late its connection is looked at again: what waits there is read meanwhile.
_LOOK_S = 0.001
_END = b"\r\n"
_LOST = "The connection to Redis was lost."
_ERRORS: dict[str, type[exceptions.RedisError]] = {
    "LOADING": exceptions.BusyLoadingError,
    "MASTERDOWN": exceptions.MasterDownError,
    "NOAUTH": exceptions.AuthenticationError,
    "NOSCRIPT": exceptions.NoScriptError,
    "READONLY": exceptions.ReadOnlyError,
    "WRONGPASS": exceptions.AuthenticationError,
}


class Line:
    """Sends batches of commands, over a connection of its own that is opened when it is needed, and again when it was lost.

    It is for commands that Redis answers at once; whoever asks while others do is answered after them.

    Args:
        client: Knows where Redis is, and with which credentials.
        answer_s: Longest wait for an answer; then the connection is closed, for all who wait.
    """

    def __init__(self, client: redis.asyncio.Redis, *, answer_s: float = _ANSWER_S) -> None:
        self._client = client
        self._answer_s = answer_s
        pool = client.connection_pool
        # Over TLS, and through a Unix socket, the client's own connections serve.
        self._plain = issubclass(pool.connection_class, redis.asyncio.Connection) and not issubclass(
            pool.connection_class, redis.asyncio.SSLConnection
        )
        self._where: dict[str, Any] = pool.connection_kwargs
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands and returns their answers, in order: bytes, int, list or None, and an exception for a command that was refused.

        Nothing is sent twice: what gets no answer may have had its effect. Whoever gives up waiting closes the connection, for those
        who wait behind it too.

        Raises: redis.exceptions.RedisError, OSError, TimeoutError: Redis is away.
        """
        if not self._plain:
            async with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute(raise_on_error=False)
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._connect()
        return await connection.ask(commands)

    def tell(self, commands: bytes, count: int, answered: Answered) -> bool:
        """Sends commands at once, over a connection that is open; says False, and does nothing, where there is none.

        Args:
            commands: As `encoded` returns them.
            count: How many they are; at least one.
            answered: Is told what `ask` would return or raise, once.
        """
        connection = self._connection
        if connection is None or connection.lost:
            return False
        connection.tell(commands, count, answered)
        return True

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> _Connection:
        async with self._connecting:
            if self._connection is not None and not self._connection.lost:
                return self._connection
            where = self._where
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(_CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._answer_s), where["host"], where.get("port", 6379)
                )
            for answer in await connection.ask(_greeting(where)):
                if isinstance(answer, Exception):
                    connection.close()
                    raise answer
            self._connection = connection
            return connection


class _Connection(asyncio.Protocol):
    """One connection.

    Args:
        answer_s: See `Line`.

    Attributes:
        lost: It is of no more use.
    """

    def __init__(self, answer_s: float) -> None:
        self.lost = False
        self._answer_s = answer_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._asked: deque[tuple[int, float, Answered]] = deque()
        self._answers: list[Any] = []
        # One for all who wait: it is not moved with every answer, but looks for whom it has gone off.
        self._timer: asyncio.TimerHandle | None = None
        self._looked_for = 0.0

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """See `Line.ask`."""
        if not commands:
            return []
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self.tell(encoded(commands), len(commands), partial(_set, future))
        try:
            return await future
        except BaseException:
            self.close()
            raise

    def tell(self, commands: bytes, count: int, answered: Answered) -> None:
        """See `Line.tell`."""
        self._asked.append((count, self._loop.time(), answered))
        self._transport.write(commands)
        if self._timer is None:
            self._timer = self._loop.call_later(self._answer_s, self._look)

    def close(self) -> None:
        """Gives it up at once."""
        self.lost = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Reads what answers there are."""
        self._buffer += data
        at = 0
        try:
            while self._asked:
                answer, at = decoded(self._buffer, at)
                self._answers.append(answer)
                count, _, answered = self._asked[0]
                if len(self._answers) == count:
                    self._asked.popleft()
                    answers, self._answers = self._answers, []
                    answered(self._refusing(answers) or answers)
        except Incomplete:
            pass
        except ValueError:
            self.close()
        del self._buffer[:at]

    def connection_lost(self, _: Exception | None) -> None:
        """Tells those who still wait."""
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail(exceptions.ConnectionError(_LOST))

    def _refusing(self, answers: list[Any]) -> Exception | None:
        """Returns the answer by which Redis says that it serves nobody just now, and closes the connection for it."""
        for answer in answers:
            if isinstance(answer, exceptions.ConnectionError):
                self.close()
                return answer
        return None

    def _look(self) -> None:
        """Gives the connection up when nobody has answered it for too long."""
        self._timer = None
        if not self._asked or self.lost:
            return
        now, since = self._loop.time(), self._asked[0][1]
        if now - since < self._answer_s:
            self._timer = self._loop.call_at(since + self._answer_s, self._look)
        elif self._looked_for != since:
            self._looked_for = since
            self._timer = self._loop.call_at(now + _LOOK_S, self._look)
        else:
            self.close()
            self._fail(exceptions.TimeoutError("Redis does not answer."))

    def _fail(self, error: Exception) -> None:
        while self._asked:
            self._asked.popleft()[2](error)


def _set(future: asyncio.Future[list[Any]], answers: list[Any] | Exception) -> None:
    if future.done():
        return
    if isinstance(answers, Exception):
        future.set_exception(answers)
    else:
        future.set_result(answers)


class Incomplete(Exception):
    """The rest of an answer has not arrived."""


def encoded(commands: Sequence[Command]) -> bytes:
    """Returns commands as Redis reads them."""
    return b"".join([begun(len(command)) + spelt(command) for command in commands])


def begun(values: int) -> bytes:
    """Returns how a command of so many values begins."""
    return b"*%d\r\n" % values


def spelt(values: Command) -> bytes:
    """Returns values as they stand in a command."""
    parts: list[bytes] = []
    for given in values:
        value = given if type(given) is bytes else str(given).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


def decoded(buffer: bytearray, at: int) -> tuple[Any, int]:
    """Returns the answer that begins at a place of the buffer, and where the next one begins.

    Raises: Incomplete; ValueError: this is no answer.
    """
    end = buffer.find(_END, at)
    if end < 0:
        raise Incomplete
    kind, line, after = bytes(buffer[at : at + 1]), bytes(buffer[at + 1 : end]), end + 2
    if kind in _SIMPLE:
        return _SIMPLE[kind](line), after
    if kind not in {b"$", b"*"}:
        raise ValueError(kind)
    size = int(line)
    if size < 0:
        return None, after
    if kind == b"*":
        items = []
        for _ in range(size):
            item, after = decoded(buffer, after)
            items.append(item)
        return items, after
    if len(buffer) < after + size + 2:
        raise Incomplete
    return bytes(buffer[after : after + size]), after + size + 2


def _refusal(line: bytes) -> exceptions.RedisError:
    told = line.decode(errors="replace")
    code, _, text = told.partition(" ")
    if code in _ERRORS:
        return _ERRORS[code](text)
    return exceptions.ResponseError(text if code == "ERR" else told)


_SIMPLE: dict[bytes, Callable[[bytes], Any]] = {b":": int, b"+": bytes, b"-": _refusal}


def _greeting(where: dict[str, Any]) -> list[Command]:
    commands: list[Command] = []
    if password := where.get("password"):
        commands.append(("AUTH", *filter(None, (where.get("username"),)), password))
    if where.get("db"):
        commands.append(("SELECT", where["db"]))
    return commands
