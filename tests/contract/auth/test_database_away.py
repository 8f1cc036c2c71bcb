"""While the database is away callers are told so, published keys stay, and the service waits rather than ends."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
import structlog
from structlog.typing import EventDict

from runtime.config import Secret
from runtime.errors import Unavailable
from services.auth.signing import READ_EVERY
from tests import listening
from tests.contract.auth.conftest import Auth, StartAuth


class Wire:
    """A TCP connection to the database that a test can cut and mend."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        netloc = f"{self._parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._port}"
        return self._parts._replace(netloc=netloc).geturl()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        await listening.stop(self._server)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def wired(start_auth: StartAuth) -> tuple[Auth, Wire]:
    """An instance beside another, whose connection to the database can be cut."""
    first = await start_auth()
    wire = Wire(first.stored.url)
    await wire.mend()
    return await start_auth(beside=first, database_url=Secret(wire.url)), wire


async def test_callers_are_told_and_may_try_again(wired: tuple[Auth, Wire]) -> None:
    auth, wire = wired
    session = await auth.sign_up()
    await wire.cut()
    calls = (
        auth.sign_in(),
        auth.sign_up("grace@example.org"),
        auth.refresh(session.refresh_token),
        auth.sign_out(session.access_token),
        auth.current_user(session.access_token),
        auth.exchange(session.access_token),
    )
    for call in calls:
        with pytest.raises(Unavailable) as refused:
            await call
        assert refused.value.retry_after_s == 1
    await wire.mend()
    assert (await auth.refresh(session.refresh_token)).access_token
    await wire.cut()


async def test_known_keys_stay_published(wired: tuple[Auth, Wire]) -> None:
    auth, wire = wired
    before = await auth.jwks()
    await wire.cut()
    auth.clock.advance(READ_EVERY.total_seconds())
    assert await auth.jwks() == before


async def test_keys_that_were_never_read_are_unavailable(start_auth: StartAuth) -> None:
    first = await start_auth()
    wire = Wire(first.stored.url)
    await wire.mend()
    await wire.cut()
    second = await start_auth(beside=first, prepare=False, database_url=Secret(wire.url))
    with pytest.raises(Unavailable):
        await second.jwks()


async def test_a_start_waits_for_the_database(start_auth: StartAuth) -> None:
    first = await start_auth()
    wire = Wire(first.stored.url)
    await wire.mend()
    await wire.cut()
    second = await start_auth(beside=first, prepare=False, database_url=Secret(wire.url))
    preparing = asyncio.create_task(second.upkeep.prepare())
    done, _ = await asyncio.wait({preparing}, timeout=0.3)
    assert not done
    await wire.mend()
    await asyncio.wait_for(preparing, 10)
    assert await second.jwks() == await first.jwks()
    await wire.cut()


async def test_the_periodic_job_outlives_it(start_auth: StartAuth) -> None:
    first = await start_auth()
    wire = Wire(first.stored.url)
    await wire.mend()
    second = await start_auth(beside=first, database_url=Secret(wire.url), upkeep_every_s=0.01)
    await second.sign_up()
    await wire.cut()
    postponed = asyncio.Event()

    def notice(_: object, __: str, event: EventDict) -> EventDict:
        if event["event"] == "upkeep_postponed":
            postponed.set()
        return event

    second.clock.advance(40 * 86_400)
    with structlog.testing.capture_logs(processors=[notice]):
        async with second.upkeep.running():
            await asyncio.wait_for(postponed.wait(), 10)
            await wire.mend()
            async with asyncio.timeout(10):
                while await first.owner.fetchval("SELECT count(*) FROM auth.session"):  # noqa: ASYNC110 - a row cannot be awaited
                    await asyncio.sleep(0.01)
    await wire.cut()
