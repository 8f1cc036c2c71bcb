"""From records to figures, goals, pages and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import compare, figures, goals, plan, profiled, report
from tests.bench.goals import Goal
from tests.bench.spread import percentile


def _record(target: str, number: int, first_ms: float, edge_us: int = 0) -> dict[str, Any]:
    spread = {"n": 1, "p50": 20.0, "p99": 21.0, "max": 22.0}
    result = {
        "failures": {},
        "whole": 3,
        "probe_first_ms": [first_ms],
        "burst_first_ms": [first_ms * 2],
        "gap_ms": spread,
        "transit_ms": spread,
        "window_s": 2.0,
        "window_tokens": 1000,
    }
    return {
        "round": number,
        "target": target,
        "cell": "n10",
        "do": "paced",
        "streams": 10,
        "probes": 1,
        "result": result,
        "cpu_us": {"edge": edge_us, "chat": edge_us, "load": 500_000},
        "probe_cpu_us": {},
        "memory_kb": {"edge": 100 * number},
        "foreign_us": [40_000, 1_000_000],
        "provider_late_p99_ms": 1.0,
    }


_RECORDS = [
    _record("whole", 1, 5.0, 30_000),
    _record("whole", 2, 4.0, 50_000),
    _record("whole", 3, 9.0, 40_000),
    _record("bare", 1, 1.0),
]


def _result(records: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {
        "date": "2026-11-21T09:00:00+00:00",
        "commit": "abc",
        "dirty": False,
        "cpu": "c",
        "cores": 2,
        "kernel": "k",
    }
    return {
        "machine": machine | {"python": "3", "packages": {"grpcio": "1"}},
        "plan": "full",
        "rounds": 3,
        "figures": figures.collect(records),
        "failures": figures.failures(records),
        "answers": figures.answers(records),
        "foreign_percent": figures.foreign_percent(records),
    }


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert figures.collect(_RECORDS)["first_p50_ms.n10"]["whole"] == {"median": 5.0, "rounds": [5.0, 4.0, 9.0]}


def test_cpu_is_by_token_and_the_tools_are_not_in_the_total() -> None:
    found = figures.collect(_RECORDS)
    assert found["cpu_us_token.n10/edge"]["whole"]["median"] == 40
    assert found[f"cpu_us_token.n10/{figures.TOTAL}"]["whole"]["median"] == 80


def test_memory_is_that_of_the_first_round_with_many_streams() -> None:
    assert "memory_kb_stream.n10/edge" not in figures.collect(_RECORDS)
    many = [record | {"streams": 200, "cell": "n200"} for record in _RECORDS]
    assert figures.collect(many)["memory_kb_stream.n200/edge"]["whole"]["rounds"] == [0.5]


def test_delivery_is_measured_against_what_was_due() -> None:
    assert figures.collect(_RECORDS)["delivered_percent.n10"]["whole"]["median"] == 100


def test_what_delivers_nothing_in_time_is_told() -> None:
    late = _RECORDS[0] | {"result": _RECORDS[0]["result"] | {"window_tokens": 0}}
    assert figures.collect([late])["delivered_percent.n10"]["whole"]["median"] == 0


def test_others_share_of_the_machine_is_told() -> None:
    assert figures.foreign_percent(_RECORDS) == pytest.approx(4.0)
    busy = [record | {"foreign_us": [1_200_000, 4_000_000]} for record in _RECORDS]
    assert "not quiet" in report.page(_result(busy))
    assert "not quiet" not in report.page(_result(_RECORDS))


def test_failures_are_summed_by_target_and_cell() -> None:
    failed = [record | {"result": record["result"] | {"failures": {"HTTP 503": 2}}} for record in _RECORDS[:2]]
    assert figures.failures(failed) == {"whole": {"n10: HTTP 503": 4}}
    assert "4 x n10: HTTP 503" in report.page(_result(failed))


@pytest.mark.parametrize(
    ("against", "least", "value", "reached"),
    [
        ("value", False, 5, False),
        ("over bare", False, 4, True),
        ("times bare", False, 5, False),
        ("value", True, 5, True),
    ],
)
def test_a_goal_is_met_or_not(against: str, least: bool, value: float, reached: bool) -> None:
    goal = Goal("", "whole", "first_p50_ms.n10", 4, against, least=least)
    measured = goals.measured(goal, figures.collect(_RECORDS))
    assert measured == value
    assert goals.met(goal, measured) is reached


def test_a_goal_that_was_not_measured_is_left_out() -> None:
    assert goals.measured(Goal("", "gateway", "first_p50_ms.n10", 4), figures.collect(_RECORDS)) is None


def test_the_page_shows_ratio_and_difference_to_bare() -> None:
    line = next(line for line in report.page(_result(_RECORDS)).splitlines() if "first token, 10 streams, p50" in line)
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["1", "5", "5", "4"]


def test_the_page_shows_gateways_of_others_where_they_were_measured() -> None:
    assert "Gateways of others" not in report.page(_result(_RECORDS))
    result = _result([*_RECORDS, _record("litellm", 1, 20.0)]) | {"peers": {"litellm": "1.2.3"}}
    shown = report.page(result).partition("## Gateways of others")[2]
    assert "litellm 1.2.3" in shown
    line = next(line for line in shown.splitlines() if "first token, 10 streams, p50" in line)
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["5", "20", "4"]


def test_a_comparison_shows_only_what_changed(tmp_path: Path) -> None:
    quick = [record | {"result": record["result"] | {"probe_first_ms": [1.0]}} for record in _RECORDS]
    for name, records in (("a", _RECORDS), ("b", quick)):
        (tmp_path / name).write_text(json.dumps(_result(records)))
    found = compare.compare(str(tmp_path / "a"), str(tmp_path / "b"), everything=False)
    assert [line.split("|")[1].strip() for line in found.splitlines()[2:] if "whole" in line] == [
        "first_p50_ms.n10",
        "first_p99_ms.n10",
    ]


def test_a_comparison_with_nothing_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        compare.compare("no such result", "neither", everything=False)


def test_a_part_of_the_plan_keeps_the_rest_out() -> None:
    part = plan.full().only({"idle"}, {"bare", "whole"})
    assert ([cell.name for cell in part.cells], part.targets) == (["idle"], ("bare", "whole"))
    with pytest.raises(plan.UnknownName, match="nonsense"):
        plan.full().only({"nonsense"}, set())


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (99, 4.0), (100, 4.0), (1, 1.0)])
def test_percentiles_are_values_that_occurred(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == value


def test_a_profile_counts_a_function_once_a_stack() -> None:
    found = profiled.summary("a.py:f;a.py:g 3\na.py:f;a.py:f 1\n")
    assert "4 samples" in found
    assert "100.0 %  a.py:f" in found
    assert "75.0 %  a.py:g" in found
