"""Keeps one part of a stack alive: starts it again when it ends, with a growing pause, as Kubernetes would."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import time
from typing import TYPE_CHECKING

from deploy.local.unit import StartError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.local.unit import Unit

LONGEST_PAUSE_S = 30.0
"""Most seconds between a part's end and its next start, however often it has ended."""
_FIRST_PAUSE_S = 1.0
_FORGIVEN_AFTER_S = 60.0
_FIRST_ATTEMPTS = 2


class State(enum.Enum):
    """Where a part stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Member:
    """A part under supervision.

    Attributes:
        unit: The part itself.
        state: Where it stands.
        detail: What there is to say about that.
        took_s: How long it took to become healthy.
    """

    def __init__(
        self,
        unit: Unit,
        on_change: Callable[[Member], None],
        *,
        longest_pause_s: float = LONGEST_PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Takes charge of a part that does not run yet.

        Args:
            unit: The part.
            on_change: Called with this after each change of state.
            longest_pause_s: Most seconds between its end and its next start.
            clock: Seconds, monotonic.
            sleep: Waits for seconds.
        """
        self.unit = unit
        self.state = State.WAITING
        self.detail = ""
        self.took_s = 0.0
        self._on_change = on_change
        self._longest_pause_s = longest_pause_s
        self._clock = clock
        self._sleep = sleep
        self._watch: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def ready(self) -> None:
        """Returns when the part is healthy."""
        await self._ready.wait()

    async def start(self) -> None:
        """Starts the part and watches it from then on.

        Raises: StartError: it ended or stayed unhealthy, twice.
        """
        for attempt in range(1, _FIRST_ATTEMPTS + 1):
            try:
                await self._start_once()
                break
            except StartError:
                if attempt == _FIRST_ATTEMPTS:
                    self._to(State.FAILED)
                    raise
        if self.unit.lives:
            self._watch = asyncio.create_task(self._keep_alive(), name=f"watch {self.unit.name}")

    async def stop(self, *, hurry: bool = False) -> None:
        """Stops the part and leaves it so."""
        if self.state is State.STOPPED:
            return
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
            self._watch = None
        if self.state not in {State.WAITING, State.FAILED}:
            self._to(State.STOPPING)
        await self.unit.stop(hurry=hurry)
        self._to(State.STOPPED)

    async def kill(self) -> None:
        """Ends the part's process as a crash would; it is started again after a pause."""
        process = self.unit.process
        if process is not None:
            self._ready.clear()
            process.send(signal.SIGKILL)
            await process.wait()

    async def _start_once(self) -> None:
        self._to(State.STARTING)
        begun = self._clock()
        await self.unit.start()
        self.took_s = self._clock() - begun
        self._to(State.READY)

    async def _keep_alive(self) -> None:
        first_pause_s = min(_FIRST_PAUSE_S, self._longest_pause_s)
        pause_s = first_pause_s
        fault = ""
        while (process := self.unit.process) is not None:
            since = self._clock()
            status = await process.wait()
            if self._clock() - since > _FORGIVEN_AFTER_S:
                pause_s = first_pause_s
            self._to(State.RESTARTING, f"{fault or f'ended with status {status}'}; starts again in {pause_s:.0f} s")
            fault = ""
            await self._sleep(pause_s)
            pause_s = min(pause_s * 2, self._longest_pause_s)
            try:
                await self._start_once()
            except StartError:
                pass  # it has ended again, as the next turn of the loop finds
            except Exception as error:  # noqa: BLE001 - the watch outlives whatever a start may meet
                fault = f"cannot be started ({type(error).__name__})"
                with contextlib.suppress(Exception):  # what was started halfway must have ended for the next turn
                    await self.unit.stop(hurry=True)

    def _to(self, state: State, detail: str = "") -> None:
        self.state = state
        self.detail = detail
        if state is State.READY:
            self._ready.set()
        else:
            self._ready.clear()
        self._on_change(self)
