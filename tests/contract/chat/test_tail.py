"""The log in Redis, as its owners and its next owners meet it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime import redis
from services.chat.domain import Event, Kind, PartKind, Text, ToolResult, ToolUse
from services.chat.log import RunLog
from services.chat.signals import begun_channel
from services.chat.tail import RedisTail

ORG = str(uuid.uuid4())
STEP: tuple[Kind, ...] = (ToolUse("t0", "act", "{}"), ToolResult("t0", "act", "done"), Text("Thus.", 0))


@pytest.fixture
async def tail(redis_server: str) -> AsyncIterator[RedisTail]:
    async with redis.connect(redis_server, max_connections=4) as client:
        tail = RedisTail(client, flush_every_s=0.005, ttl_s=60)
        async with tail.running():
            yield tail


@pytest.fixture
def run_id() -> str:
    return str(uuid.uuid4())


def keep(tail: RedisTail, run_id: str, log: RunLog, *, fence: int, sent_seq: int = 0) -> asyncio.Event:
    """Sends a log; returns what is set once another owner is found."""
    superseded = asyncio.Event()
    tail.keep(ORG, run_id, log, fence=fence, conversation_id="c", superseded=superseded.set, sent_seq=sent_seq)
    return superseded


async def test_a_log_is_sent_on_when_its_run_was_lost_and_taken_by_the_same_instance(
    tail: RedisTail, run_id: str
) -> None:
    """The instance that had been silent may be the one that takes its run up; what it was before lets go of its own log alone."""
    old = RunLog()
    old.write("Hel")
    keep(tail, run_id, old, fence=1)
    await tail.flush(run_id, old)
    new = (await tail.take(ORG, run_id, fence=2)).log
    assert new is not None
    keep(tail, run_id, new, fence=2, sent_seq=new.last_seq)
    await tail.flush(run_id, old)
    tail.let_go(run_id, old)
    new.write("lo")
    await tail.flush(run_id, new)
    taken = await tail.take(ORG, run_id, fence=3)
    assert taken.log is not None
    assert "".join(part.text for part in taken.log.parts()) == "Hello"


async def test_an_owner_whose_entry_is_refused_lets_go(tail: RedisTail, run_id: str) -> None:
    log = RunLog()
    log.write("Hel")
    superseded = keep(tail, run_id, log, fence=1)
    await tail.flush(run_id, log)
    await tail.take(ORG, run_id, fence=2)
    log.write("lo")
    async with asyncio.timeout(20):
        await superseded.wait()
    taken = await tail.take(ORG, run_id, fence=3)
    assert taken.log is not None
    assert "".join(part.text for part in taken.log.parts()) == "Hel"


async def test_a_log_that_was_made_anew_is_taken_without_what_it_stands_for(tail: RedisTail, run_id: str) -> None:
    """Otherwise the calls of tools would be there twice: once of the log that was behind, once of what was stored."""
    behind, anew = RunLog(), RunLog()
    behind.load(Event(seq, kind) for seq, kind in enumerate(STEP[:2], start=4))
    keep(tail, run_id, behind, fence=1)
    await tail.flush(run_id, behind)
    await tail.take(ORG, run_id, fence=2)
    anew.load(Event(seq, kind) for seq, kind in enumerate(STEP, start=10_010))
    keep(tail, run_id, anew, fence=2)
    await tail.flush(run_id, anew)
    taken = await tail.take(ORG, run_id, fence=3)
    assert taken.log is not None
    assert [part.kind for part in taken.log.parts()] == [PartKind.TOOL_USE, PartKind.TOOL_RESULT, PartKind.TEXT]
    assert taken.log.last_seq == anew.last_seq


async def test_of_many_runs_each_is_sent_on(redis_server: str) -> None:
    """While there are many, a flush holds but a part of them."""
    logs = {str(uuid.uuid4()): RunLog() for _ in range(240)}
    followed = list(logs)[:9]
    async with redis.connect(redis_server, max_connections=4) as client, contextlib.AsyncExitStack() as stack:
        tail = RedisTail(client, flush_every_s=0.005, ttl_s=60)
        await stack.enter_async_context(tail.running())
        replicas = [await stack.enter_async_context(tail.replica(ORG, run_id)) for run_id in followed]
        for text in ("Hel", "lo"):
            for run_id, log in logs.items():
                log.write(text)
                if text == "Hel":
                    keep(tail, run_id, log, fence=1)
            async with asyncio.timeout(20):
                for replica in replicas:
                    while replica.last_seq < logs[followed[0]].last_seq:
                        await replica.changed()
    assert {replica.parts()[0].text for replica in replicas} == {"Hello"}


async def test_what_is_left_of_many_runs_is_sent_before_the_writer_goes(redis_server: str) -> None:
    """Whoever leaves in order leaves whole logs, whosever turn it was."""
    logs = {str(uuid.uuid4()): RunLog() for _ in range(240)}
    async with redis.connect(redis_server, max_connections=4) as client:
        tail = RedisTail(client, flush_every_s=0.005, ttl_s=60)
        async with tail.running():
            for run_id, log in logs.items():
                log.write("Hel")
                keep(tail, run_id, log, fence=1)
            run_id, log = next(iter(logs.items()))
            await tail.flush(run_id, log)
            for log in logs.values():
                log.write("lo")
        taken = [await tail.take(ORG, run_id, fence=2) for run_id in list(logs)[-9:]]
    assert [found.log is not None and found.log.last_seq for found in taken] == [2] * 9


async def test_watchers_elsewhere_are_told_of_a_run_whose_first_entry_found_redis_away(
    tail: RedisTail, run_id: str, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chat.tail._PAUSE_S", 0.05)
    ask, asked = tail._line.ask, 0

    async def away_at_first(commands: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ConnectionError
        return await ask(commands)

    monkeypatch.setattr(tail._line, "ask", away_at_first)
    async with redis.connect(redis_server, max_connections=1) as client, client.pubsub() as watching:
        await watching.subscribe(begun_channel(ORG, "c"))
        log = RunLog()
        log.write("Hel")
        keep(tail, run_id, log, fence=1)
        async with asyncio.timeout(20):
            while (said := await watching.get_message(ignore_subscribe_messages=True, timeout=0.1)) is None:
                pass
    assert said["data"] == run_id.encode()
    assert asked > 1
