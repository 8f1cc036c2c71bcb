"""`python -m tests.chaos`: hurts Parley for a while, round after round, and says whether everything held."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tests.chaos import report
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.round import Outcome, play
from tests.chaos.system import System

_WIDTH = 150


def main() -> int:
    """Returns the exit status: 1 where a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="how long; without it each fault is played once")
    parser.add_argument("--seed", default="", help="of a round, as a report names it, or of the first one")
    parser.add_argument(
        "--fault", action="append", choices=tuple(FAULTS), default=[], help="only this; may be repeated"
    )
    parser.add_argument("--users", type=int, default=4, help="people at work at once")
    parser.add_argument("--keep", type=Path, help="directory for the histories and logs of rounds that broke a rule")
    return asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True, width=max(Console().width, _WIDTH))
    seed = options.seed or secrets.token_hex(3)
    outcomes: list[Outcome] = []
    begun = time.monotonic()
    console.print(f"seed {seed}")
    try:
        for block in _blocks(options, begun):
            async with System(direct=not block[0].through_links) as system:
                for fault in block:
                    # The first round has the seed itself, so that any round can be played again by its own.
                    own = f"{seed}-{len(outcomes) + 1}" if outcomes else seed
                    outcome = await play(system, fault, own, users=options.users)
                    outcomes.append(outcome)
                    _tell(console, outcome, time.monotonic() - begun)
                    if outcome.violations and options.keep:
                        _keep(options.keep / own, outcome, system.stack.home.logs)
    finally:
        if outcomes:
            console.print(report.table(outcomes))
    for outcome in outcomes:
        if outcome.violations:
            console.print(f"again: python -m tests.chaos --fault {outcome.fault} --seed {outcome.seed}", style="red")
    return int(any(outcome.violations for outcome in outcomes))


def _blocks(options: argparse.Namespace, begun: float) -> Iterator[list[Fault]]:
    """Yields faults that can be played on one system, until the time is up or each has been played once."""
    faults = [FAULTS[name] for name in options.fault or FAULTS]
    while True:
        for through_links in (False, True):
            if block := [fault for fault in faults if fault.through_links is through_links]:
                yield block
            if options.minutes and time.monotonic() - begun > options.minutes * 60:
                return
        if not options.minutes:
            return


def _tell(console: Console, outcome: Outcome, at_s: float) -> None:
    told = ", ".join(f"{count} {status}" for status, count in sorted(outcome.statuses.items()))
    console.print(f"{at_s:7.1f} s  {outcome.fault:<24} {outcome.seed:<12} {told}")
    for line in report.violations(outcome):
        console.print(f"           {line}", style="red")


def _keep(directory: Path, outcome: Outcome, logs: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    outcome.history.write(directory / "history.jsonl")
    shutil.copytree(logs, directory / "logs", dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
