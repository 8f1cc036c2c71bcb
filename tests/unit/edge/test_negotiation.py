"""What a caller of a run wants back is read as the RFCs have it."""

import pytest

from services.edge.runs.negotiation import accepts, prefers_async


@pytest.mark.parametrize(
    "header",
    [
        "",
        "*/*",
        "text/*",
        "text/event-stream",
        "TEXT/Event-Stream; q=0.5",
        "application/json, text/event-stream",
        "application/json;q=1, */*;q=0.1",
        "text/*;q=0, text/event-stream",
    ],
)
def test_accept_takes_an_event_stream(header: str) -> None:
    assert accepts(header)


@pytest.mark.parametrize(
    "header",
    ["application/json", "text/html, image/*", "text/event-stream;q=0", "*/*, text/event-stream; q=0.0", "text/plain"],
)
def test_accept_excludes_an_event_stream(header: str) -> None:
    assert not accepts(header)


@pytest.mark.parametrize(
    "header", ["respond-async", "Respond-Async", "wait=10, respond-async", "respond-async; x=1, handling=lenient"]
)
def test_a_wish_for_an_answer_at_once_is_heard(header: str) -> None:
    assert prefers_async(header)


@pytest.mark.parametrize("header", ["", "wait=10", "respond-asynchronously", "x=respond-async", "respond async"])
def test_other_wishes_are_not_taken_for_it(header: str) -> None:
    assert not prefers_async(header)
