"""Password hashes: argon2id on a bounded pool of threads, since one costs a hundred milliseconds of a core and tens of megabytes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import argon2
from prometheus_client import Counter, Gauge

from services.auth.domain import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CHECKS = Counter("parley_auth_password_checks_total", "Passwords compared with a hash, also of no account.", ["result"])
_WAITING = Gauge("parley_auth_password_queue", "Passwords being hashed or waiting for it.")
_RETRY_AFTER_S = 1.0


class Argon2Passwords:
    """Hashes and checks passwords.

    Args:
        threads: How many at once.
        queue: How many may wait beyond those; further ones are refused.
        memory_kib: Memory of one hash.
        iterations: Passes over it.

    Source: RFC 9106; the work per hash is one lane, so that `threads` bounds the cores used.
    """

    def __init__(self, *, threads: int, queue: int, memory_kib: int, iterations: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._most = threads + queue
        self._taken = 0
        self._nobodys_hash = self._hasher.hash("the password of an account that does not exist")

    async def hash(self, password: str) -> str:
        """Returns a salted hash in PHC form.

        Raises: Busy.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Says whether the password is right; None costs as much and is never right.

        Raises: Busy.
        """
        right = await self._run(lambda: self._check(password_hash or self._nobodys_hash, password))
        return right and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Says whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Ends the threads once they are done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _check(self, password_hash: str, password: str) -> bool:
        try:
            right: bool = self._hasher.verify(password_hash, password)
        except argon2.exceptions.VerifyMismatchError:
            right = False
        CHECKS.labels("right" if right else "wrong").inc()
        return right

    async def _run(self, work: Callable[[], T]) -> T:
        if self._taken >= self._most:
            raise Busy("Too many people sign in at this moment; try again.", retry_after_s=_RETRY_AFTER_S)
        self._taken += 1
        _WAITING.inc()
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Freed when the thread is done, not when the caller is gone: a cancelled call's hash goes on working.
        future.add_done_callback(self._free)
        return await asyncio.shield(future)

    def _free(self, _: object) -> None:
        self._taken -= 1
        _WAITING.dec()
