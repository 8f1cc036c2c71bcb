"""A home is held by one launcher, its secrets are private, its logs do not grow for ever."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.local import secret_files
from deploy.local.home import Home, HomeTakenError
from deploy.local.settings import Settings
from runtime.config import ConfigError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_launcher_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    first, second = Home(tmp_path), Home(tmp_path)
    first.take()
    with pytest.raises(HomeTakenError, match=r"pid \d+.*\n.*PARLEY_HOME"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_the_refused_one_leaves_the_run_of_the_first_alone(tmp_path: Path) -> None:
    first = Home(tmp_path)
    first.take()
    first.write_run({"edge_url": "x"})
    with pytest.raises(HomeTakenError):
        Home(tmp_path).take()
    assert Home(tmp_path).read_run() == {"edge_url": "x"}
    first.remove_run()
    first.release()
    assert Home(tmp_path).read_run() is None


def test_what_a_killed_launcher_said_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    home = Home(tmp_path)
    home.take()
    assert home.read_run() is None
    home.release()


def test_what_is_private_is_closed_to_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    home.take()
    home.write_run({"database_url": "secret"})
    secret = secret_files.write(home.secrets / "key", "secret")
    assert [mode(path) for path in (home.secrets, home.logs, secret, home.run_file)] == [0o700, 0o700, 0o600, 0o600]
    home.release()


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = secret_files.read_or_make(tmp_path / "secret")
    assert len(first) >= 32
    assert secret_files.read_or_make(tmp_path / "secret") == first


def test_old_logs_are_kept_but_not_for_ever(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.take()
    for run in range(6):
        home.rotate("auth")
        home.log("auth").write_text(f"run {run}")
    kept = {path.name: path.read_text() for path in home.logs.iterdir()}
    assert kept == {"auth.log": "run 5", "auth.log.1": "run 4", "auth.log.2": "run 3", "auth.log.3": "run 2"}
    home.release()


def test_faults_of_the_settings_are_told_together() -> None:
    with pytest.raises(ConfigError, match="PARLEY_PORT"):
        Settings.read({"PARLEY_PORT": "eighty"})


def test_the_settings_have_defaults_that_need_nothing() -> None:
    settings = Settings.read({})
    assert (settings.host, settings.port, Path(settings.home).name) == ("127.0.0.1", 8080, ".parley")
