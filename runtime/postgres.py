"""Postgres: pool, transactions that carry the caller's claims, driver errors turned into the vocabulary."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from opentelemetry.trace import SpanKind

from runtime import telemetry
from runtime.errors import Conflict, DeadlineExceeded, Unavailable
from runtime.stopping import stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

log = structlog.stdlib.get_logger()

UniqueViolation = asyncpg.UniqueViolationError
"""What a store catches to turn a constraint, by its name, into an error of its service."""

_PATIENCE_S = 5.0
"""How long a connection is waited for, and an answer on one that nobody uses."""
_UNUSED_S = 300.0
"""How long a connection is kept that nobody uses."""
_TOUCH_EVERY_S = 60.0
"""How often those that are kept ready are used, so that neither the pool nor anything on the way to the server forgets them."""
_AT_HAND_S = 60.0
"""How long connections pass from one user to the next before the pool sees them again, which knows which are old or unused."""
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # Of a connection whose end has been announced and has not come yet, the driver knows only that it cannot be used.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


async def _end_transaction(connection: Any) -> None:
    """Cleans a connection on its way back to the pool: rolls back what was left open, by an error or a cancellation.

    The driver's own reset costs a round trip each time and is not needed: nothing here changes session state outside a transaction.
    """
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def connect(
    url: str, queries: Mapping[str, str], *, max_connections: int, ready: int = 0
) -> AsyncIterator[Database]:
    """Opens a pool and closes it at the end; the server may still be away.

    Args:
        url: `postgresql://role:password@host:port/database`.
        queries: Statements by name, from `runtime.queries`.
        max_connections: Bound of the pool; further callers wait up to five seconds.
        ready: So many connections are opened at once and kept, also while nobody uses them; the others end after five idle minutes or six.
    """
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=max_connections,
        command_timeout=30,
        timeout=5,
        max_inactive_connection_lifetime=_UNUSED_S,
        # What a connection has prepared it keeps. The driver would forget each statement five minutes after its first use, however
        # often it is used, and have the server plan it anew.
        max_cached_statement_lifetime=0,
        reset=_end_transaction,
    )
    async with pool:
        database = Database(pool, queries)
        keeping = asyncio.create_task(database.keep_ready(min(ready, max_connections))) if ready else None
        try:
            yield database
        finally:
            try:
                if keeping is not None:
                    await stop(keeping)
            finally:
                await database.settle()  # whoever is in a hurry, too: the pool waits for what is out


class Database:
    """Named statements on a pool of connections.

    Every method raises Unavailable when the server is away or the pool stays exhausted, Conflict when a serialization failure or a
    deadlock asks for the whole transaction again, DeadlineExceeded when a statement ran too long. Other driver errors pass through: a
    store names the constraints it expects, the rest is a bug.
    """

    def __init__(self, pool: asyncpg.Pool[Any], queries: Mapping[str, str]) -> None:
        self._loans = _Loans(pool)
        self._queries = queries

    async def settle(self) -> None:
        """Returns once every connection that is no longer used is back in the pool; whatever is used still goes there too."""
        self._loans.close()
        await asyncio.gather(*self._loans.returning, return_exceptions=True)

    async def keep_ready(self, count: int) -> None:
        """Keeps connections open that nobody uses, and opens those that are missing; goes on until it is cancelled."""
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    # All at the same time, or it would be the same one again and again; those that are out are in use already.
                    while self._loans.out < count:
                        connection = await stack.enter_async_context(_Loan(self._loans))
                        # Whoever needs one must not find it waiting for a server that has fallen silent.
                        await connection.execute("SELECT", timeout=_PATIENCE_S)
            except (*_AWAY, asyncpg.PostgresError) as error:
                log.warning("postgres_not_ready", error=type(error).__name__)
            except Exception:
                log.exception("postgres_not_kept_ready")
            await asyncio.sleep(_TOUCH_EVERY_S)

    @contextlib.asynccontextmanager
    async def transaction(
        self, claims: Mapping[str, Any] | None = None, *, role: str = ""
    ) -> AsyncIterator[Transaction]:
        """Runs statements in one transaction; it commits when the block ends well and rolls back otherwise.

        BEGIN, the role and the claims (`request.jwt.claims`) travel in one round trip and end with the transaction, so that this is
        safe behind a pooler that shares connections between transactions.

        Args:
            claims: What row-level security reads; None sets nothing, and policies then show no row.
            role: Role to act as; empty: the connection's own.
        """
        begin = "BEGIN;"
        if role:
            begin += f'SET LOCAL ROLE "{role}";'
        if claims is not None:
            begin += f"SELECT set_config('request.jwt.claims', {_literal(json.dumps(claims))}, true);"
        with _TRANSLATED:
            async with _Loan(self._loans) as connection:
                await connection.execute(begin)
                try:
                    yield Transaction(connection, self._queries)
                except Exception:
                    # The pool would roll back as well, but log an error at every refusal. (A cancellation is left to it: the connection
                    # is still busy with the statement that is being cancelled.)
                    with contextlib.suppress(*_AWAY):
                        await connection.execute("ROLLBACK")
                    raise
                await connection.execute("COMMIT")

    async def fetch_row(self, name: str, *args: Any) -> asyncpg.Record | None:
        """Runs one statement on its own and returns its first row."""
        with _TRANSLATED, _span(name):
            async with _Loan(self._loans) as connection:
                row: asyncpg.Record | None = await connection.fetchrow(self._queries[name], *args)
                return row

    async def fetch(self, name: str, *args: Any) -> list[asyncpg.Record]:
        """Runs one statement on its own and returns its rows."""
        with _TRANSLATED, _span(name):
            async with _Loan(self._loans) as connection:
                rows: list[asyncpg.Record] = await connection.fetch(self._queries[name], *args)
                return rows


class _Loans:
    """What is out of the pool, or on its way back.

    A connection that was used without a fault, and that nobody waits for, is kept at hand: the pool's own way there and back takes longer than
    all else the driver does for a statement. The pool takes it for used meanwhile, and sees it again once a minute.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self.pool = pool
        self.out = 0
        self.returning: set[asyncio.Task[None]] = set()
        self._at_hand: list[Any] = []
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Any:
        """Returns a connection: the one that was used last, if one is at hand."""
        # While fewer are out than there may be, one is had at once, and without a clock; connecting anew has a bound of its own.
        timeout_s = None if self.out < self.pool.get_max_size() else _PATIENCE_S
        self.out += 1
        try:
            while self._at_hand:
                connection = self._at_hand.pop()
                if _is_open(connection):
                    return connection
                await self._release(connection)
            self._waiting += 1
            try:
                return await self.pool.acquire(timeout=timeout_s)
            finally:
                self._waiting -= 1
        except BaseException:
            self.out -= 1
            raise

    def keep(self, connection: Any) -> None:
        """Takes back a connection whose use has ended well."""
        if self._waiting or self._closed or not _is_open(connection) or connection.is_in_transaction():
            self._send_back(connection)
            return
        self.out -= 1
        self._at_hand.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AT_HAND_S, self._clear)

    async def give_back(self, connection: Any) -> None:
        """Puts a connection back into the pool."""
        try:
            await self._release(connection)
        finally:
            self.out -= 1

    def close(self) -> None:
        """Keeps nothing at hand any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._clear()

    def _clear(self) -> None:
        self._timer = None
        unused, self._at_hand = self._at_hand, []
        # The pool gives out first what came back last, too.
        for connection in unused:
            self.out += 1
            self._send_back(connection)

    def _send_back(self, connection: Any) -> None:
        # Nobody waits for the way back, which takes a turn or two of the loop.
        task = asyncio.create_task(self._give_back_somehow(connection))
        self.returning.add(task)
        task.add_done_callback(self.returning.discard)

    async def _give_back_somehow(self, connection: Any) -> None:
        # What cannot be given back has lost its server: the pool ends it, and whoever comes next is told.
        with contextlib.suppress(*_AWAY):
            await self.give_back(connection)

    async def _release(self, connection: Any) -> None:
        await self.pool.release(connection, timeout=_PATIENCE_S)


def _is_open(connection: Any) -> bool:
    """Says whether a connection can be used, as far as anybody here has heard."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False  # it broke, and the pool has taken note of that


class _Loan:
    """A connection for the length of a block."""

    __slots__ = ("_connection", "_loans")

    def __init__(self, loans: _Loans) -> None:
        self._loans = loans
        self._connection: Any = None

    async def __aenter__(self) -> Any:
        self._connection = await self._loans.take()
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            await self._loans.give_back(self._connection)
        else:
            self._loans.keep(self._connection)


class Transaction:
    """Named statements inside one transaction."""

    def __init__(self, connection: Any, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    async def fetch_row(self, name: str, *args: Any) -> asyncpg.Record | None:
        """Runs a statement and returns its first row."""
        with _span(name):
            row: asyncpg.Record | None = await self._connection.fetchrow(self._queries[name], *args)
            return row

    async def fetch(self, name: str, *args: Any) -> list[asyncpg.Record]:
        """Runs a statement and returns its rows."""
        with _span(name):
            rows: list[asyncpg.Record] = await self._connection.fetch(self._queries[name], *args)
            return rows


@functools.cache
def _described(name: str) -> tuple[str, dict[str, str]]:
    return f"postgres {name}", {"db.system.name": "postgresql", "db.operation.name": name, "db.query.summary": name}


def _span(name: str) -> contextlib.AbstractContextManager[Any]:
    title, attributes = _described(name)
    return telemetry.span(title, kind=SpanKind.CLIENT, attributes=attributes)


class _Translated:
    """Tells the driver's errors in the vocabulary."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        if isinstance(error, (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)):
            raise Conflict("Somebody else changed the same thing; try the whole request again.") from None
        if isinstance(error, asyncpg.QueryCanceledError):
            raise DeadlineExceeded("The database took too long.") from None
        if isinstance(error, _AWAY):
            log.warning("postgres_away", error=type(error).__name__)
            raise Unavailable("The database is not reachable right now; try again.", retry_after_s=1) from None


_TRANSLATED = _Translated()


def _literal(value: str) -> str:
    """Quotes a text as an SQL literal; `standard_conforming_strings` is on, so only quotes need doubling."""
    return "'" + value.replace("\x00", "").replace("'", "''") + "'"
