"""When the client takes an answer to be over: whatever its head looks like, and however it is cut."""

from __future__ import annotations

import asyncio
import itertools
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.http_client import Exchange, HttpClient

_HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: 10\r\n"
_LENGTH = _HEAD + b"content-length: 4\r\nx-more: 0\r\n\r\n0\r\n~"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\nx-more: 0\r\n\r\n3\r\na~b\r\n0\r\n\r\n"


def _asked() -> tuple[HttpClient, Exchange]:
    client = HttpClient()
    client.connection_made(Mock(spec=asyncio.Transport))
    return client, client.ask(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("raw", [_LENGTH, _CHUNKED], ids=["length", "chunked"])
@given(cuts=st.sets(st.integers(1, 60)))
def test_an_answer_ends_with_its_last_byte_and_not_before(raw: bytes, cuts: set[int]) -> None:
    client, exchange = _asked()
    bounds = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    for start, end in itertools.pairwise(bounds):
        assert not exchange.ended.is_set()
        client.data_received(raw[start:end])
    assert exchange.ended.is_set()
    assert exchange.failure == ""


def test_text_has_begun_with_its_first_token() -> None:
    client, exchange = _asked()
    client.data_received(_CHUNKED[:-12])
    assert not exchange.begun.is_set()
    client.data_received(_CHUNKED[-12:-5])
    assert exchange.begun.is_set()


def test_a_connection_that_is_lost_fails_the_answer() -> None:
    client, exchange = _asked()
    client.data_received(_CHUNKED[:-1])
    client.connection_lost(None)
    assert exchange.failure == "connection lost"
    assert client.ask(b"").failure == "connection lost between turns"
