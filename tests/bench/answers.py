"""What the benchmark's provider says: every token carries the time it was sent, every answer the sum of its text.

A model's name is the whole order: `bench-paced-50x100` gives 100 tokens at 50 a second, `bench-burst-1000` gives 1000 tokens at once.

    paced token   `~` and nine digits: CLOCK_MONOTONIC in microseconds, modulo 1000 s. That clock is shared by all processes.
    burst token   a word; quotes, line breaks, umlauts and an emoji are among them
    last piece    ` #` and eight hexadecimal digits: CRC-32 of the text before it, as UTF-8; it is not counted as a token
"""

from __future__ import annotations

import functools
import re
import zlib
from dataclasses import dataclass

BEGIN = b"~"
"""Occurs in an answer's first token and nowhere in what surrounds it."""
TOKEN_WIDTH = 10
SUM_WIDTH = 10

_WRAP_NS = 1_000 * 1_000_000_000
_MODEL = re.compile(r"bench-(?:paced-([1-9]\d{0,5})x|burst-)([1-9]\d{0,6})")
_WORDS = (
    "the ",
    "answer ",
    "is",
    ", ",
    'as "they" ',
    "say",
    ":\n",
    "wörd",
    " für ",
    "Wort",
    " 🙂",
    ". ",
    "A ",
    "longer-word ",
    "\tx",
    "\\ ",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model's name orders.

    Attributes:
        rate: Tokens a second; 0: all at once.
        tokens: How many.
    """

    rate: int
    tokens: int

    @property
    def model(self) -> str:
        """Returns the model's name."""
        return f"bench-paced-{self.rate}x{self.tokens}" if self.rate else f"bench-burst-{self.tokens}"


def ordered(model: str) -> Answer | None:
    """Returns what a model's name orders, or None where it is not one of ours."""
    match = _MODEL.fullmatch(model)
    return Answer(int(match[1] or 0), int(match[2])) if match else None


def token(now_ns: int) -> bytes:
    """Returns a paced token sent at this moment."""
    return b"~%09d" % (now_ns // 1000 % 1_000_000_000)


def sent_ns(text: str, received_ns: int) -> int:
    """Returns when a paced token was sent, to the microsecond: the latest such moment before it was received.

    Raises: ValueError: it is not a paced token.
    """
    if len(text) != TOKEN_WIDTH or not text.startswith("~"):
        raise ValueError("not a paced token")
    stamp = int(text[1:]) * 1000
    return received_ns - (received_ns - stamp) % _WRAP_NS


def sum_piece(text_sum: int) -> bytes:
    """Returns the last piece of an answer whose text has this CRC-32."""
    return b" #%08x" % text_sum


def is_whole(text: str, answer: Answer) -> bool:
    """Says whether this is the whole text of such an answer, nothing lost, doubled, moved or changed."""
    body, given = text[:-SUM_WIDTH], text[-SUM_WIDTH:]
    if sum_piece(zlib.crc32(body.encode())).decode() != given:
        return False
    return len(body) == answer.tokens * TOKEN_WIDTH if answer.rate else body == burst_text(answer.tokens)


@functools.cache
def burst_text(tokens: int) -> str:
    """Returns the text of a burst, without its sum."""
    return "".join(burst_tokens(tokens))


def burst_tokens(tokens: int) -> list[str]:
    """Returns the tokens of a burst; the first one begins with `BEGIN`."""
    whole, rest = divmod(tokens, len(_WORDS))
    words = [*(_WORDS * whole), *_WORDS[:rest]]
    return [BEGIN.decode() + words[0], *words[1:]]
