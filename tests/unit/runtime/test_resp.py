"""What Redis is told and says, on the wire."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from runtime.resp import Incomplete, decoded, encoded

ANSWERS: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":-7\r\n", -7),
    (b"$0\r\n\r\n", b""),
    (b"$6\r\na\r\nb\r\n\r\n", b"a\r\nb\r\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n:1\r\n*1\r\n$1\r\nx\r\n$-1\r\n", [1, [b"x"], None]),
]


def test_commands_are_arrays_of_strings_whatever_they_are_made_of() -> None:
    assert encoded([("SET", b"k\r\n", 1), ["GET", "é", 0.5]]) == (
        b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$1\r\n1\r\n*3\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n$3\r\n0.5\r\n"
    )


@pytest.mark.parametrize(("wire", "answer"), ANSWERS)
def test_each_kind_of_answer_is_read(wire: bytes, answer: object) -> None:
    assert decoded(bytearray(b"+before\r\n" + wire + b"+after\r\n"), 9) == (answer, 9 + len(wire))


@pytest.mark.parametrize("wire", [wire for wire, _ in ANSWERS])
def test_an_answer_that_is_cut_anywhere_is_incomplete(wire: bytes) -> None:
    for end in range(len(wire)):
        with pytest.raises(Incomplete):
            decoded(bytearray(wire[:end]), 0)


@pytest.mark.parametrize(
    ("told", "kind", "text"),
    [
        ("ERR The ID is equal or smaller", exceptions.ResponseError, "The ID is equal or smaller"),
        ("NOSCRIPT No matching script.", exceptions.NoScriptError, "No matching script."),
        ("WRONGTYPE Operation", exceptions.ResponseError, "WRONGTYPE Operation"),
        ("LOADING Redis is loading", exceptions.BusyLoadingError, "Redis is loading"),
    ],
)
def test_a_refusal_is_the_clients_own_exception(told: str, kind: type[Exception], text: str) -> None:
    answer, _ = decoded(bytearray(f"-{told}\r\n".encode()), 0)
    assert (type(answer), str(answer)) == (kind, text)


@given(st.binary(max_size=40))
def test_whatever_arrives_is_an_answer_or_incomplete_or_no_answer(data: bytes) -> None:
    try:
        _, end = decoded(bytearray(data), 0)
    except (Incomplete, ValueError):
        return
    assert end <= len(data)
