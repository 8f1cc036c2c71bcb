"""Rules of single fields: each refusal names its field."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import validation
from runtime.errors import InvalidArgument


@pytest.mark.parametrize("value", ["", "abcd", "a\x00b"])
def test_a_text_outside_its_bounds_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validation.text("title", value, min_chars=1, max_chars=3)
    assert caught.value.metadata == {"field": "title"}


def test_length_is_counted_in_code_points() -> None:
    assert validation.text("title", "😀é😀", max_chars=3) == "😀é😀"


@pytest.mark.parametrize("value", ["", "x", "1234", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz", "é" * 32])
def test_an_identifier_must_be_a_uuid(value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validation.identifier("run_id", value)
    assert caught.value.metadata == {"field": "run_id"}


def test_an_identifier_gets_its_canonical_form() -> None:
    value = uuid.uuid4()
    assert validation.identifier("run_id", value.hex.upper()) == str(value)


@pytest.mark.parametrize(("given_size", "size"), [(0, 20), (1, 1), (100, 100)])
def test_a_page_size_of_zero_is_the_default(given_size: int, size: int) -> None:
    assert validation.page_size(given_size, default=20) == size


@pytest.mark.parametrize("size", [-1, 101])
def test_a_page_size_outside_its_bounds_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        validation.page_size(size, default=20)


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8")), min_size=1, max_size=4))
def test_a_page_token_gives_back_its_parts(parts: list[str]) -> None:
    assert validation.decode_page_token(validation.encode_page_token(*parts), parts=len(parts)) == parts


@given(st.text())
def test_any_other_text_is_no_page_token(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validation.decode_page_token(token, parts=7)
    assert caught.value.metadata == {"field": "page_token"}
