"""What an operator may do with aliases."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime import errors
from runtime.validation import invalid, number
from services.gateway.admin.records import check_timeouts
from services.gateway.failures import ModelNotFound
from services.gateway.providers.aliases import Alias, loops, widest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.gateway.admin.keeper import Keeper
    from services.gateway.admin.store import Change, Kept, PostgresRegistry
    from services.gateway.providers.names import Defaults
    from services.gateway.providers.registry import LiveRegistry

MAX_TARGETS = 32
MAX_WAYS = 256
MAX_WEIGHT = 1000
MAX_RANK = 1000

_NAME = re.compile(r"[a-z0-9._-]{1,64}")


class AliasExists(errors.AlreadyExists):
    """The name is taken."""

    reason = "ALIAS_EXISTS"


class AliasNotFound(errors.NotFound):
    """There is none of this name."""

    reason = "ALIAS_NOT_FOUND"


class AliasInUse(errors.FailedPrecondition):
    """Another alias names it."""

    reason = "ALIAS_IN_USE"


class AliasOfEnvironment(errors.FailedPrecondition):
    """The environment says what it is; it can be overridden and not removed."""

    reason = "ALIAS_OF_ENVIRONMENT"


class AliasLoop(errors.InvalidArgument):
    """Its targets lead back to it."""

    reason = "ALIAS_LOOP"


class Aliases:
    """The aliases of the environment and those that are kept, which take their place.

    Args:
        store: Where they are kept.
        keeper: Brings changes to life.
        registry: What calls go by.
    """

    def __init__(self, store: PostgresRegistry, keeper: Keeper, registry: LiveRegistry) -> None:
        self._store = store
        self._keeper = keeper
        self._registry = registry

    async def create(self, alias: Alias, *, default: bool) -> None:
        """Adds an alias. Raises: InvalidArgument, AliasLoop, AliasExists, ModelNotFound."""
        _check(alias)
        async with self._store.changing() as change:
            if alias.name in self._all(change.kept):
                raise AliasExists("There is an alias of this name.", name=alias.name)
            await self._put(change, alias, default=default)
        await self._keeper.refresh()

    async def update(self, alias: Alias, *, default: bool) -> None:
        """Replaces an alias; one of the environment is overridden. Raises: as `create`; AliasNotFound."""
        _check(alias)
        async with self._store.changing() as change:
            _named(self._all(change.kept), alias.name)
            await self._put(change, alias, default=default)
        await self._keeper.refresh()

    async def get(self, name: str) -> tuple[Alias, Defaults]:
        """Returns an alias, and what was made the default. Raises: AliasNotFound."""
        kept = await self._store.read()
        return _named(self._all(kept), name), kept.defaults

    async def list(self, *, after: str, limit: int) -> tuple[Sequence[Alias], bool, Defaults]:
        """Returns the aliases whose names come after a name, in order, whether there are more, and what was made the default."""
        kept = await self._store.read()
        found = self._all(kept)
        names = sorted(name for name in found if name > after)
        return [found[name] for name in names[:limit]], len(names) > limit, kept.defaults

    def is_default(self, name: str, defaults: Defaults) -> bool:
        """Tells whether calls that name nothing are this alias's."""
        if defaults.alias:
            return name == defaults.alias
        return name == self._registry.names.default

    async def delete(self, name: str) -> None:
        """Removes an alias; the environment's of the same name counts again. Raises: AliasNotFound, AliasOfEnvironment, AliasInUse."""
        async with self._store.changing() as change:
            alias = _named(self._all(change.kept), name)
            if not alias.stored:
                raise AliasOfEnvironment("This alias is the environment's; change it there, or override it.", name=name)
            if name not in self._registry.environment_aliases:
                users = [a.name for a in change.kept.aliases.values() if any(t.model == name for t in a.targets)]
                if users:
                    raise AliasInUse("Another alias names this one; change that first.", alias=min(users))
                if change.defaults.alias == name:
                    change.defaults = replace(change.defaults, alias="")
            await change.delete_alias(name)
        await self._keeper.refresh()

    async def _put(self, change: Change, alias: Alias, *, default: bool) -> None:
        aliases = {**self._all(change.kept), alias.name: alias}
        if alias.name in loops(aliases):
            raise AliasLoop("The targets of this alias lead back to it.", field="targets", alias=alias.name)
        if widest(aliases) > MAX_WAYS:
            raise invalid(
                "targets", f"must not lead to models in more than {MAX_WAYS} ways, aliases behind aliases included."
            )
        for place, target in enumerate(alias.targets):
            if target.model not in aliases and not self._is_model(target.model, change.kept):
                raise ModelNotFound(
                    "There is no model or alias of this name.", field=f"targets[{place}].model", model=target.model
                )
        await change.put_alias(alias)
        if default:
            change.defaults = replace(change.defaults, alias=alias.name)
        elif change.defaults.alias == alias.name:
            change.defaults = replace(change.defaults, alias="")

    def _is_model(self, name: str, kept: Kept) -> bool:
        provider, _, model = name.partition("/")
        if model and provider in kept.providers:
            return True
        return self._registry.names.knows(name)

    def _all(self, kept: Kept) -> dict[str, Alias]:
        return {**self._registry.environment_aliases, **kept.aliases}


def _named(found: Mapping[str, Alias], name: str) -> Alias:
    if name not in found:
        raise AliasNotFound("There is no alias of this name.", name=name)
    return found[name]


def _check(alias: Alias) -> None:
    if not _NAME.fullmatch(alias.name):
        raise invalid("name", "must be 1-64 characters of a-z 0-9 . _ -.")
    if not 1 <= len(alias.targets) <= MAX_TARGETS:
        raise invalid("targets", f"must hold 1-{MAX_TARGETS} targets, this one has {len(alias.targets)}.")
    for place, target in enumerate(alias.targets):
        if not target.model:
            raise invalid(f"targets[{place}].model", "must name a model or an alias.")
        number(f"targets[{place}].weight", target.weight, minimum=1, maximum=MAX_WEIGHT)
        number(f"targets[{place}].rank", target.rank, minimum=0, maximum=MAX_RANK)
    check_timeouts(alias.timeouts)
