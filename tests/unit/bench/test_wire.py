"""Received bytes and their times to arrivals of text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.gateway.v1 import gateway_pb2 as pb
from tests.bench import wire
from tests.bench.wire import BadStream, Piece

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return _HEAD + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def _event(seq: int, name: str, data: str) -> bytes:
    return f'id: r:{seq}\nevent: {name}\ndata: {{"run_id":"r","seq":{seq},{data}}}\n\n'.encode()


_DONE = '"status":"completed"'
_EDGE = [
    b": ok\n\n" + _event(1, "run", '"model":"m"'),
    _event(2, "text", '"delta":"Grüß","offset":0') + _event(3, "text", '"delta":" \\"dich\\"\\n","offset":4'),
    _event(4, "done", _DONE),
]


def _edge_error(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> str:
    with pytest.raises(BadStream) as caught:
        wire.edge_arrivals([(1, _chunked(*chunks, end=end))])
    return str(caught.value)


@given(st.lists(st.integers(0, len(_chunked(*_EDGE)))))
def test_text_is_the_same_however_it_was_cut(cuts: list[int]) -> None:
    raw = _chunked(*_EDGE)
    bounds = [0, *sorted(cuts), len(raw)]
    pieces = [(at, raw[start:end]) for at, (start, end) in enumerate(itertools.pairwise(bounds))]
    assert [text for _, text in wire.edge_arrivals(pieces)] == ["Grüß", ' "dich"\n']


@given(st.data())
def test_a_delta_arrives_with_the_last_byte_of_its_frame(data: st.DataObject) -> None:
    raw = _chunked(*_EDGE)
    end = raw.index(b'"offset":0}\n\n') + len(b'"offset":0}\n\n')
    cut = data.draw(st.integers(1, len(raw) - 1))
    first, _ = wire.edge_arrivals([(1, raw[:cut]), (2, raw[cut:])])
    assert first[0] == (1 if cut >= end else 2)


def test_the_providers_stream_is_read() -> None:
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    pieces: list[Piece] = [(1, _chunked(b'data: {"choices":[{"delta":{}}]}\n\n', frame)[:-5]), (2, b"")]
    pieces.append((3, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".replace(b"e\r\n", b"%x\r\n" % 14, 1)))
    assert wire.provider_arrivals(pieces) == [(1, "a")]


@given(st.data())
def test_the_gateways_messages_are_read_however_they_were_cut(data: st.DataObject) -> None:
    first = pb.ChatResponse(deltas=[pb.ChatDelta(started=pb.Started()), pb.ChatDelta(text="a")]).SerializeToString()
    last = pb.ChatResponse(deltas=[pb.ChatDelta(text="b"), pb.ChatDelta(finished=pb.Finished())]).SerializeToString()
    head, tail = (b"\x00" + len(message).to_bytes(4, "big") + message for message in (first, last))
    raw = head + tail
    cut = data.draw(st.integers(1, len(raw) - 1))
    arrived = wire.gateway_arrivals([(1, raw[:cut]), (2, raw[cut:])])
    assert arrived == [(1 if cut >= len(head) else 2, "a"), (2, "b")]
    with pytest.raises(BadStream, match="no finish"):
        wire.gateway_arrivals([(1, head)])


def test_a_gap_in_the_numbers_is_noticed() -> None:
    assert _edge_error(_EDGE[0], _event(3, "done", _DONE)) == "event 3 after 1"


def test_a_delta_that_does_not_follow_is_noticed() -> None:
    assert _edge_error(_EDGE[0], _event(2, "text", '"delta":"b","offset":1')) == "text at 1 after 0 characters"


def test_an_error_event_fails_the_answer() -> None:
    assert _edge_error(_event(1, "error", '"code":"stream_stalled"')) == "error event stream_stalled"


def test_an_answer_without_its_end_fails() -> None:
    assert _edge_error(*_EDGE[:2]) == "ended without done"
    assert _edge_error(*_EDGE, end=b"") == "connection lost"


def test_a_refusal_is_named_by_its_code() -> None:
    raw = b'HTTP/1.1 503 X\r\ncontent-length: 22\r\n\r\n{"code":"unavailable"}'
    with pytest.raises(BadStream, match=r"^HTTP 503 unavailable$"):
        list(wire.frames([(1, raw)]))
