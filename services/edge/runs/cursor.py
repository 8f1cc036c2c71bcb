"""Where a client stands in a log: the header `Last-Event-ID`, the query's `after`, and what is wrong with them."""

from __future__ import annotations

import re

from runtime.validation import invalid

_GREATEST_SEQ = 2**63 - 1
_DIGITS = len(str(_GREATEST_SEQ))
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def in_run(run_id: str, last_event_id: str, after: str | None) -> int:
    """Returns the position in a run's log after which a client wants events; 0: all.

    Args:
        run_id: The run in the path.
        last_event_id: The header, `<run_id>:<seq>`, which wins; empty: there was none.
        after: The query's `<seq>` or `<run_id>:<seq>`; None: there was none.

    Raises: InvalidArgument: it is no position of this run.
    """
    if last_event_id:
        field, (run, seq) = "last_event_id", _split("last_event_id", last_event_id)
    elif after is None:
        return 0
    elif ":" in after:
        field, (run, seq) = "after", _split("after", after)
    else:
        return _seq("after", after)
    if run != run_id:
        raise invalid(field, f"is of another run; give an id of this run's events, such as {run_id}:1.")
    return seq


def in_conversation(last_event_id: str, after: str | None) -> tuple[str, int]:
    """Returns the run and the position in its log after which a client wants a conversation's events; ("", 0): it has seen none.

    Args:
        last_event_id: The header, `<run_id>:<seq>`, which wins; empty: there was none.
        after: The query's, of the same form; None: there was none.

    Raises: InvalidArgument: it is none.
    """
    if last_event_id:
        return _split("last_event_id", last_event_id)
    if after is not None:
        return _split("after", after)
    return "", 0


def _split(field: str, cursor: str) -> tuple[str, int]:
    run, colon, seq = cursor.rpartition(":")
    if not colon or not _UUID.fullmatch(run):
        raise invalid(field, "must be the id of an event, `<run_id>:<seq>`.")
    return run, _seq(field, seq)


def _seq(field: str, seq: str) -> int:
    if not (seq.isascii() and seq.isdigit()):
        raise invalid(field, "must end in the event's number, digits only.")
    if len(seq) > _DIGITS or int(seq) > _GREATEST_SEQ:
        raise invalid(field, "is past the end of any log.")
    return int(seq)
