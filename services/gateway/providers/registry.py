"""Names to deployments, for the providers of this process's environment."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, TypeAlias

import structlog

from runtime.errors import Unavailable
from services.gateway.domain import ListedModel, ModelLimits, ModelNotFound, NoProviderConfigured, Timeouts
from services.gateway.providers import discovery, environment
from services.gateway.providers.provider import Wire
from services.gateway.providers.tail import TailDeployment
from services.gateway.providers.upstream import UpstreamDeployment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from services.gateway.config import GatewayConfig
    from services.gateway.providers.bridge import Bridge
    from services.gateway.providers.provider import Provider

log = structlog.stdlib.get_logger()

_MAX_ASKED = 1000
"""Models that are not listed and whose limits are kept; a call may name any."""

_Deployment: TypeAlias = UpstreamDeployment | TailDeployment


class EnvironmentRegistry:
    """The providers found in the environment when the process starts; see `domain.Registry`.

    Args:
        config: Aliases, default and further models.
        environ: Where the providers' own variables are.
        bridge: Loaded by `load`.
        session: Connections to providers.

    Raises: ConfigError: the environment describes providers that cannot be.
    """

    def __init__(
        self, config: GatewayConfig, environ: Mapping[str, str], bridge: Bridge, session: aiohttp.ClientSession
    ) -> None:
        self._config = config
        self._bridge = bridge
        self._session = session
        self._found = environment.find(environ, compatible=config.compatible, ollama_probe=config.ollama_probe)
        self._demo = environment.demo(config.demo_base_url) if config.demo_base_url else None
        self._loaded = False
        self._providers: dict[str, Provider] = {}
        self._limits: dict[tuple[str, str], ModelLimits] = {}
        self._asked: dict[tuple[str, str], ModelLimits] = {}
        # By the name of the provider and the provider's name of the model.
        self._models: dict[tuple[str, str], _Deployment] = {}
        self._aliases: dict[str, _Deployment] = {}

    async def load(self) -> None:
        """Loads litellm, asks servers for their models, and sets up names; takes seconds."""
        streams = any(provider.wire is Wire.LITELLM for provider in self._found)
        _, providers = await asyncio.gather(asyncio.to_thread(self._bridge.load, streams=streams), self._discover())
        self._providers = {provider.name: provider for provider in providers}
        names = [(provider, model) for provider in providers for model in provider.models]
        for listed in self._config.models:
            name, _, model = listed.partition("/")
            if name in self._providers and model:
                names.append((self._providers[name], model))
            else:
                log.warning("model_not_listed", model=listed, cause="no such provider")
        # In a thread: the first look-up of a provider's limits builds tables for a fifth of a second.
        self._limits |= await asyncio.to_thread(self._ask_limits, names)
        self._models = {(p.name, model): self._deployment(p, model, listed=True) for p, model in names}
        self._aliases = self._resolve_aliases(providers)
        self._warn_of_names_without_meaning()
        self._loaded = True
        log.info("providers_found", providers=list(self._providers), aliases=sorted(self._aliases))

    def resolve(self, name: str) -> _Deployment:
        """See `domain.Registry.resolve`."""
        if not self._loaded:
            raise Unavailable("The gateway is starting; try again.", retry_after_s=1)
        if not self._providers:
            raise NoProviderConfigured(
                "No model provider is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY or another provider's variables "
                "and restart the server."
            )
        deployment = self._find(name or self._config.default_model)
        if deployment is None:
            shown = name or self._config.default_model
            raise ModelNotFound("There is no model or alias of this name.", model=shown)
        return deployment

    def listed(self) -> Sequence[ListedModel]:
        """See `domain.Registry.listed`."""
        default = self._config.default_model
        chosen = None if default in self._aliases else self._find(default)
        aliases = [
            ListedModel(name, target.provider, target.model, True, name == default, target.limits)
            for name, target in sorted(self._aliases.items())
        ]
        models = [
            ListedModel(f"{name}/{model}", d.provider, d.model, False, d is chosen, d.limits)
            for (name, model), d in self._models.items()
        ]
        return [*aliases, *sorted(models, key=lambda model: model.name)]

    async def _discover(self) -> list[Provider]:
        timeout_s = self._config.discovery_timeout_s
        found, self._limits = await discovery.discover(self._session, self._found, timeout_s=timeout_s)
        if not found and self._demo is not None:
            found, self._limits = await discovery.discover(self._session, [self._demo], timeout_s=timeout_s)
        return found

    def _ask_limits(self, names: Sequence[tuple[Provider, str]]) -> dict[tuple[str, str], ModelLimits]:
        return {
            (provider.name, model): self._bridge.limits(provider, model)
            for provider, model in names
            if (provider.name, model) not in self._limits
        }

    def _ask_limit(self, provider: Provider, model: str) -> ModelLimits:
        """Asks for a model that is not listed, and keeps the answer: litellm takes its time over a model it does not know."""
        if len(self._asked) >= _MAX_ASKED:
            self._asked.clear()
        limits = self._asked[provider.name, model] = self._bridge.limits(provider, model)
        return limits

    def _resolve_aliases(self, providers: Sequence[Provider]) -> dict[str, _Deployment]:
        aliases: dict[str, _Deployment] = {}
        # The most preferred provider that has models; a compatible server that told of none has no defaults.
        for provider in providers:
            if provider.fast:
                aliases["fast"] = self._model(provider, provider.fast)
                aliases["power"] = self._model(provider, provider.power)
                break
        for alias, target in self._config.aliases.items():
            deployment = self._find(target)
            if deployment is None:
                log.warning("alias_without_model", alias=alias, target=target)
                aliases.pop(alias, None)
            else:
                aliases[alias] = deployment
        return {alias: self._as_alias(alias, deployment) for alias, deployment in aliases.items()}

    def _as_alias(self, alias: str, target: _Deployment) -> _Deployment:
        own = self._config.timeouts.get(alias, Timeouts())
        return dataclasses.replace(target, timeouts=own.before(target.timeouts))

    def _warn_of_names_without_meaning(self) -> None:
        for name in self._config.timeouts:
            if name not in self._aliases and name not in self._providers:
                log.warning("timeouts_not_used", name=name, cause="no such alias or provider")
        for name in self._config.tools:
            if name.partition("/")[0] not in self._providers:
                log.warning("tools_not_used", name=name, cause="no such provider")

    def _find(self, name: str) -> _Deployment | None:
        if name in self._aliases:
            return self._aliases[name]
        # First, since OpenRouter calls its models by their vendors' names: `openai/gpt-4o-mini` is OpenAI's when OpenAI is there.
        prefix, _, model = name.partition("/")
        if model and prefix in self._providers:
            return self._model(self._providers[prefix], model)
        for provider in self._providers.values():
            if (provider.name, name) in self._models:
                return self._models[provider.name, name]
        return None

    def _model(self, provider: Provider, model: str) -> _Deployment:
        return self._models.get((provider.name, model)) or self._deployment(provider, model, listed=False)

    def _deployment(self, provider: Provider, model: str, *, listed: bool) -> _Deployment:
        name = (provider.name, model)
        limits = self._limits.get(name) or self._asked.get(name) or self._ask_limit(provider, model)
        told = self._config.tools
        tools = told.get(f"{provider.name}/{model}", told.get(provider.name, limits.tools))
        limits = dataclasses.replace(limits, tools=tools)
        timeouts = self._config.timeouts.get(provider.name, Timeouts())
        if provider.wire is Wire.LITELLM:
            return TailDeployment(provider, model, listed, limits, timeouts, self._bridge)
        return UpstreamDeployment(provider, model, listed, limits, timeouts, self._bridge, self._session)
