"""Vectors without a model: features of the text, hashed. Texts that share words and parts of words are near one another."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HASH_PROVIDER = "parley"
HASH_NAME = "hash-384"
HASH_MODEL = f"{HASH_PROVIDER}/{HASH_NAME}"
"""What calls name it, for good: another way to make the vectors gets another name, since stored ones would not fit."""
DIMENSIONS = 384

_WORD = re.compile(r"\w+")
_GRAMS = (3, 4)


def embed(text: str) -> list[float]:
    """Returns a vector of length 1, the same for the same text on every machine; all zeros for a text without any word."""
    values = [0.0] * DIMENSIONS
    for feature, count in Counter(_features(text.casefold())).items():
        hashed = zlib.crc32(feature.encode())
        sign = 1.0 if hashed & 1 else -1.0
        values[(hashed >> 1) % DIMENSIONS] += sign * (1.0 + math.log(count))
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values] if length else values


def _features(text: str) -> Iterator[str]:
    before = ""
    for word in _WORD.findall(text):
        yield f"w {word}"
        if before:
            yield f"b {before} {word}"
        before = word
        edged = f"<{word}>"
        for size in _GRAMS:
            for place in range(len(edged) - size + 1):
                yield f"g {edged[place : place + size]}"
