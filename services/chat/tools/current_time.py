"""The tool that tells what time it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.chat.tools.tool import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.chat.tools.tool import ToolContext


class CurrentTime:
    """Tells the date and the time, in UTC or in a time zone.

    Args:
        clock: Tells the time now in a zone.
    """

    name = "current_time"
    description = "Tells the current date and time. Call it whenever the answer depends on what day or time it is now."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "timezone": {
                "type": "string",
                "description": "IANA name of a time zone, such as Europe/Berlin; without it the time is in UTC.",
                "maxLength": 64,
            }
        },
        "additionalProperties": False,
    }
    permission = ""
    read_only = True
    idempotent = True
    timeout_s = 5.0
    result_max_bytes = 1_024

    def __init__(self, clock: Callable[[ZoneInfo], datetime] = datetime.now) -> None:
        self._clock = clock

    async def call(self, arguments: Mapping[str, Any], _: ToolContext) -> str:
        """Returns such as `2026-11-21T13:45:00+01:00 (Saturday, Europe/Berlin)`.

        Raises: ToolError: there is no such time zone.
        """
        name = arguments.get("timezone") or "UTC"
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # OSError: a folder of the zones' data, such as `Europe`; ValueError: a path that leaves it.
            raise ToolError(f"There is no time zone {name}. Use an IANA name, such as Europe/Berlin.") from None
        now = self._clock(zone)
        return f"{now.isoformat(timespec='seconds')} ({now:%A}, {name})"


def _now(zone: ZoneInfo) -> datetime:
    return datetime.now(UTC).astimezone(zone)


CURRENT_TIME = CurrentTime(_now)
