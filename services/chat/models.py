"""The gateway's models, remembered so that only an instance's first turn waits for their list."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import structlog

from runtime.errors import ParleyError
from services.chat.domain import UnknownModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.chat.asking import Gateway, Model

log = structlog.stdlib.get_logger()

_MAX_AGE_S = 60.0
_MIN_AGE_S = 1.0
_FIRST_LIST_S = 1.0
_MAX_ASKED = 1000
"""Names that are not listed and what stands behind them; a message may name any."""


class Models:
    """A list that is read again in the background, with the token of whoever comes by: this service has none of its own.

    Args:
        gateway: Who knows.
        clock: Seconds that only grow.
    """

    def __init__(self, gateway: Gateway, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._models: Sequence[Model] = ()
        self._asked: dict[str, Model] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, name: str, *, token: str) -> Model | None:
        """Returns a model; None where it is not known, be it that the gateway does not say.

        Waits for the first list, a second at most. The gateway alone knows what a name stands for that is not in the list: it is asked, and
        its answer is kept for as long as the list.

        Raises: UnknownModel.
        """
        age = self._clock() - self._read_at
        if age > _MAX_AGE_S:
            reading = self._read(token)
            if not self._models:
                # Without it nobody knows whether the model takes tools, or exists.
                await asyncio.wait([reading], timeout=_FIRST_LIST_S)
        if not self._models:
            return None
        found = self._look_up(name)
        return await self._ask(name, token) if found is None and name else found

    def _look_up(self, name: str) -> Model | None:
        for model in self._models:
            if model.name == name if name else model.default:
                return model
        return self._asked.get(name)

    async def _ask(self, name: str, token: str) -> Model | None:
        try:
            found = await self._gateway.get_model(name, token=token)
        except ParleyError as error:
            if error.code == UnknownModel.reason:
                raise UnknownModel(name) from None
            log.warning("model_not_known", reason=error.code)
            return None
        if len(self._asked) >= _MAX_ASKED:
            self._asked.clear()
        found = self._look_up(found.name) or dataclasses.replace(found, listed=False)
        self._asked[name] = found
        return found

    def _read(self, token: str) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._fetch(token))
        return self._reading

    async def _fetch(self, token: str) -> None:
        try:
            self._models = await self._gateway.list_models(token=token)
        except ParleyError as error:
            log.warning("models_not_read", reason=error.code)
            # Not again at once: each turn would try.
            self._read_at = self._clock() - _MAX_AGE_S + _MIN_AGE_S
        else:
            self._read_at = self._clock()
            self._asked.clear()
