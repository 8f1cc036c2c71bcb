"""Log lines: JSON, or pretty on a terminal, each with its service, request and trace."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import context

from runtime import spans
from runtime.context import request_id

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

_LEVELS = {"exception": "error", "warn": "warning"}
_NOISY = (
    "grpc",
    "uvicorn",
    "uvicorn.access",
    "asyncio",
    "LiteLLM",
    "httpx",
    "httpcore",
    "aiohttp",
    "opentelemetry",
)
"""Libraries that speak when something is wrong; their chatter is not ours, and some of it holds URLs and bodies."""


class Lines:
    """Writes lines to a file. One that cannot be written is lost: the work it tells of goes on.

    Args:
        file: Where to.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        """Writes one."""
        try:  # a tenth of the price of `suppress`
            self._file.write(f"{line}\n")
            self._file.flush()
        except (OSError, ValueError):
            return

    log = debug = info = warning = error = critical = fatal = msg


def configure(service: str, level: str, *, pretty: bool) -> None:
    """Sends what this process logs, and what libraries log, to the standard output.

    Args:
        service: Name in every line.
        level: Least level that is written.
        pretty: For people instead of programs.
    """

    def complete(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["level"] = _LEVELS.get(method, method)
        event["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
        event["service"] = service
        if (rid := request_id.get()) and "request_id" not in event:
            event["request_id"] = rid
        if (ids := spans.current(context.get_current())) is not None:
            event["trace_id"], event["span_id"] = f"{ids[0]:032x}", f"{ids[1]:016x}"
        return event

    if pretty:
        # Plain tracebacks: the default ones show every frame's variables, and with them passwords and prompts.
        render: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        render = [structlog.processors.format_exc_info, _json]
    # Our own lines do not pass the standard library's loggers: that would make two records of each.
    structlog.configure(
        processors=[complete, *render],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: Lines(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[complete],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


_encode = json.JSONEncoder(default=repr).encode


def _json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return _encode(event)
