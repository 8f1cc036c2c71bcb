"""Hashing is bounded, and a hash of no account costs what a hash of an account does."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from services.auth.domain import Busy
from services.auth.passwords import Argon2Passwords

Make = Callable[..., Argon2Passwords]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Argon2Passwords] = []

    def passwords(threads: int = 1, queue: int = 0, iterations: int = 1) -> Argon2Passwords:
        made.append(Argon2Passwords(threads=threads, queue=queue, memory_kib=8, iterations=iterations))
        return made[-1]

    yield passwords
    for one in made:
        one.close()


async def test_a_hash_proves_its_password_alone(make: Make) -> None:
    passwords = make()
    hashed = await passwords.hash("right")
    assert hashed.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await passwords.verify(hashed, "right")
    assert not await passwords.verify(hashed, "wrong")
    assert not await passwords.verify(hashed, "")


async def test_a_password_is_salted(make: Make) -> None:
    passwords = make()
    assert await passwords.hash("same") != await passwords.hash("same")


async def test_no_account_has_no_password_not_even_the_one_it_is_compared_with(make: Make) -> None:
    passwords = make()
    for guess in ("", "the password of an account that does not exist"):
        assert not await passwords.verify(None, guess)


async def test_other_parameters_make_a_hash_outdated(make: Make) -> None:
    old = await make(iterations=1).hash("right")
    assert make(iterations=2).is_outdated(old)
    assert not make(iterations=1).is_outdated(old)


async def test_what_neither_runs_nor_may_wait_is_refused_until_there_is_room(make: Make) -> None:
    passwords = make(threads=1, queue=1)
    gate = threading.Event()
    taken = [asyncio.create_task(passwords._run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy) as refused:
        await passwords.hash("one too many")
    assert refused.value.retry_after_s == 1
    gate.set()
    await asyncio.gather(*taken)
    assert await passwords.hash("there is room again")


async def test_a_cancelled_call_holds_its_thread_until_the_work_is_done(make: Make) -> None:
    passwords = make(threads=1, queue=0)
    started, gate, done = threading.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        started.set()
        gate.wait()
        loop.call_soon_threadsafe(done.set)

    call = asyncio.create_task(passwords._run(work))
    await asyncio.to_thread(started.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(Busy):
        await passwords.hash("the thread still works")
    gate.set()
    await done.wait()
    async with asyncio.timeout(10):
        while passwords._taken:  # noqa: ASYNC110 - the pool's own callback, a step or two behind the work
            await asyncio.sleep(0)
    assert await passwords.hash("there is room again")
