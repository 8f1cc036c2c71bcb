"""What every name stands for at one moment; a change makes a new one of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from services.gateway.domain import ListedModel, ModelLimits, Route, Target, Timeouts
from services.gateway.providers import aliases as alias_routes
from services.gateway.providers import vendors
from services.gateway.providers.aliases import Alias, AliasTarget
from services.gateway.providers.deployments import Limits
from services.gateway.providers.hashing import HASH_MODEL, HASH_NAME, HASH_PROVIDER
from services.gateway.providers.provider import Provider, makes_vectors

if TYPE_CHECKING:
    from services.gateway.domain import Deployment
    from services.gateway.providers.deployments import Deployments

log = structlog.stdlib.get_logger()

_MAX_SINGLE = 1000


@dataclass(frozen=True, slots=True)
class Defaults:
    """Names that were made the default; empty: none was."""

    provider: str = ""
    embeddings: str = ""
    alias: str = ""


@dataclass(frozen=True)
class World:
    """All that names are made of.

    Attributes:
        providers: The preferred ones first.
        limits: What servers have told of their models.
        extra_models: Further models to list, each as `provider/model`.
        aliases: The environment's, by name.
        stored_aliases: They take the place of the environment's.
        default_model: What a call uses that names nothing, unless `defaults` say otherwise.
        defaults: See there.
        timeouts: How long to wait, by the name of an alias that does not say itself.
    """

    providers: Sequence[Provider] = ()
    limits: Limits = field(default_factory=dict)
    extra_models: Sequence[str] = ()
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    stored_aliases: Mapping[str, Alias] = field(default_factory=dict)
    default_model: str = ""
    defaults: Defaults = field(default_factory=Defaults)
    timeouts: Mapping[str, Timeouts] = field(default_factory=dict)


class Names:
    """Names, and what they stand for.

    Args:
        world: All of it.
        deployments: Makes models callable; may block for what litellm does not know yet.
    """

    def __init__(self, world: World, deployments: Deployments) -> None:
        self.providers = {provider.name: provider for provider in world.providers}
        self._world = world
        self._deployments = deployments
        listed = [(provider, model) for provider in world.providers for model in provider.models]
        listed += self._extra(world.extra_models)
        deployments.ask(listed)
        self._models: dict[tuple[str, str], Deployment] = {
            (provider.name, model): deployments.make(provider, model, world.limits, listed=True)
            for provider, model in listed
        }
        self.environment_aliases = self._with_shipped(world)
        self.aliases = {**self.environment_aliases, **world.stored_aliases}
        self._routes: dict[str, Route] = {}
        # Of models, as they are called: a call may name any.
        self._single: dict[str, Route] = {}
        for name in sorted(self.aliases):
            route = alias_routes.as_route(alias_routes.route(name, self.aliases, self._model))
            if route.ranks:
                self._routes[name] = route
            else:
                log.warning("alias_without_model", alias=name)
        self.default = self._default(world)

    @property
    def alias_names(self) -> Sequence[str]:
        """The aliases that lead somewhere."""
        return sorted(self._routes)

    def route(self, name: str) -> Route | None:
        """Returns what a name stands for, the default for none."""
        name = name or self.default
        if (route := self._routes.get(name)) is not None:
            return route
        if (route := self._single.get(name)) is not None:
            return route
        deployment = self._model(name)
        if deployment is None:
            return None
        if len(self._single) >= _MAX_SINGLE:
            self._single.clear()
        route = self._single[name] = Route(((Target(deployment),),))
        return route

    def knows(self, name: str) -> bool:
        """Tells whether a model or alias has this name; also one that nobody has listed, where its provider is there."""
        return name in self.aliases or (bool(name) and self._provider_of(name) is not None)

    def listed(self) -> Sequence[ListedModel]:
        """See `domain.Registry.listed`."""
        found = []
        for name, route in self._routes.items():
            first = route.ranks[0][0].deployment
            vectors = makes_vectors(first.model)
            found.append(
                ListedModel(name, first.provider, first.model, True, name == self.default, first.limits, vectors)
            )
        chosen = None if self.default in self._routes else self._model(self.default)
        models = [
            ListedModel(f"{name}/{model}", d.provider, d.model, False, d is chosen, d.limits, self._embeds(name, model))
            for (name, model), d in self._models.items()
        ]
        models += [self._embedding(p) for p in self.providers.values() if p.embedding_model not in {"", *p.models}]
        models.append(ListedModel(HASH_MODEL, HASH_PROVIDER, HASH_NAME, False, False, ModelLimits(), embeddings=True))
        return [*found, *sorted(models, key=lambda model: model.name)]

    def embedding_models(self, name: str) -> Sequence[Sequence[tuple[Provider, str]]]:
        """Returns the models that may make vectors for a name, rank by rank; empty where there is none of that name."""
        if not name:
            return self._default_embeddings()
        if name in self.aliases:
            ranks = alias_routes.route(name, self.aliases, self._provider_of)
            return [[one for one, _, _ in rank] for rank in ranks]
        found = self._provider_of(name)
        return [[found]] if found is not None else []

    def _default_embeddings(self) -> Sequence[Sequence[tuple[Provider, str]]]:
        chosen = self.providers.get(self._world.defaults.embeddings)
        for provider in [chosen] if chosen is not None else self.providers.values():
            if provider.embedding_model:
                return [[(provider, provider.embedding_model)]]
        return []

    def _embeds(self, provider: str, model: str) -> bool:
        return makes_vectors(model) or model == self.providers[provider].embedding_model

    def _embedding(self, provider: Provider) -> ListedModel:
        model = provider.embedding_model
        return ListedModel(
            f"{provider.name}/{model}", provider.system, model, False, False, ModelLimits(), embeddings=True
        )

    def _extra(self, names: Sequence[str]) -> list[tuple[Provider, str]]:
        found = []
        for listed in names:
            name, _, model = listed.partition("/")
            if name in self.providers and model:
                found.append((self.providers[name], model))
            else:
                log.warning("model_not_listed", model=listed, cause="no such provider")
        return found

    def _with_shipped(self, world: World) -> Mapping[str, Alias]:
        """Adds `fast` and `power`: the most preferred provider's that has models; a server that told of none has no defaults."""
        aliases: dict[str, Alias] = {}
        preferred = next((provider for provider in world.providers if provider.fast), None)
        if preferred is not None:
            shipped = (("fast", preferred.fast), ("power", preferred.power))
            aliases = {name: Alias(name, (AliasTarget(f"{preferred.name}/{model}"),)) for name, model in shipped}
        return {
            name: replace(alias, timeouts=alias.timeouts.before(world.timeouts.get(name, Timeouts())))
            for name, alias in (aliases | dict(world.aliases)).items()
        }

    def _default(self, world: World) -> str:
        chosen = self.providers.get(world.defaults.provider)
        if world.defaults.alias in self._routes:
            return world.defaults.alias
        if chosen is not None and (model := chosen.default_model or chosen.fast):
            return f"{chosen.name}/{model}"
        return world.default_model

    def _model(self, name: str) -> Deployment | None:
        found = self._provider_of(name)
        if found is None:
            return None
        provider, model = found
        known = self._models.get((provider.name, model))
        return known or self._deployments.make(provider, model, self._world.limits, listed=False)

    def _provider_of(self, name: str) -> tuple[Provider, str] | None:
        # First, since OpenRouter calls its models by their vendors' names: `openai/gpt-4o-mini` is OpenAI's when OpenAI is there.
        prefix, _, model = name.partition("/")
        if model and prefix in self.providers:
            return self.providers[prefix], model
        for provider in self.providers.values():
            if (provider.name, name) in self._models or (name and name == provider.embedding_model):
                return provider, name
        # Programs made for a vendor call its models by their bare names, listed here or not.
        own = (one for one in self.providers.values() if vendors.makes(one.dialect, one.base_url, name))
        return next(((one, name) for one in own), None)
