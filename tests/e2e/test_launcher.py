"""`make run` as its user meets it: it comes up, stays up, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from deploy.local import health
from deploy.local.addresses import SERVICES
from deploy.local.ports import free_port
from deploy.local.process import Process

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR")

pytestmark = pytest.mark.timeout(240)


class Launcher:
    """A launcher as a process, on a home of its own."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.output = home.parent / f"{home.name}.out"
        self.environ = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.environ |= {"HOME": str(home.parent), "PARLEY_HOME": str(home), "PARLEY_PORT": "0"} | variables
        self.process = Process.spawn(
            [sys.executable, "-m", "deploy.local", "run"],
            env=self.environ,
            log=self.output,
            cwd=ROOT,
            parent_death_signal=signal.SIGTERM,
        )

    async def ready(self) -> dict[str, Any]:
        """Returns what run.json says, once it is there."""
        while (run := self.run()) is None:
            assert self.process.returncode is None, self.output.read_text()
            await asyncio.sleep(0.05)
        return run

    def run(self) -> dict[str, Any] | None:
        try:
            run: dict[str, Any] = json.loads((self.home / "run.json").read_text())
        except FileNotFoundError:
            return None
        return run

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit status."""
        self.process.send(number)
        return await self.process.wait()


@asynccontextmanager
async def launched(home: Path, **variables: str) -> AsyncIterator[Launcher]:
    launcher = Launcher(home, **variables)
    try:
        yield launcher
    finally:
        await launcher.process.stop((signal.SIGTERM, 60))


def pids(run: dict[str, Any]) -> list[int]:
    return [part["pid"] for part in [*run["services"].values(), *run["helpers"].values()]]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_changed(launcher: Launcher, kind: str, name: str, pid: int) -> dict[str, Any]:
    """Returns what run.json says when it names another pid for the part."""
    while (run := launcher.run()) is None or run[kind][name]["pid"] == pid:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)
    return run


async def healthz(run: dict[str, Any]) -> int | None:
    return await health.http_status(run["edge_url"].removeprefix("http://"), "/readyz")


@pytest.fixture(scope="module")
async def first(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Launcher]:
    """A launcher that is up, for all tests of this module that do not end it."""
    async with launched(tmp_path_factory.mktemp("first") / "home") as launcher:
        await launcher.ready()
        yield launcher


async def test_it_says_what_runs_in_a_private_file(first: Launcher) -> None:
    run = await first.ready()
    assert stat.S_IMODE((first.home / "run.json").stat().st_mode) == 0o600
    assert set(run["services"]) == set(SERVICES)
    assert all(lives(pid) for pid in pids(run))
    assert await healthz(run) == 200
    assert await health.http_status(run["traces_url"].removeprefix("http://"), "/") == 200
    for service in run["services"].values():
        assert await health.http_status(service["metrics_address"], "/metrics") == 200
    assert run["edge_url"] in first.output.read_text()


async def test_no_secret_is_printed_or_logged(first: Launcher) -> None:
    secrets = [
        path.read_text() for path in (first.home / "secrets").iterdir() if path.name.endswith(("_password", "_key"))
    ]
    assert len(secrets) >= 6
    written = first.output.read_text() + "".join(path.read_text() for path in (first.home / "logs").iterdir())
    assert not any(secret in written for secret in secrets)


async def test_a_second_launcher_on_the_same_home_is_refused_and_harms_nothing(first: Launcher) -> None:
    second = Process.spawn(
        [sys.executable, "-m", "deploy.local", "run"],
        env=first.environ,
        log=first.home.parent / "second.out",
        cwd=ROOT,
    )
    assert await second.wait() == 1
    assert "PARLEY_HOME" in (first.home.parent / "second.out").read_text()
    assert await healthz(await first.ready()) == 200


async def test_a_taken_port_is_named_with_the_variable_to_set(first: Launcher, tmp_path: Path) -> None:
    taken = (await first.ready())["edge_url"].rpartition(":")[2]
    async with launched(tmp_path / "home", PARLEY_PORT=taken) as other:
        assert await other.process.wait() == 1
        assert f"Port {taken} " in other.output.read_text()
        assert "PARLEY_PORT" in other.output.read_text()


@pytest.mark.parametrize("name", ["auth", "edge"])
async def test_a_service_that_is_killed_comes_back(first: Launcher, name: str) -> None:
    run = await first.ready()
    pid = run["services"][name]["pid"]
    os.kill(pid, signal.SIGKILL)
    run = await until_changed(first, "services", name, pid)
    assert lives(run["services"][name]["pid"])
    while await healthz(run) != 200:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)


async def test_stores_that_are_killed_come_back_with_their_data(first: Launcher) -> None:
    run = await first.ready()
    connection = await asyncpg.connect(run["database_url"])
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    await connection.close()
    for name in ("redis", "postgres"):
        pid = run["helpers"][name]["pid"]
        os.kill(pid, signal.SIGKILL)
        await until_changed(first, "helpers", name, pid)
    connection = await asyncpg.connect(run["database_url"])
    assert await connection.fetchval("SELECT value FROM kept") == 42
    await connection.close()
    async with Redis.from_url(run["redis_url"]) as client:
        assert await client.ping()
    while await healthz(run) != 200:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)


async def test_two_run_side_by_side_and_a_stop_leaves_the_data_and_nothing_else(
    first: Launcher, tmp_path: Path
) -> None:
    async with launched(tmp_path / "home") as second:
        run = await second.ready()
        assert await healthz(run) == 200
        assert await healthz(await first.ready()) == 200
        connection = await asyncpg.connect(run["database_url"])
        assert await connection.fetchval("SELECT to_regclass('kept')") is None
        await connection.execute("CREATE TABLE kept AS SELECT 43 AS value")
        await connection.close()
        assert await second.end(signal.SIGTERM) == 0
    assert not [pid for pid in pids(run) if lives(pid)]
    assert second.run() is None
    stopped = [line.split()[2] for line in second.output.read_text().splitlines() if line.endswith(" stopped")]
    assert [name for name in stopped if name in {*SERVICES, "redis", "postgres"}] == [
        *("edge", "chat", "gateway", "data", "auth", "redis", "postgres")
    ]

    async with launched(tmp_path / "home") as again:
        run = await again.ready()
        connection = await asyncpg.connect(run["database_url"])
        assert await connection.fetchval("SELECT value FROM kept") == 43
        await connection.close()
        again.process.send(signal.SIGKILL)  # nothing can be cleaned up by it now
        await again.process.wait()
        while [pid for pid in pids(run) if lives(pid)]:  # noqa: ASYNC110 - not children of ours
            await asyncio.sleep(0.05)


async def test_two_instances_of_each_service_run_side_by_side_and_each_comes_back_alone(tmp_path: Path) -> None:
    async with launched(tmp_path / "home", PARLEY_REPLICAS="2") as launcher:
        run = await launcher.ready()
        assert set(run["services"]) == {f"{service}-{number}" for service in SERVICES for number in (1, 2)}
        assert run["edge_url"] == run["edge_urls"][0]
        for url in run["edge_urls"]:
            assert await health.http_status(url.removeprefix("http://"), "/readyz") == 200
            assert url in launcher.output.read_text()
        pid = run["services"]["chat-2"]["pid"]
        os.kill(pid, signal.SIGKILL)
        after = await until_changed(launcher, "services", "chat-2", pid)
        changed = {name for name in run["services"] if run["services"][name]["pid"] != after["services"][name]["pid"]}
        assert changed == {"chat-2"}
        assert await launcher.end() == 0
    assert not [pid for pid in pids(after) if lives(pid)]


async def test_no_instances_at_all_is_refused(tmp_path: Path) -> None:
    async with launched(tmp_path / "home", PARLEY_REPLICAS="0") as launcher:
        assert await launcher.process.wait() == 2
        assert "PARLEY_REPLICAS" in launcher.output.read_text()


async def test_ctrl_c_while_it_comes_up_stops_what_is_up(tmp_path: Path) -> None:
    async with launched(tmp_path / "home") as launcher:
        while "redis " not in launcher.output.read_text():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        assert await launcher.end(signal.SIGINT) == 0
        assert "ready: http" not in launcher.output.read_text()


async def test_a_service_that_cannot_become_healthy_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with launched(tmp_path / "home", PARLEY_AUTH_LOG_LEVEL="nonsense") as launcher:
        assert await launcher.process.wait() == 1
        told = launcher.output.read_text()
    assert "auth" in told
    assert "PARLEY_AUTH_LOG_LEVEL: 'nonsense' is none of" in told
    assert launcher.run() is None


async def test_real_servers_are_used_where_they_are_named(first: Launcher, tmp_path: Path) -> None:
    """The first one's stores stand for somebody else's; they are neither started nor stopped."""
    run = await first.ready()
    admin = await asyncpg.connect(run["database_url"])
    await admin.execute("CREATE DATABASE elsewhere")
    await admin.close()
    database_url = run["database_url"].rpartition("/")[0] + "/elsewhere"
    # A name in its way ends the start after the migrations, which is all that is to be seen here.
    variables = {"PARLEY_DATABASE_URL": database_url, "PARLEY_REDIS_URL": run["redis_url"]}
    async with launched(tmp_path / "home", **variables, PARLEY_DATA_LOG_LEVEL="nonsense") as launcher:
        assert await launcher.process.wait() == 1
        assert not (tmp_path / "home" / "postgres").exists()
        assert not (tmp_path / "home" / "redis").exists()
    admin = await asyncpg.connect(database_url)
    assert await admin.fetchval("SELECT count(*) FROM parley.migration") > 0
    await admin.close()
    assert lives(run["helpers"]["postgres"]["pid"])


async def test_make_trace_without_a_running_parley_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    trace = Process.spawn(
        [sys.executable, "-m", "deploy.local", "trace"],
        env={"PARLEY_HOME": str(tmp_path)},
        log=out,
        cwd=ROOT,
    )
    assert await trace.wait() == 1
    assert "make run" in out.read_text()


@pytest.fixture
def private_checkout() -> Any:
    """Yields a user without rights, a copy of the tree in a directory closed to all others, and an interpreter for it."""
    if os.geteuid() != 0:
        pytest.skip("every other test here runs as a plain user already")
    nobody = pwd.getpwnam("nobody")
    packages = Path(asyncpg.__file__).parents[1]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(tempfile.mkdtemp(prefix="parley-private-"))
    try:
        for part in ("deploy", "runtime", "services", "gen"):
            shutil.copytree(ROOT / part, home / "parley" / part)
        for path in [home, *home.rglob("*")]:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for python in (sys.executable, f"/usr/bin/{version}"):
            try:
                subprocess.run(
                    [python, "-m", "venv", "--without-pip", home / "venv"],
                    user=nobody.pw_uid,
                    group=nobody.pw_gid,
                    extra_groups=[],
                    cwd="/",
                    check=True,
                    capture_output=True,
                )
                site = home / "venv" / "lib" / version / "site-packages"
                (site / "packages.pth").write_text(f"{packages}\n")
                subprocess.run(
                    [home / "venv" / "bin" / "python", "-c", "import asyncpg, grpc, redis.asyncio"],
                    user=nobody.pw_uid,
                    group=nobody.pw_gid,
                    extra_groups=[],
                    cwd="/",
                    check=True,
                    capture_output=True,
                )
            except (OSError, subprocess.CalledProcessError):
                continue
            yield nobody, home
            return
        pytest.skip(f"the user nobody can run neither {sys.executable} nor /usr/bin/{version} with {packages}")
    finally:
        shutil.rmtree(home)


async def test_a_plain_user_runs_it_under_a_private_home(private_checkout: Any) -> None:
    nobody, home = private_checkout
    output = (home / "out").open("w+")
    launcher = subprocess.Popen(  # noqa: ASYNC220 - as another user, which the event loop's own cannot do everywhere
        [home / "venv" / "bin" / "python", "-m", "deploy.local", "run"],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd=home / "parley",
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PARLEY_PORT": str(free_port())},
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        run_file = home / "parley" / ".parley" / "run.json"
        while not run_file.exists():
            assert launcher.poll() is None, (home / "out").read_text()
            await asyncio.sleep(0.05)
        run = json.loads(run_file.read_text())
        assert await healthz(run) == 200
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids(run)} == {nobody.pw_uid}
    finally:
        launcher.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(launcher.wait)
        output.close()
    assert status == 0
    assert not [pid for pid in pids(run) if lives(pid)]
