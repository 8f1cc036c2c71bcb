"""What a tool must be, how tools are named, and the one that is built in."""

from __future__ import annotations

import sys
import types
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.chat.tools.current_time import CURRENT_TIME, CurrentTime
from services.chat.tools.registry import Registry
from services.chat.tools.tool import Tool, ToolContext, ToolError
from tests.unit.chat.turns import Doing, box, caller

NOW = datetime(2026, 11, 21, 12, 45, tzinfo=UTC)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("tools_of_a_test")
    monkeypatch.setitem(sys.modules, "tools_of_a_test", made)
    return made


def test_the_built_in_tool_is_found_by_its_place() -> None:
    tools = Registry.load(["services.chat.tools.current_time:CURRENT_TIME"]).box(caller())
    assert [offer.name for offer in tools.offers] == ["current_time"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("nowhere", "must be package.module:attribute"),
        ("no.such.module:TOOL", "cannot be imported"),
        ("services.chat.tools.current_time:NOTHING", "has no NOTHING"),
        ("services.chat.tools.current_time:UTC", "is no tool"),
        ("tools_of_a_test:TOOL", "is no tool"),
    ],
)
def test_a_fault_in_the_configuration_names_its_entry(module: types.ModuleType, entry: str, why: str) -> None:
    module.TOOL = CurrentTime  # type: ignore[attr-defined] # the class, not a tool
    with pytest.raises(ValueError, match=why) as fault:
        Registry.load([entry])
    assert repr(entry) in str(fault.value)


def test_what_breaks_while_it_is_imported_is_a_fault_of_the_configuration(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "broken_tool.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        Registry.load(["broken_tool:TOOL"])


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        (Doing("no spaces"), "name"),
        (Doing(""), "name"),
        (Doing(timeout_s=0), "above 0"),
        (Doing(result_max_bytes=0), "above 0"),
        (Doing(parameters={"type": "array"}), "of type object"),
        (Doing(parameters={"type": "object", "properties": 7}), "no JSON schema"),
        (Doing(parameters={"type": "object", "allOf": [{"$ref": "https://example.org/x"}]}), "refer to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tool_says_of_itself_what_it_must(tool: Tool, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Registry([tool])


def test_no_two_tools_have_one_name() -> None:
    with pytest.raises(ValueError, match="two tools"):
        Registry([Doing(), Doing()])


def test_a_model_is_told_the_schema_as_json() -> None:
    assert box(CURRENT_TIME).offers[0].parameters_json.startswith('{"type": "object", "properties": {"timezone"')


async def test_the_time_is_told_in_utc_and_in_any_zone() -> None:
    def clock(zone: ZoneInfo) -> datetime:
        return NOW.astimezone(zone)

    context = ToolContext(caller(), "r", "t", lambda _: None)
    tool = CurrentTime(clock)
    assert await tool.call({}, context) == "2026-11-21T12:45:00+00:00 (Saturday, UTC)"
    assert (
        await tool.call({"timezone": "Asia/Kolkata"}, context) == "2026-11-21T18:15:00+05:30 (Saturday, Asia/Kolkata)"
    )


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "a\x00b", "x" * 64])
async def test_a_zone_that_is_none_is_named(name: str) -> None:
    context = ToolContext(caller(), "r", "t", lambda _: None)
    with pytest.raises(ToolError, match="no time zone"):
        await CURRENT_TIME.call({"timezone": name}, context)
