"""Makes models callable, and keeps what is known of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

from services.gateway.domain import ModelLimits, Timeouts
from services.gateway.providers.provider import Wire
from services.gateway.providers.tail import TailDeployment
from services.gateway.providers.upstream import UpstreamDeployment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from services.gateway.config import GatewayConfig
    from services.gateway.http.pool import Pool
    from services.gateway.providers.bridge import Bridge
    from services.gateway.providers.provider import Provider

_MAX_ASKED = 1000
"""Models that are not listed and whose limits are kept; a call may name any."""

Limits: TypeAlias = dict[tuple[str, str], ModelLimits]
"""By the name of the provider and the provider's name of the model."""


class Deployments:
    """Builds deployments.

    Args:
        config: What is known better than by litellm.
        bridge: Knows what models can take.
        session: Connections to providers behind a proxy.
        pool: Connections to all others.
    """

    def __init__(self, config: GatewayConfig, bridge: Bridge, session: aiohttp.ClientSession, pool: Pool) -> None:
        self._config = config
        self._bridge = bridge
        self._session = session
        self._pool = pool
        self._asked: Limits = {}

    def ask(self, names: Sequence[tuple[Provider, str]]) -> None:
        """Looks up the limits of models; blocks, the first time of a provider for a fifth of a second."""
        for provider, model in names:
            if _key(provider, model) not in self._asked:
                self._ask(provider, model)

    def make(
        self, provider: Provider, model: str, told: Mapping[tuple[str, str], ModelLimits], *, listed: bool
    ) -> UpstreamDeployment | TailDeployment:
        """Returns a model's deployment.

        Args:
            provider: Where it is.
            model: Its name there.
            told: What servers have told of their models; that goes before what litellm knows.
            listed: It is one of the configured models.
        """
        limits = (
            told.get((provider.name, model)) or self._asked.get(_key(provider, model)) or self._ask(provider, model)
        )
        tools = self._config.tools
        can = tools.get(f"{provider.name}/{model}", tools.get(provider.name, limits.tools))
        limits = dataclasses.replace(limits, tools=can)
        timeouts = provider.timeouts.before(self._config.timeouts.get(provider.name, Timeouts()))
        if provider.wire is Wire.LITELLM:
            return TailDeployment(provider, model, listed, limits, timeouts, self._bridge)
        return UpstreamDeployment(provider, model, listed, limits, timeouts, self._bridge, self._session, self._pool)

    def _ask(self, provider: Provider, model: str) -> ModelLimits:
        """Asks litellm and keeps the answer: it takes its time over a model it does not know."""
        if len(self._asked) >= _MAX_ASKED:
            self._asked.clear()
        limits = self._asked[_key(provider, model)] = self._bridge.limits(provider, model)
        return limits


def _key(provider: Provider, model: str) -> tuple[str, str]:
    # All that the answer depends on, since a provider's record may change under its name.
    return f"{provider.dialect} {provider.wire.value} {provider.priced} {provider.tools}", model
