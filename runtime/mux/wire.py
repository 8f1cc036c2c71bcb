"""Frames and metadata of the connection, and the limits both sides keep to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from parley.mux.v1 import mux_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["pb"]

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs lack it
"""What reading gives at the end."""
SERVICE = pb.DESCRIPTOR.services_by_name["MuxService"].full_name
CONNECT = f"/{SERVICE}/Connect"

MAX_CALLS = 4096
"""Calls a connection carries at once."""
MAX_REQUEST_BYTES = 256 * 1024
"""Largest request; what is larger goes by itself, so that the others need not wait for it."""
MAX_METADATA_BYTES = 16 * 1024
"""Most metadata of a request, as gRPC itself allows."""
MAX_MESSAGE_BYTES = 15 * 1024 * 1024
"""Largest message of a response: what a channel takes, less what the frame adds."""
WINDOW_BYTES = 256 * 1024
"""What a call's caller has not taken yet: at most this much and one message."""
BATCH_BYTES = 256 * 1024
"""A batch is closed once it holds as much."""
MAX_BATCH_BYTES = 17 * 1024 * 1024
"""No batch is longer: one message, and what else fits below `BATCH_BYTES`."""
KEY_BYTES = 16
"""Length of the key that a direct connection begins with."""
WAITING_BYTES = 4 * 1024 * 1024
"""Where more waits for a connection to take it, those who stream wait as well."""

Metadata = list[tuple[str, "str | bytes"]]


def size_of(metadata: Iterable[tuple[str, str | bytes]]) -> int:
    """Returns about how many bytes metadata takes."""
    size = 0
    for name, value in metadata:  # `sum` over a generator would be five calls for the three that each call sends
        size += len(name) + len(value)
    return size


def add_headers(carried: Any, metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Puts metadata into a field of a frame."""
    for name, value in metadata:
        header = carried.add()
        header.name = name.lower()
        header.value = value if isinstance(value, bytes) else value.encode()


def metadata_of(carried: Iterable[pb.Header]) -> Metadata:
    """Returns the metadata of a frame: bytes under the names that end with `-bin`, text elsewhere."""
    return [
        (header.name, header.value if header.name.endswith("-bin") else header.value.decode("utf-8", "replace"))
        for header in carried
    ]
