"""Gateways of others: what is installed, how they are run and asked, and how their figures stand beside Parley's."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import free_port
from tests.bench import figures, plan, targets, wire
from tests.bench.figures import TOTAL
from tests.bench.peers import peer, ratios, recipes
from tests.bench.peers.peer import Peer, PeerError
from tests.bench.peers.recipes import NotInstalled, Recipe
from tests.bench.targets import Seat

_PEERS = Path(recipes.__file__).parent
_TARGETS = ("bare", "floor", "gateway", "whole", "litellm", "portkey")


def test_what_is_installed_is_locked_and_names_no_host() -> None:
    assert "://" not in (_PEERS / "litellm.txt").read_text()
    assert "--hash=sha256:" in (_PEERS / "litellm.txt").read_text()
    assert '"resolved"' not in (_PEERS / "portkey" / "package-lock.json").read_text()


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """Looks as if both were installed."""
    command = tmp_path / "litellm" / "bin" / "litellm"
    command.parent.mkdir(parents=True)
    command.touch()
    (tmp_path / "litellm/lib/python3.11/site-packages/litellm-1.2.3.dist-info").mkdir(parents=True)
    package = tmp_path / "portkey/node_modules/@portkey-ai/gateway"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "4.5.6"}')
    node = tmp_path / "bin" / "node"
    node.parent.mkdir()
    node.touch(mode=0o755)
    return tmp_path


def test_litellm_is_told_of_the_provider_and_asks_for_a_key(environments: Path) -> None:
    recipe = recipes.litellm("127.0.0.1:1", 2, environments)
    config = json.loads(recipe.files["config.yaml"])
    assert config["model_list"][0]["litellm_params"]["api_base"] == "http://127.0.0.1:1/v1"
    assert config["general_settings"]["master_key"] == recipe.seat.bearer
    assert recipe.version == "1.2.3"


def test_portkey_is_told_of_the_provider_by_each_request(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environments / "bin"))
    recipe = recipes.portkey("127.0.0.1:1", 2, environments)
    assert "x-portkey-custom-host: http://127.0.0.1:1/v1" in recipe.seat.headers
    assert recipe.version == "4.5.6"


@pytest.mark.parametrize("name", plan.PEERS)
def test_what_is_not_installed_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotInstalled):
        recipes.RECIPES[name]("127.0.0.1:1", 2, tmp_path)


def test_a_plan_has_peers_only_where_they_are_asked_for() -> None:
    assert not set(plan.full().targets) & set(plan.PEERS)
    assert plan.full().only(set(), {"bare"}).beside_peers().targets == ("bare", *plan.PEERS)
    assert plan.full().only(set(), {"litellm", "bare"}).targets == ("bare", "litellm")


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peer]:
    """Yields a server of this machine's own in a peer's place."""

    def recipe(provider: str, port: int) -> Recipe:
        argv = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--protocol", "HTTP/1.1")
        return Recipe(argv=argv, env={}, files={"asked.txt": provider}, ready="/asked.txt", seat=Seat(), version="1")

    monkeypatch.setitem(recipes.RECIPES, "own", recipe)
    async with Peer("own", "127.0.0.1:1") as found:
        yield found


async def test_a_peer_that_is_done_is_at_rest(running: Peer) -> None:
    assert await running.rest() == ""


async def test_a_peer_that_ended_says_so_and_is_started_anew(running: Peer) -> None:
    before = running.pid
    os.kill(before, signal.SIGKILL)
    assert await running.rest() == "the process ended"
    await running.restart()
    assert running.pid != before
    assert await running.rest() == ""


async def test_a_peer_that_is_still_busy_says_so(running: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_REST_SHARE", 0)
    monkeypatch.setattr(peer, "_REST_TIMEOUT_S", 0.5)
    assert "still busy" in await running.rest()


async def test_a_peer_that_does_not_start_shows_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe(provider: str, port: int) -> Recipe:
        argv = (sys.executable, "-c", "raise SystemExit('no such thing')")
        return Recipe(argv=argv, env={}, ready="/", seat=Seat(), version="1")

    monkeypatch.setitem(recipes.RECIPES, "own", recipe)
    with pytest.raises(PeerError, match="no such thing"):
        async with Peer("own", "127.0.0.1:1"):
            pass


async def test_a_peer_that_is_gone_is_a_failed_answer() -> None:
    target = targets.target("peer", f"127.0.0.1:{free_port()}")
    exchange = target.ask(await target.connect(), "bench-burst-1", Seat())
    assert exchange.ended.is_set()
    assert exchange.failure


@pytest.mark.parametrize("data", ['{"error": {"message": "overloaded"}}', "<html>"])
def test_a_peer_that_answers_oddly_is_a_failed_answer(data: str) -> None:
    frame = f"data: {data}\n\n".encode()
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(frame), frame)
    with pytest.raises(wire.BadStream):
        targets.target("peer", "127.0.0.1:1").read([(1, raw)])


def _figures(name: str, **values: float) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: {target: {"median": value, "rounds": [value]} for target, value in values.items()}}


def test_each_peer_stands_against_each_of_parleys_own() -> None:
    assert ratios.columns(_TARGETS) == [
        ("litellm", "gateway"),
        ("litellm", "whole"),
        ("portkey", "gateway"),
        ("portkey", "whole"),
    ]
    found = ratios.rows(_figures("first_p50_ms.idle", bare=1, gateway=2, whole=4, litellm=8), {}, _TARGETS)
    assert found == [("first token, idle, p50, ms", [2, 4, 8, None, 4, 2, None, None])]


def test_streams_a_core_follow_from_cpu_a_token() -> None:
    found = dict(ratios.rows(_figures(f"cpu_us_token.n50/{TOTAL}", whole=100, litellm=400), {}, ("whole", "litellm")))
    assert found["streams a core, from CPU a token at 50 streams"] == [200, 50, 0.25]


def test_answers_that_failed_are_shown_by_cell() -> None:
    failures = {"litellm": {"n50: HTTP 503": 2, "n50: connection lost": 1, "n200: HTTP 503": 7}}
    found = dict(ratios.rows({}, failures, ("whole", "litellm")))
    assert found == {
        "answers that failed, 50 streams": [0, 3, None],
        "answers that failed, 200 streams": [0, 7, None],
    }


def test_a_peer_that_does_not_keep_up_is_named() -> None:
    slow = _figures("delivered_percent.n50", whole=100, litellm=40.2, portkey=99)
    assert ratios.overloaded(slow, _TARGETS) == ["litellm delivered 40 % of the tokens due at 50 streams"]


def test_only_our_own_failures_fail_a_run() -> None:
    assert not figures.any_of_ours({"whole": {}, "litellm": {"n50: HTTP 503": 2}})
    assert figures.any_of_ours({"whole": {"n50: HTTP 503": 2}, "litellm": {}})
