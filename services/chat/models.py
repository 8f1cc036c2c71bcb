"""The gateway's models, remembered so that only an instance's first turn waits for their list."""

from __future__ import annotations

import asyncio
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
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, name: str, *, token: str) -> Model | None:
        """Returns a model; None where it is not known, be it that the gateway does not say which there are.

        Waits for the first list, a second at most, and for a name that is not in the list, since the model may be newer than the list.

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
        if found is None and name and not self._may_exist(name):
            if age > _MIN_AGE_S:
                await asyncio.shield(self._read(token))
                found = self._look_up(name)
            if found is None and not self._may_exist(name):
                raise UnknownModel(name)
        return found

    def _look_up(self, name: str) -> Model | None:
        for model in self._models:
            if name in (model.name, model.provider_model) if name else model.default:
                return model
        return None

    def _may_exist(self, name: str) -> bool:
        """Says whether the gateway may take a name that it does not list: any model of a provider it lists models of.

        Names tell: what `Model.provider` says is the provider's name in traces, which often differs (`azure/…` is `azure.ai.openai`).
        """
        prefix, _, model = name.partition("/")
        return bool(model) and any(known.name.startswith(f"{prefix}/") for known in self._models)

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
