"""Rules that hold for every wire, however its bytes are cut and whatever they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import Counts, FinishReason
from services.gateway.wires.parser import MAX_LINE_BYTES, Unreadable
from tests.fakes import llm_wires
from tests.fakes.script import Answer, Kind, ToolUse, UsageReport
from tests.unit.gateway.wire_streams import KINDS, PARSERS, drive, hear, portions, spell

# No surrogates: they are no text. Line ends must survive.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KIND = st.sampled_from(KINDS)
CUTS = st.lists(st.integers(0, 5000), max_size=12)
ANSWERS = st.builds(
    Answer,
    chunks=st.lists(TEXT.filter(bool), min_size=1, max_size=6),
    reasoning=TEXT,
    tools=st.lists(
        st.builds(
            ToolUse,
            name=st.sampled_from(["search", "add"]),
            arguments=st.dictionaries(TEXT, TEXT | st.integers(), max_size=3).map(json.dumps),
        ),
        max_size=2,
    ),
    crlf=st.booleans(),
)


def seen(text: str) -> str:
    """What is left of a text: U+0000 cannot be stored."""
    return text.replace("\x00", "")


@given(kind=KIND, answer=ANSWERS, cuts=CUTS)
def test_where_the_network_cuts_the_bytes_does_not_matter(kind: Kind, answer: Answer, cuts: list[int]) -> None:
    heard = hear(kind, portions(spell(kind, answer), cuts))

    assert heard.failure == ""
    assert heard.text == seen("".join(answer.pieces()))
    assert heard.reasoning == seen(answer.reasoning)
    assert [(name, json.loads(arguments)) for _, name, arguments in heard.calls.values()] == [
        (tool.name, json.loads(tool.arguments)) for tool in answer.tools
    ]
    assert list(heard.calls) == list(range(len(answer.tools)))
    assert heard.ended is not None
    assert heard.ended.reason is (FinishReason.TOOL_CALLS if answer.tools else FinishReason.STOP)
    assert heard.ended.counts is not None
    assert heard.ended.counts.input_tokens == 11


@given(kind=KIND, data=st.binary(max_size=400), cuts=CUTS)
def test_garbage_is_told_as_such_and_never_as_an_answer(kind: Kind, data: bytes, cuts: list[int]) -> None:
    heard = hear(kind, portions(data, cuts))

    assert heard.failure in {"CutOff", "Unreadable", "ErrorInStream"}
    assert heard.ended is None


@given(kind=KIND, answer=ANSWERS, place=st.integers(0, 5000), noise=st.binary(min_size=1, max_size=8), cuts=CUTS)
def test_damage_within_a_stream_ends_in_an_answer_or_in_a_failure_of_the_parsers_own(
    kind: Kind, answer: Answer, place: int, noise: bytes, cuts: list[int]
) -> None:
    whole = spell(kind, answer)
    place %= len(whole)

    heard = hear(kind, portions(whole[:place] + noise + whole[place + len(noise) :], cuts))

    assert (heard.ended is None) == (heard.failure != "")


@given(kind=KIND, answer=ANSWERS, length=st.integers(0, 5000))
def test_a_stream_that_ends_before_the_reason_to_stop_is_cut_off(kind: Kind, answer: Answer, length: int) -> None:
    unfinished = Answer(
        chunks=list(answer.pieces()), reasoning=answer.reasoning, finish_marker=False, done_marker=False
    )
    whole = spell(kind, unfinished)

    heard = hear(kind, [whole[: length % (len(whole) + 1)]])

    assert heard.failure == "CutOff"
    assert seen("".join(answer.pieces())).startswith(heard.text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_may_come_alone(kind: Kind) -> None:
    answer = Answer(text="Grüße, 世界 👋🏽!", reasoning="🤔", tools=[ToolUse("add", '{"a": "é"}')])

    whole = spell(kind, answer)
    heard = hear(kind, [whole[at : at + 1] for at in range(len(whole))])

    assert (heard.text, heard.reasoning, heard.failure) == ("Grüße, 世界 👋🏽!", "🤔", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("portion", [100_000, 10_000_000])
def test_a_line_of_ten_megabytes_is_refused_before_it_is_held(kind: Kind, portion: int) -> None:
    line = b"data: " + b"x" * 10_000_000

    parts = [line[at : at + portion] for at in range(0, len(line), portion)]
    unread = iter(parts)
    with pytest.raises(Unreadable, match="line_too_long"):
        drive(PARSERS[kind](), unread)

    fed_bytes = len(line) - sum(map(len, unread))
    assert fed_bytes <= MAX_LINE_BYTES + portion


@pytest.mark.parametrize("kind", KINDS)
def test_neighbouring_texts_of_one_portion_are_one_delta(kind: Kind) -> None:
    deltas = PARSERS[kind]().feed(spell(kind, Answer(text="one two three four")))

    assert len(deltas) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_usage_says_so(kind: Kind) -> None:
    heard = hear(kind, [spell(kind, Answer(usage=None)).replace(b'"usage":{', b'"unknown":{')])

    assert heard.ended is not None
    assert heard.ended.counts is None


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_cached_tokens_are_part_of_the_input(kind: Kind) -> None:
    heard = hear(kind, [spell(kind, Answer(usage=UsageReport(input_tokens=30, output_tokens=7, cached_tokens=20)))])

    assert heard.ended is not None
    assert heard.ended.counts == Counts(input_tokens=30, output_tokens=7, cached_tokens=20)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_tokens_is_a_reason_of_its_own(kind: Kind) -> None:
    heard = hear(kind, [spell(kind, Answer(finish="length"))])

    assert heard.ended is not None
    assert heard.ended.reason is FinishReason.LENGTH


@pytest.mark.parametrize("kind", KINDS)
def test_what_came_with_an_error_is_given_out_before_it(kind: Kind) -> None:
    begun = spell(kind, Answer(text="so far", finish_marker=False, done_marker=False))

    heard = hear(kind, [begun + llm_wires.error_frame(kind, "broken", None)])

    assert (heard.text, heard.failure) == ("so far", "ErrorInStream")
