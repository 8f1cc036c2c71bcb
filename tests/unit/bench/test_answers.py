"""What the benchmark's provider says, and how a loss is noticed."""

from __future__ import annotations

import zlib

import pytest

from tests.bench import answers
from tests.bench.answers import Answer


def _paced(tokens: int) -> str:
    text = "".join(answers.token(number * 20_000_000).decode() for number in range(tokens))
    return text + answers.sum_piece(zlib.crc32(text.encode())).decode()


def _burst(tokens: int) -> str:
    text = answers.burst_text(tokens)
    return text + answers.sum_piece(zlib.crc32(text.encode())).decode()


@pytest.mark.parametrize("answer", [Answer(50, 100), Answer(0, 1000)])
def test_a_models_name_is_the_order(answer: Answer) -> None:
    assert answers.ordered(answer.model) == answer


@pytest.mark.parametrize("model", ["gpt-4o", "bench-paced-0x5", "bench-paced-50x", "bench-burst-0", "bench-burst-1x"])
def test_other_models_are_not_ours(model: str) -> None:
    assert answers.ordered(model) is None


def test_a_token_tells_when_it_was_sent_across_the_wrap_of_its_clock() -> None:
    sent = 2_999_999_999_000
    assert answers.sent_ns(answers.token(sent).decode(), sent + 5_000_000) == sent


def test_whole_answers_are_whole() -> None:
    assert answers.is_whole(_paced(7), Answer(50, 7))
    assert answers.is_whole(_burst(40), Answer(0, 40))


@pytest.mark.parametrize("answer", [Answer(50, 20), Answer(0, 20)])
def test_an_answer_with_a_lost_doubled_moved_or_changed_piece_is_not_whole(answer: Answer) -> None:
    text = _paced(20) if answer.rate else _burst(20)
    lost, doubled = text[:10] + text[20:], text[:20] + text[10:]
    moved, changed = text[10:20] + text[:10] + text[20:], text[:12] + "?" + text[13:]
    for wrong in (lost, doubled, moved, changed, text[:-10], ""):
        assert not answers.is_whole(wrong, answer)
