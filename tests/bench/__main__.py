"""`python -m tests.bench`: measures; `python -m tests.bench compare A B`: compares two results."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import uvloop

from deploy.local.unit import StartError
from tests.bench import compare, figures, machine, measure, plan, profiled, report
from tests.bench.peers.peer import PeerError, version
from tests.bench.plan import PEERS, UnknownName
from tests.bench.system import SetUpError
from tests.bench.worker import WorkerError


def main() -> int:
    """Runs the command line.

    Returns: 0; 1 where an answer failed or lost characters; 2 where nothing could be measured.
    """
    options = _options()
    try:
        if options.command == "compare":
            sys.stdout.write(compare.compare(options.before, options.after, everything=options.all) + "\n")
            return 0
        return _bench(options)
    except (UnknownName, FileNotFoundError, PeerError, StartError, SetUpError, WorkerError) as error:
        _say(f"bench: {error}")
        return 2


def _bench(options: argparse.Namespace) -> int:
    names, profile = _list(options.only), _list(options.profile)
    known = {*plan.TARGETS, *PEERS}
    chosen = (plan.quick() if options.quick else plan.full()).only(
        {name for name in names if name not in known}, {name for name in names if name in known}
    )
    if options.peers:
        chosen = chosen.beside_peers()
    where = machine.describe()
    peers = {name: version(name) for name in chosen.targets if name in PEERS}
    records, profiles = uvloop.run(measure.run(chosen, _say, profile=profile))
    result: dict[str, Any] = {
        "machine": where,
        "plan": chosen.name,
        "rounds": chosen.rounds,
        "peers": peers,
        "figures": figures.collect(records),
        "failures": figures.failures(records),
        "answers": figures.answers(records),
        "foreign_percent": figures.foreign_percent(records),
    }
    sys.stdout.write(f"\n{report.page(result)}\n")
    for name in profile:
        found = (
            profiled.summary(profiles[name]) if name in profiles else "None: it did not end in order, or is no service."
        )
        sys.stdout.write(f"\n## Profile of {name}\n\n{found}\n")
    if not (options.no_write or profile):
        _say(f"\nwritten to {report.write(result).with_suffix('')}.{{md,json}}")
    return int(figures.any_of_ours(result["failures"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="Measures Parley against the bare provider.")
    parser.add_argument("--quick", action="store_true", help="one round, up to 50 streams, under a minute")
    parser.add_argument("--only", default="", help="names of targets or cells, such as bare,whole,idle,n50,burst,stop")
    parser.add_argument("--peers", action="store_true", help="also LiteLLM's proxy and Portkey: `make bench-peers`")
    parser.add_argument("--no-write", action="store_true", help="leaves no files under results/")
    parser.add_argument("--profile", default="", help="services to run under a sampling profiler; writes no result")
    comparing = parser.add_subparsers(dest="command").add_parser("compare", help="two results side by side")
    comparing.add_argument("before", help="path, or how a name under results/ begins")
    comparing.add_argument("after")
    comparing.add_argument("--all", action="store_true", help="also what did not change")
    return parser.parse_args()


def _list(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
