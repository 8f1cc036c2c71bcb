"""Whatever the model's pieces and whenever somebody joins, every screen shows what is stored; and only the signed in get one."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from parley.chat.v1 import chat_pb2 as pb
from parley.chat.v1 import chat_pb2_grpc
from runtime.channel import stream, unary
from runtime.errors import Unauthenticated
from services.chat.asks import Ask
from tests.contract.chat.screen import Live, Screen
from tests.contract.chat.scripted_gateway import Gate, Think
from tests.contract.chat.world import Instance, Person, World, refusal

ALPHABET = "ab \n*é\u0301\U0001f600"


@pytest.mark.parametrize("seed", range(6))
async def test_all_screens_show_what_is_stored(world: World, chat: Instance, ada: Person, seed: int) -> None:
    """Watchers join here and at another instance, at random places, and some leave and come back with their cursor."""
    chance = random.Random(seed)
    steps, gates = _script(chance)
    world.gateway.script(*steps)
    async with world.chat() as other:
        first = await ada.begin(chat, text="")
        screens = [asyncio.create_task(first.rest())]
        for gate in gates:
            await gate.reached.wait()
            for _ in range(chance.randrange(4)):
                live = Live(Screen(), ada.watch(chance.choice([chat, other]), first.run_id))
                live.screen.take(await anext(live.responses))
                if chance.random() < 0.5:
                    seen = await live.leave()
                    live = Live(seen, ada.watch(chance.choice([chat, other]), first.run_id, seen.seq))
                screens.append(asyncio.create_task(live.rest()))
            gate.open()
        done = [await screen for screen in screens]
    stored = await ada.stored(first.run_id)
    text = "".join(part.text for part in stored.answer.parts)
    assert text == "".join(piece for step in steps for piece in _pieces(step) if isinstance(piece, str))
    for screen in done:
        assert screen.text == text
        assert (screen.last.WhichOneof("kind"), screen.seq) == ("done", stored.run.last_seq)
    assert [event.seq for event in done[0].events] == list(range(1, stored.run.last_seq + 1))


async def test_a_run_under_way_holds_no_request(world: World, chat: Instance, ada: Person) -> None:
    """What it needs of that is kept with the run: the message may be long, and so may the answer."""
    held_by_others = _asks()
    gate = Gate()
    world.gateway.script("Hel", gate, "lo")
    live = await ada.begin(chat, text="Hel")
    await gate.reached.wait()
    assert not [held for held in _asks() if all(held is not another for another in held_by_others)]
    gate.open()
    assert (await live.rest()).text == "Hello"


@pytest.mark.parametrize("name", ["StartRun", "WatchRun", "CancelRun", "GetRun"])
@pytest.mark.parametrize("token", ["", "not-a-token"])
async def test_nothing_without_an_access_token(world: World, chat: Instance, name: str, token: str) -> None:
    method = getattr(chat_pb2_grpc.ChatServiceStub(chat.channel), name)
    request: Any = getattr(pb, f"{name}Request")()
    call = unary(method, request, timeout_s=5, token=token) if name[0] in "CG" else stream(method, request, token=token)
    assert isinstance(await refusal(call), Unauthenticated)
    assert world.gateway.requests == []


def _asks() -> list[Ask]:
    return [held for held in gc.get_objects() if type(held) is Ask]


def _script(chance: random.Random) -> tuple[list[Any], list[Gate]]:
    def piece() -> str | Think:
        text = "".join(chance.choices(ALPHABET, k=chance.randint(1, 5)))
        return Think(text) if chance.random() < 0.2 else text

    steps: list[Any] = []
    for _ in range(chance.randint(2, 6)):
        steps += [[piece() for _ in range(chance.randint(1, 4))] for _ in range(chance.randint(1, 30))]
        steps.append(Gate())
    return [*steps, "."], [step for step in steps if isinstance(step, Gate)]


def _pieces(step: Any) -> list[Any]:
    return step if isinstance(step, list) else [step]
