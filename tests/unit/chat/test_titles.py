"""Titles come beside the answers: short, clean, and never in the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import NotFound, Unavailable
from services.chat import titles
from services.chat.asking import Earlier, Role
from services.chat.delegation import Credential
from services.chat.titles import TITLE_MAX_CHARS, Titles, cleaned, first_words
from tests.unit.chat.turns import BEGUN, STOP, Saying, Storing, caller, lived, text, turn, until


def credential() -> Credential:
    return Credential(Saying(), "own", expires_at=caller().expires_at)


async def made(gateway: Saying, data: Storing, message: str = "How do I boil an egg?", *, model: str = "fast") -> None:
    making = Titles(gateway, data, model=model)
    making.make("c", (), message, credential())
    await making.drain(20)


async def test_a_small_model_is_asked_once_and_its_title_stored() -> None:
    gateway, data = Saying(("Boiling ", "an Egg", STOP)), Storing()
    await made(gateway, data)
    assert data.titles == ["Boiling an Egg"]
    assert (gateway.calls[0].model, gateway.calls[0].max_output_tokens > 0, gateway.calls[0].total_s > 0) == (
        "fast",
        True,
        True,
    )


@pytest.mark.parametrize("script", [(Unavailable("away"),), (STOP,), ("...", STOP)], ids=["fails", "empty", "dots"])
async def test_the_first_words_serve_where_there_is_no_title(script: tuple[object, ...]) -> None:
    data = Storing()
    await made(Saying(script), data)
    assert data.titles == ["How do I boil an egg?"]


async def test_a_model_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(titles, "_DEADLINE_S", 0.01)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway, data = Saying(("Boi", never)), Storing()
    await made(gateway, data)
    assert (data.titles, gateway.closed) == (["How do I boil an egg?"], 1)


async def test_a_model_that_never_stops_is_stopped() -> None:
    gateway, data = Saying(("x " * 300, "x " * 300, STOP)), Storing()
    await made(gateway, data)
    assert len(data.titles[0]) <= TITLE_MAX_CHARS


async def test_without_a_model_titles_are_first_words() -> None:
    gateway, data = Saying(), Storing()
    await made(gateway, data, model="")
    assert (gateway.calls, data.titles) == ([], ["How do I boil an egg?"])


async def test_a_title_that_was_missed_is_made_of_the_first_message_without_a_model() -> None:
    gateway, data = Saying(), Storing()
    making = Titles(gateway, data, model="fast")
    history = (Earlier(Role.USER, (text("Which way?"),)), Earlier(Role.ASSISTANT, (text("Left."),)))
    making.make("c", history, "Sure?", credential())
    await making.drain(20)
    assert (gateway.calls, data.titles) == ([], ["Which way?"])


async def test_storing_a_title_is_tried_again_while_data_is_away_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(titles, "_PAUSE_S", 0.001)
    data = Storing(Unavailable("away"))
    await made(Saying(), data, model="")
    assert data.titles
    gone = Storing()
    gone.refuse = NotFound("gone")
    await made(Saying(), gone, model="")
    assert gone.tries == 1


async def test_what_is_not_made_in_time_is_dropped_at_the_end() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway, data = Saying(("Boi", never)), Storing()
    making = Titles(gateway, data, model="fast")
    making.make("c", (), "Egg?", credential())
    await until(lambda: bool(gateway.calls))
    await making.drain(0)
    await until(lambda: gateway.closed == 1)
    assert data.titles == []


async def test_a_turn_asks_for_a_title_where_there_is_none_and_does_not_wait_for_it() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway, data = Saying(("Hello", STOP), (never,)), Storing()
    making = Titles(gateway, data, model="fast")
    await lived(turn(gateway, data, begun=replace(BEGUN, untitled=True), titles=making))
    assert [ending.status for ending in data.endings] == ["completed"]
    assert len(gateway.calls) == 2
    await making.drain(0)
    await lived(turn(gateway := Saying(), data, titles=making))
    assert len(gateway.calls) == 1


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ('"Boiling an Egg"', "Boiling an Egg"),
        ("**Title: Boiling an Egg.**\n\nMore", "Boiling an Egg"),
        ("\n  Titel:  „Eier\tkochen“ ", "Eier kochen"),
        ("# Eggs", "Eggs"),
        ("C++", "C++"),
        ("", ""),
        (" \n\t", ""),
        ("a\x00b\u202ec", "abc"),
    ],
)
def test_a_models_words_become_a_title(said: str, title: str) -> None:
    assert cleaned(said) == title


@given(st.text(max_size=2_000))
def test_a_title_fits_whatever_it_is_made_of(given_text: str) -> None:
    for title in (cleaned(given_text), first_words(given_text)):
        assert len(title) <= TITLE_MAX_CHARS
        assert title == title.strip()
        assert title.isprintable()


def test_a_long_message_is_cut_between_words() -> None:
    title = first_words("Please tell me everything there is to know about the boiling of eggs and of water")
    assert title == "Please tell me everything there is to know about the…"
    assert first_words("x" * 100) == "x" * 59 + "…"
