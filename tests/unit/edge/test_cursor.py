"""Where a client stands in a log, and what is no such place."""

import pytest

from runtime.errors import InvalidArgument
from services.edge.runs.cursor import in_conversation, in_run

RUN = "0193f000-0000-7000-8000-000000000001"
OTHER = "0193f000-0000-7000-8000-000000000002"
NO_POSITION = ["", "-1", "1.5", "\u0663", "\u00b2", "seven", "9223372036854775808", "9" * 100, " 1", "1 "]


def field_of(refused: pytest.ExceptionInfo[InvalidArgument]) -> str:
    return refused.value.metadata["field"]


def test_the_header_wins_over_the_query() -> None:
    assert in_run(RUN, f"{RUN}:7", "3") == 7
    assert in_conversation(f"{RUN}:7", f"{OTHER}:3") == (RUN, 7)


def test_without_a_header_the_query_counts() -> None:
    assert in_run(RUN, "", "3") == 3
    assert in_run(RUN, "", f"{RUN}:3") == 3
    assert in_conversation("", f"{RUN}:3") == (RUN, 3)


def test_without_both_nothing_has_been_seen() -> None:
    assert in_run(RUN, "", None) == 0
    assert in_conversation("", None) == ("", 0)


@pytest.mark.parametrize("position", NO_POSITION)
def test_a_position_that_is_none_is_refused_by_name(position: str) -> None:
    cursor = f"{RUN}:{position}"
    for name, header, after in (("last_event_id", cursor, None), ("after", "", cursor), ("after", "", position)):
        with pytest.raises(InvalidArgument) as refused:
            in_run(RUN, header, after)
        assert field_of(refused) == name
        with pytest.raises(InvalidArgument) as refused:
            in_conversation(header, after)
        assert field_of(refused) == name


@pytest.mark.parametrize("cursor", ["7", ":7", f"{OTHER}:7", f"{RUN.upper()}:7", "x:7", f"{RUN}:{RUN}:7"])
def test_a_header_that_is_no_id_of_this_run_is_refused_by_name(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        in_run(RUN, cursor, None)
    assert field_of(refused) == "last_event_id"


def test_an_after_of_another_run_says_so() -> None:
    with pytest.raises(InvalidArgument, match="another run") as refused:
        in_run(RUN, "", f"{OTHER}:7")
    assert field_of(refused) == "after"


@pytest.mark.parametrize("cursor", ["7", ":7", f"{RUN.upper()}:7", "x:7", RUN])
def test_a_cursor_of_a_conversation_names_its_run(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        in_conversation("", cursor)
    assert field_of(refused) == "after"
