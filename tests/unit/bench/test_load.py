"""The tools against one another, on loopback: the provider, the floor and the load generator as the benchmark runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.bench import procfs
from tests.bench.worker import Worker, WorkerError

_PACED = {"do": "paced", "streams": 5, "rate": 50, "tokens": 125, "window_s": 0.2, "probes": 3, "pause_s": 0}


@pytest.fixture(scope="module")
async def load() -> AsyncIterator[Worker]:
    async with Worker("load") as worker:
        yield worker


@pytest.fixture(scope="module", params=[("provider", "provider"), ("floor", "gateway")], ids=["http", "grpc"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    module, kind = request.param
    async with Worker(module) as worker:
        yield {"kind": kind, "address": worker.address, "seats": [{}] * 9}


async def test_paced_answers_arrive_whole_and_are_timed(load: Worker, place: dict[str, Any]) -> None:
    marks: list[str] = []
    result = await load.do({**_PACED, **place}, marks.append)
    assert marks == ["before", "window", "window_end", "probes_end"]
    assert (result["whole"], result["failures"]) == (8, {})
    assert (len(result["burst_first_ms"]), len(result["probe_first_ms"])) == (5, 3)
    assert result["window_tokens"] > 0
    assert result["transit_ms"]["p50"] > 0


async def test_bursts_arrive_whole(load: Worker, place: dict[str, Any]) -> None:
    result = await load.do({"do": "burst", "streams": 3, "tokens": 3000, **place}, lambda _: None)
    assert (result["whole"], result["failures"], result["window_tokens"]) == (3, {}, 9000)


async def test_a_refusal_counts_as_a_failure(load: Worker, place: dict[str, Any]) -> None:
    """The provider knows no pace of nought, so it refuses the model; nothing of that may pass for an answer."""
    result = await load.do({**_PACED, **place, "tokens": 0}, lambda _: None)
    assert result["failures"] == {{"provider": "HTTP 404", "gateway": "gRPC NOT_FOUND"}[place["kind"]]: 5}
    assert (result["whole"], result["probe_first_ms"]) == (0, [])  # nothing runs that probes could be among


async def test_a_stopped_answer_is_closed_at_the_provider(load: Worker) -> None:
    async with Worker("provider") as provider:
        place = {"kind": "provider", "address": provider.address, "seats": [{}]}
        result = await load.do({"do": "stop", "count": 2, **place}, lambda _: None)
        assert len(result["stopped_ns"]) == 2
        assert result["failures"] == {}


async def test_a_worker_that_dies_is_noticed() -> None:
    async with Worker("load") as worker:
        with pytest.raises(WorkerError):
            await worker.do({"do": "nothing of ours", "kind": "provider", "address": "127.0.0.1:1", "seats": []}, print)


async def test_a_busy_process_shows_its_cpu_and_memory(load: Worker, place: dict[str, Any]) -> None:
    before = procfs.sample({"load": load.pid}, memory=True)["load"]
    await load.do({"do": "burst", "streams": 8, "tokens": 5000, **place}, lambda _: None)
    after = procfs.sample({"load": load.pid})["load"]
    assert after.cpu_us > before.cpu_us > 0
    assert before.memory_kb > 0
