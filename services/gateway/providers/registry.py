"""What names stand for, now: the providers of the environment and those in our own tables, behind one door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import structlog

from runtime.errors import Unavailable
from services.gateway.embeddings.local import HashEmbedder
from services.gateway.embeddings.upstream import ProviderEmbedder
from services.gateway.failures import ModelNotFound, NoProviderConfigured
from services.gateway.providers import discovery, environment, hashing
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.deployments import Deployments
from services.gateway.providers.names import Defaults, Names, World
from services.gateway.providers.provider import Provider, Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from services.gateway.config import GatewayConfig
    from services.gateway.domain import Deployment, ListedModel, Route
    from services.gateway.embeddings.domain import Embedder
    from services.gateway.http.pool import Pool
    from services.gateway.providers.bridge import Bridge
    from services.gateway.providers.deployments import Limits

log = structlog.stdlib.get_logger()


@dataclass(frozen=True)
class Stored:
    """What our own tables say.

    Attributes:
        providers: Those that are switched on, with their keys.
        aliases: They take the place of the environment's of the same name.
        defaults: See there.
    """

    providers: Sequence[Provider] = ()
    aliases: Sequence[Alias] = ()
    defaults: Defaults = field(default_factory=Defaults)


_Asked: TypeAlias = tuple[str, str, str]


def _asked(provider: Provider) -> _Asked:
    """What the answer of a server depends on."""
    return provider.name, provider.base_url, provider.api_key.reveal()


class LiveRegistry:
    """Knows what names stand for; see `domain.Registry`. A look-up reads memory and nothing else.

    Args:
        config: Aliases, default and further models.
        environ: Where the providers' own variables are.
        bridge: Loaded by `load`.
        session: Connections to providers, for all but streams of answers.
        pool: Connections to providers for those.

    Attributes:
        on_loaded: Is waited for at the end of `load`.

    Raises: ConfigError: the environment describes providers that cannot be.
    """

    def __init__(
        self,
        config: GatewayConfig,
        environ: Mapping[str, str],
        bridge: Bridge,
        session: aiohttp.ClientSession,
        pool: Pool,
    ) -> None:
        self._config = config
        self._bridge = bridge
        self._session = session
        self._described = environment.find(environ, compatible=config.compatible, ollama_probe=config.ollama_probe)
        self._demo = environment.demo(config.demo_base_url) if config.demo_base_url else None
        self._deployments = Deployments(config, bridge, session, pool)
        self._found: Sequence[Provider] = ()
        self._limits: Limits = {}
        self._stored = Stored()
        # What servers of stored providers said they have, by the provider as it was asked.
        self._told: dict[_Asked, tuple[Provider | None, Limits]] = {}
        self._names: Names | None = None
        self._hash = HashEmbedder()
        self._changing = asyncio.Lock()
        self._asking: asyncio.Task[None] | None = None
        self.on_loaded: Callable[[], Awaitable[None]] | None = None

    @property
    def environment(self) -> Sequence[Provider]:
        """The providers of the environment, the preferred ones first, and the demo provider while there is no other."""
        names = self._names
        shown = (
            [self._demo] if self._demo is not None and names is not None and self._demo.name in names.providers else []
        )
        return self._found or shown

    @property
    def environment_aliases(self) -> Mapping[str, Alias]:
        """The aliases of the environment, shipped ones included, also those that stored ones take the place of."""
        return self._names.environment_aliases if self._names else {}

    @property
    def names(self) -> Names:
        """What names stand for.

        Raises: Unavailable: the gateway is still starting.
        """
        if self._names is None:
            raise Unavailable("The gateway is starting; try again.", retry_after_s=1)
        return self._names

    async def load(self) -> None:
        """Loads litellm, asks servers for their models, and sets up names; takes seconds."""
        streams = any(provider.wire is Wire.LITELLM for provider in self._described)
        await asyncio.gather(asyncio.to_thread(self._bridge.load, streams=streams), self._discover())
        await self.change(self._stored)
        if self.on_loaded is not None:
            await self.on_loaded()
        self._warn_of_names_without_meaning()
        log.info("providers_found", providers=list(self.names.providers), aliases=self.names.alias_names)

    async def change(self, stored: Stored) -> None:
        """Makes names stand for what they stand for now. Servers that are yet to tell their models are asked afterwards."""
        async with self._changing:
            self._stored = stored
            await self._rebuild()
        if self._unknown() and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask())

    async def close(self) -> None:
        """Stops asking servers."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def resolve(self, name: str) -> Route:
        """See `domain.Registry.resolve`."""
        names = self.names
        if not names.providers:
            raise NoProviderConfigured(
                "No model provider is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY or another provider's variables "
                "and restart the server, or add a provider."
            )
        route = names.route(name)
        if route is None:
            raise ModelNotFound("There is no model or alias of this name.", model=name or names.default)
        return route

    def listed(self) -> Sequence[ListedModel]:
        """See `domain.Registry.listed`."""
        return self._names.listed() if self._names else []

    def deployment(self, provider: Provider, model: str) -> Deployment:
        """Returns a model of a provider that may not be in use."""
        return self._deployments.make(provider, model, self._limits, listed=False)

    def embedders(self, name: str) -> Sequence[Sequence[Embedder]]:
        """See `embeddings.domain.EmbeddingModels.embedders`."""
        ranks = self.names.embedding_models(name) if name != hashing.HASH_MODEL else ()
        if not ranks and name in {"", hashing.HASH_MODEL, hashing.HASH_NAME}:
            return ((self._hash,),)
        return [[ProviderEmbedder(*one, self._bridge, self._session) for one in rank] for rank in ranks]

    async def _discover(self) -> None:
        timeout_s = self._config.discovery_timeout_s
        self._found, self._limits = await discovery.discover(self._session, self._described, timeout_s=timeout_s)
        if not self._found and self._demo is not None:
            found, self._limits = await discovery.discover(self._session, [self._demo], timeout_s=timeout_s)
            self._demo = found[0] if found else self._demo

    async def _rebuild(self) -> None:
        providers, limits = self._providers()
        aliases = {name: Alias(name, (AliasTarget(target),)) for name, target in self._config.aliases.items()}
        world = World(
            providers,
            limits,
            self._config.models,
            aliases,
            {alias.name: alias for alias in self._stored.aliases},
            self._config.default_model,
            self._stored.defaults,
            self._config.timeouts,
        )
        # In a thread: the first look-up of a provider's limits builds tables for a fifth of a second.
        self._names = await asyncio.to_thread(Names, world, self._deployments)

    def _providers(self) -> tuple[Sequence[Provider], Limits]:
        limits = dict(self._limits)
        stored: dict[str, Provider] = {}
        for provider in self._stored.providers:
            told, known = self._told.get(_asked(provider), (provider, {}))
            stored[provider.name] = told or provider
            limits |= known
        found = [provider for provider in self._found if provider.name not in stored]
        providers = [*found, *stored.values()]
        if not providers and self._demo is not None:
            providers = [self._demo]
        return providers, limits

    def _unknown(self) -> Sequence[Provider]:
        return [one for one in self._stored.providers if one.discovers and _asked(one) not in self._told]

    async def _ask(self) -> None:
        while unknown := self._unknown():
            await asyncio.gather(*(self._ask_one(provider) for provider in unknown))
            async with self._changing:
                current = {_asked(provider) for provider in self._stored.providers}
                self._told = {asked: told for asked, told in self._told.items() if asked in current}
                await self._rebuild()

    async def _ask_one(self, provider: Provider) -> None:
        found, limits = await discovery.discover(self._session, [provider], timeout_s=self._config.discovery_timeout_s)
        self._told[_asked(provider)] = (found[0] if found else None, limits)

    def _warn_of_names_without_meaning(self) -> None:
        names = self.names
        for name in self._config.timeouts:
            if name not in names.alias_names and name not in names.providers:
                log.warning("timeouts_not_used", name=name, cause="no such alias or provider")
        for name in self._config.tools:
            if name.partition("/")[0] not in names.providers:
                log.warning("tools_not_used", name=name, cause="no such provider")
