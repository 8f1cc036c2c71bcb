"""An edge that is told to stop: what is open ends well, and what cannot end goes on at another one."""

import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from deploy.local import health
from deploy.local.ports import free_port
from deploy.local.process import Process
from deploy.local.settings import ROOT
from deploy.local.unit import Service
from tests.e2e.person import Person
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, Stall


@contextlib.asynccontextmanager
async def another_edge(stack: System, log: Path, **settings: str) -> AsyncIterator[tuple[str, Process]]:
    """Runs a second edge beside the first; gives its URL and its process."""
    unit = stack.stack.members["edge"].unit
    assert isinstance(unit, Service)
    address = f"127.0.0.1:{free_port()}"
    env = {**unit.spec.env, "PARLEY_EDGE_LISTEN": address, "PARLEY_EDGE_METRICS_LISTEN": "", **settings}
    process = Process.spawn(unit.spec.argv, env=env, log=log, cwd=ROOT)
    try:
        await health.edge_ready(address)
        yield f"http://{address}", process
    finally:
        await process.stop()


def move(person: Person, edge_url: str) -> None:
    """Lets a person talk to another edge."""
    person.http.base_url = httpx.URL(edge_url)


async def test_a_stream_that_ends_within_the_grace_is_not_cut(stack: System, person: Person, tmp_path: Path) -> None:
    message = secrets.token_hex(8)
    words = [f"word{number} " for number in range(15)]
    stack.provider.script(Answer(chunks=words, text="".join(words), delay_s=0.05), match=message)
    async with another_edge(stack, tmp_path / "log", PARLEY_EDGE_DRAIN_GRACE_S="20") as (url, process):
        move(person, url)
        async with person.stream("/v1/chat", {"message": message}) as stream:
            await stream.until("text")
            process.send(signal.SIGTERM)
            await stream.whole()
        assert stream.text == "".join(words)
        assert stream.last.event == "done"
        assert stream.retry_ms is None
        assert await process.wait() == 0


async def test_while_it_drains_it_asks_for_no_more_and_still_answers(
    stack: System, person: Person, tmp_path: Path
) -> None:
    """A balancer learns of it late; what it sends until then is answered, on connections that are not kept."""
    message = secrets.token_hex(8)
    stack.provider.script(Stall(after=1), match=message)
    async with another_edge(stack, tmp_path / "log", PARLEY_EDGE_DRAIN_GRACE_S="20") as (url, process):
        move(person, url)
        async with person.stream("/v1/chat", {"message": message}) as stream:
            await stream.until("text")
            process.send(signal.SIGTERM)
            async with httpx.AsyncClient(base_url=url) as probe:
                while (answer := await probe.get("/readyz")).status_code == 200:
                    pass
            assert answer.status_code == 503
            assert answer.json()["not_ready"] == "edge"
            listed = await person.http.get("/v1/conversations")
            assert listed.status_code == 200
            assert listed.headers["connection"] == "close"
            await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
            await stream.whole()
        assert await process.wait() == 0


async def test_a_stream_that_never_ends_is_sent_back_at_once(stack: System, person: Person, tmp_path: Path) -> None:
    conversation = await person.conversation()
    async with another_edge(stack, tmp_path / "log", PARLEY_EDGE_DRAIN_GRACE_S="3600") as (url, process):
        move(person, url)
        async with person.stream(f"/v1/conversations/{conversation}/events") as stream:
            process.send(signal.SIGTERM)
            await stream.whole()
        assert stream.retry_ms == 1000
        assert await process.wait() == 0


async def test_a_stream_that_outlasts_the_grace_goes_on_at_another_edge(
    stack: System, person: Person, tmp_path: Path
) -> None:
    message = secrets.token_hex(8)
    words = [f"word{number} " for number in range(30)]
    stack.provider.script(Answer(chunks=words, text="".join(words), delay_s=0.05), match=message)
    async with another_edge(stack, tmp_path / "log", PARLEY_EDGE_DRAIN_GRACE_S="0.2") as (url, process):
        move(person, url)
        async with person.stream("/v1/chat", {"message": message}) as stream:
            await stream.until("text")
            process.send(signal.SIGTERM)
            await stream.whole()
        assert stream.retry_ms == 1000
        assert "done" not in stream.names
        assert await process.wait() == 0
    move(person, stack.edge_url)
    rest = await person.events(stream.run_id, last_event_id=stream.last.id)
    assert rest.frames[0].seq == stream.last.seq + 1
    stream.frames += rest.frames
    assert stream.text == "".join(words)
    assert stream.last.data["status"] == "completed"


async def test_an_edge_that_is_killed_loses_nothing(stack: System, person: Person, tmp_path: Path) -> None:
    message = secrets.token_hex(8)
    words = [f"word{number} " for number in range(20)]
    stack.provider.script(Answer(chunks=words, text="".join(words), delay_s=0.05), match=message)
    async with another_edge(stack, tmp_path / "log") as (url, process):
        move(person, url)
        with contextlib.suppress(httpx.HTTPError):
            async with person.stream("/v1/chat", {"message": message}) as stream:
                await stream.until("text")
                process.send(signal.SIGKILL)
                await stream.whole()
    move(person, stack.edge_url)
    rest = await person.events(stream.run_id, last_event_id=stream.last.id)
    stream.frames += rest.frames
    assert [frame.seq for frame in stream.frames] == list(range(1, len(stream.frames) + 1))
    assert stream.text == "".join(words)


async def test_streams_beyond_the_limit_are_refused_and_the_rest_is_answered(
    stack: System, person: Person, tmp_path: Path
) -> None:
    message = secrets.token_hex(8)
    stack.provider.script(Stall(after=1), match=message)
    async with another_edge(stack, tmp_path / "log", PARLEY_EDGE_MAX_STREAMS="1") as (url, _):
        move(person, url)
        async with person.stream("/v1/chat", {"message": message}) as stream:
            await stream.until("text")
            refused = await person.http.post("/v1/chat", json={"message": "One more"})
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
            assert refused.headers["retry-after"] == "1"
            stopped = await person.http.post(f"/v1/runs/{stream.run_id}/cancel")
            assert stopped.status_code == 200
            await stream.whole()
        assert (await person.say("Now?")).last.event == "done"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {},
            ["PARLEY_EDGE_LISTEN", "PARLEY_EDGE_AUTH_ADDRESS", "PARLEY_EDGE_DATA_ADDRESS", "PARLEY_EDGE_CHAT_ADDRESS"],
        ),
        ({"PARLEY_EDGE_MAX_STREAMS": "many"}, ["PARLEY_EDGE_MAX_STREAMS"]),
    ],
)
async def test_a_faulty_configuration_is_told_whole_and_plainly(
    settings: dict[str, str], told: list[str], tmp_path: Path
) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", **settings}
    log = tmp_path / "log"
    process = Process.spawn([sys.executable, "-m", "services.edge"], env=env, log=log, cwd=ROOT)
    assert await process.wait() == 2
    assert [name for name in told if name not in log.read_text()] == []
    assert "Traceback" not in log.read_text()
