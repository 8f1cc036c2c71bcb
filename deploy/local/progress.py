"""Shows how a stack comes up and what happens to it: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.local.member import State

if TYPE_CHECKING:
    from deploy.local.member import Member

_STYLES = {
    State.WAITING: "dim",
    State.STARTING: "yellow",
    State.READY: "green",
    State.RESTARTING: "red",
    State.STOPPING: "yellow",
    State.STOPPED: "dim",
    State.FAILED: "bold red",
}
_TOLD = {State.READY, State.RESTARTING, State.STOPPED, State.FAILED}


class Progress:
    """What the person at the terminal sees."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._members: dict[str, Member] = {}
        self._live: Live | None = None
        self._begun = time.monotonic()

    def begin(self, members: dict[str, Member]) -> None:
        """Begins to show these parts, as a table where there is a terminal to draw it on."""
        self._members = members
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=12, transient=False)
            self._live.start()

    def end(self) -> None:
        """Leaves the table as it is; what happens from now on is told in lines."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
            self._live = None

    def changed(self, member: Member) -> None:
        """Shows a part's new state."""
        if self._live is not None:
            self._live.update(self._table())
        elif member.state in _TOLD and (member.unit.lives or member.state is not State.STOPPED):
            took = f" in {member.took_s:.1f} s" if member.state is State.READY else ""
            self._console.print(f"{time.monotonic() - self._begun:6.1f} s  {member.unit.name:<14} ", end="")
            self._console.print(Text(f"{member.state.value}{took} {member.detail}".rstrip(), _STYLES[member.state]))

    def say(self, text: str = "", style: str = "") -> None:
        """Prints a line as it is."""
        self._console.print(Text(text, style))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("part", "state", "after", "address"):
            table.add_column(column, header_style="dim")
        for name, member in self._members.items():
            took = f"{member.took_s:.1f} s" if member.state is State.READY else member.detail
            address = member.unit.address if member.state is State.READY else ""
            table.add_row(name, Text(member.state.value, _STYLES[member.state]), took, Text(address, "dim"))
        return table
