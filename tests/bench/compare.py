"""Two results side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.report import RESULTS, number, table

_NOTABLE = 0.1


def compare(before: str, after: str, *, everything: bool) -> str:
    """Returns a table of what changed from one result to another.

    A change counts as one when it exceeds a tenth and the rounds of the two do not overlap; the rest is how much runs differ anyway.

    Args:
        before: Path of a result's JSON file, or the beginning of its name under `results/`.
        after: Likewise.
        everything: Shows all figures.

    Raises: FileNotFoundError.
    """
    old, new = _load(before), _load(after)
    rows = [["figure", "target", "before", "after", "after ÷ before"]]
    hidden = 0
    for name in sorted(old["figures"].keys() & new["figures"].keys()):
        for target in old["figures"][name].keys() & new["figures"][name].keys():
            first, second = old["figures"][name][target], new["figures"][name][target]
            if not (everything or _differs(first, second)):
                hidden += 1
                continue
            ratio = second["median"] / first["median"] if first["median"] else None
            rows.append([name, target, number(first["median"]), number(second["median"]), number(ratio)])
    same = old["machine"]["cpu"] == new["machine"]["cpu"] and old["machine"]["cores"] == new["machine"]["cores"]
    notes = [f"{hidden} figures did not change beyond what rounds differ by."]
    if not same:
        notes.append("Measured on different machines: only ratios to bare within each result mean anything.")
    if min(old["rounds"], new["rounds"]) == 1:
        notes.append("One of them has a single round, so that what is mere chance shows as change too.")
    return "\n".join([table(rows), "", *notes])


def _differs(first: dict[str, Any], second: dict[str, Any]) -> bool:
    apart: bool = max(first["rounds"]) < min(second["rounds"]) or max(second["rounds"]) < min(first["rounds"])
    change, base = abs(float(second["median"]) - float(first["median"])), abs(float(first["median"]))
    return apart and change > _NOTABLE * base


def _load(name: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        found = sorted(RESULTS.glob(f"{Path(name).name}*.json"))
        if not found:
            raise FileNotFoundError(f"no result begins with {name}")
        path = found[-1]
    value: dict[str, Any] = json.loads(path.read_text())
    return value
