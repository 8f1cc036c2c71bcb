"""A few short rounds of the chaos that `make chaos` plays for as long as one likes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.faults import FAULTS, SHORT
from tests.chaos.round import play
from tests.chaos.system import System

pytestmark = pytest.mark.timeout(240)

_SEED = "first"


@pytest.fixture(scope="module")
async def system() -> AsyncIterator[System]:
    """Two instances of each service, for all rounds."""
    async with System() as running:
        yield running


@pytest.mark.parametrize("fault", SHORT)
async def test_everything_holds(system: System, fault: str, tmp_path: Path) -> None:
    outcome = await play(system, FAULTS[fault], _SEED, users=3)
    outcome.history.write(tmp_path / "history.jsonl")
    assert len(outcome.history.turns) > 3, "nothing was at stake"
    assert not outcome.violations, "\n".join(
        [*report.violations(outcome), f"python -m tests.chaos --fault {fault} --seed {_SEED} --users 3"]
    )
