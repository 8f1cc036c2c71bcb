"""The tools there are, and which of them a caller may use."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.permissions import PERMISSIONS
from services.chat.asking import ToolOffer
from services.chat.tools import schema
from services.chat.tools.tool import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runtime.context import Identity

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_TOOLS = 128


class Offered(NamedTuple):
    """A tool, how a model is told of it, and what says in what its arguments are wrong."""

    tool: Tool
    offer: ToolOffer
    fault: Callable[[Any], str]


class Registry:
    """The tools of this instance.

    Args:
        tools: In the order in which models are told of them.

    Raises: ValueError: one of them is not what a tool must be, or two have one name.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Offered] = {}
        self._offers: dict[str, tuple[ToolOffer, ...]] = {}
        for tool in tools:
            _check(tool)
            if tool.name in self._tools:
                raise ValueError(f"there are two tools of the name {tool.name}")
            offer = ToolOffer(tool.name, tool.description, json.dumps(tool.parameters, ensure_ascii=False))
            self._tools[tool.name] = Offered(tool, offer, schema.checker(tool.parameters))
        if len(self._tools) > _MOST_TOOLS:
            raise ValueError(f"there are more than {_MOST_TOOLS} tools")

    @classmethod
    def load(cls, entries: Sequence[str]) -> Registry:
        """Imports tools by their places, `package.module:attribute`.

        Raises: ValueError: names the entry that is no tool, and why.
        """
        tools = []
        for entry in entries:
            try:
                tool = _imported(entry)
                _check(tool)
            except ValueError as fault:
                raise ValueError(f"{entry!r}: {fault}") from None
            tools.append(tool)
        return cls(tools)

    def box(self, identity: Identity, *, offered: bool = True) -> Toolbox:
        """Returns what a caller may use.

        Args:
            identity: Who.
            offered: The model can call tools.
        """
        if not offered:
            return Toolbox(self._tools, identity, ())
        role = identity.role if identity.role in PERMISSIONS else ""
        offers = self._offers.get(role)
        if offers is None:
            offers = tuple(item.offer for item in self._tools.values() if _may_use(role, item.tool))
            self._offers[role] = offers
        return Toolbox(self._tools, identity, offers)


class Toolbox:
    """The tools of one run.

    Attributes:
        identity: Whose run it is.
        offers: What the model is told of; empty where it cannot call tools. All callers of a role share them.
    """

    __slots__ = ("_tools", "identity", "offers")

    def __init__(self, tools: dict[str, Offered], identity: Identity, offers: tuple[ToolOffer, ...]) -> None:
        self.identity = identity
        self.offers = offers
        self._tools = tools

    def find(self, name: str) -> Offered | None:
        """Returns a tool, also one that the caller may not use; None: there is none."""
        return self._tools.get(name)

    def may_use(self, tool: Tool) -> bool:
        """Says whether the caller's role carries what the tool needs."""
        return _may_use(self.identity.role, tool)


def _may_use(role: str, tool: Tool) -> bool:
    return not tool.permission or tool.permission in PERMISSIONS.get(role, frozenset())


def _imported(entry: str) -> Tool:
    module, _, attribute = entry.partition(":")
    if not module or not attribute:
        raise ValueError("must be package.module:attribute")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ValueError(f"cannot be imported ({error})") from None
    except AttributeError:
        raise ValueError(f"the module has no {attribute}") from None
    except Exception as error:
        raise ValueError(f"cannot be imported ({type(error).__name__})") from error
    if isinstance(found, type) or not isinstance(found, Tool):
        raise ValueError("is no tool")  # noqa: TRY004 - reported as a fault of the configuration
    return found


def _check(tool: Tool) -> None:
    """Checks what a tool says of itself.

    Raises: ValueError.
    """
    if not _NAME.fullmatch(tool.name):
        raise ValueError("its name must be 1-64 characters of A-Z a-z 0-9 _ -")
    if tool.timeout_s <= 0 or tool.result_max_bytes <= 0:
        raise ValueError("its timeout_s and result_max_bytes must be above 0")
    schema.checker(tool.parameters)
