"""Vectors that were made before: in memory, and in Redis where there is one."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING

import redis.asyncio
import redis.exceptions
import structlog

from runtime.context import current_identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


log = structlog.stdlib.get_logger()

_PREFIX = b"parley:gateway:vector:"
_KEPT_S = 7 * 24 * 3600
_AWAY = (redis.exceptions.RedisError, OSError, TimeoutError)


class VectorCache:
    """Keeps vectors by a hash of what they were made from, each organization's for itself: that a text costs nothing tells who had it before.

    Args:
        max_bytes: Of vectors kept in memory; those that were used longest ago go first.
        client: Redis, which may be away; None: there is none.
    """

    def __init__(self, *, max_bytes: int, client: redis.asyncio.Redis | None = None) -> None:
        self._max_bytes = max_bytes
        self._client = client
        self._bytes = 0
        self._kept: OrderedDict[bytes, array[float]] = OrderedDict()

    async def find(self, model: str, dimensions: int, texts: Sequence[str]) -> dict[str, array[float]]:
        """Returns the vectors that are known, by text."""
        keys = {text: _key(model, dimensions, text) for text in texts}
        found = {text: vector for text, key in keys.items() if (vector := self._recall(key)) is not None}
        missing = [text for text in keys if text not in found]
        if missing and self._client is not None:
            try:
                stored = await self._client.mget([_PREFIX + keys[text] for text in missing])
            except _AWAY as error:
                log.warning("vectors_not_looked_up", cause=type(error).__name__)
                return found
            for text, packed in zip(missing, stored, strict=True):
                if packed:
                    vector = array("f")
                    vector.frombytes(packed)  # type: ignore[arg-type] # answers are bytes
                    found[text] = vector
                    self._keep(keys[text], vector)
        return found

    async def add(self, model: str, dimensions: int, vectors: Mapping[str, array[float]]) -> None:
        """Keeps new vectors."""
        packed = {_key(model, dimensions, text): vector for text, vector in vectors.items()}
        for key, vector in packed.items():
            self._keep(key, vector)
        if self._client is None or not packed:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for key, vector in packed.items():
                    pipe.set(_PREFIX + key, vector.tobytes(), ex=_KEPT_S)
                await pipe.execute()
        except _AWAY as error:
            log.warning("vectors_not_shared", cause=type(error).__name__)

    def _recall(self, key: bytes) -> array[float] | None:
        vector = self._kept.get(key)
        if vector is not None:
            self._kept.move_to_end(key)
        return vector

    def _keep(self, key: bytes, vector: array[float]) -> None:
        old = self._kept.pop(key, None)
        self._bytes += _size(vector) - (_size(old) if old is not None else 0)
        self._kept[key] = vector
        while self._bytes > self._max_bytes and self._kept:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _size(gone)


def _size(vector: array[float]) -> int:
    return len(vector) * vector.itemsize + 200


def _key(model: str, dimensions: int, text: str) -> bytes:
    return hashlib.sha256(f"{current_identity().org_id}\n{model}\n{dimensions}\n{text}".encode()).hexdigest().encode()
