"""What an operator may do with providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runtime.errors import ParleyError
from runtime.validation import invalid
from services.gateway.admin import records, references
from services.gateway.admin.records import (
    NoDefaultModel,
    ProviderExists,
    ProviderInUse,
    ProviderLocked,
    ProviderNotFound,
    ProviderOfEnvironment,
    ProviderRecord,
)
from services.gateway.admin.references import SecretUnavailable
from services.gateway.admin.translation import callable_provider, described
from services.gateway.admin.trial import LONGEST_S
from services.gateway.domain import Call, Message, Role, Timeouts
from services.gateway.providers.vendors import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.admin.keeper import Keeper
    from services.gateway.admin.references import Secrets
    from services.gateway.admin.store import Change, Kept, PostgresRegistry
    from services.gateway.admin.trial import Trial
    from services.gateway.providers.names import Defaults
    from services.gateway.providers.registry import LiveRegistry

_TEST_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be changed; None stays as it is."""

    base_url: str | None = None
    api_key: str | None = None
    settings: Mapping[str, str] | None = None
    models: tuple[str, ...] | None = None
    default_model: str | None = None
    embedding_model: str | None = None
    timeouts: Timeouts | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a provider works: an empty reason if it does, and how long its first token took."""

    reason: str = ""
    message: str = ""
    first_token_s: float = 0.0


class Providers:
    """The providers of the environment and those that are kept.

    Args:
        store: Where they are kept.
        keeper: Brings changes to life.
        secrets: Reads references.
        registry: What calls go by.
        knows: Tells whether litellm has a provider of a name.
        trial: Makes test calls.
    """

    def __init__(
        self,
        store: PostgresRegistry,
        keeper: Keeper,
        secrets: Secrets,
        registry: LiveRegistry,
        knows: Callable[[str], bool],
        *,
        trial: Trial,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._secrets = secrets
        self._registry = registry
        self._knows = knows
        self._trial = trial

    async def create(self, record: ProviderRecord) -> ProviderRecord:
        """Adds a provider. Raises: InvalidArgument, ProviderExists."""
        records.check(record, self._knows, self._secrets.places)
        now = datetime.now(UTC)
        record = replace(record, created_at=now, updated_at=now)
        async with self._store.changing() as change:
            if record.name in self._all(change.kept):
                raise ProviderExists("There is a provider of this name.", name=record.name)
            await change.put_provider(record)
        await self._keeper.refresh()
        return record

    async def get(self, name: str) -> ProviderRecord:
        """Returns a provider. Raises: ProviderNotFound."""
        return _named(self._all(await self._store.read()), name)

    async def list(self, *, after: str, limit: int) -> tuple[Sequence[ProviderRecord], bool]:
        """Returns the providers whose names come after a name, in order, and whether there are more."""
        found = self._all(await self._store.read())
        names = sorted(name for name in found if name > after)
        return [found[name] for name in names[:limit]], len(names) > limit

    async def defaults(self) -> Defaults:
        """Returns what was made the default."""
        return (await self._store.read()).defaults

    async def update(self, name: str, changes: Changes) -> ProviderRecord:
        """Changes a provider. Raises: InvalidArgument, ProviderNotFound, ProviderOfEnvironment, ProviderLocked."""
        async with self._store.changing() as change:
            old = self._stored(change.kept, name)
            if old.lost and changes.api_key is None:
                # What is written now would take the place of what a key may still be found for.
                raise ProviderLocked(
                    "The encryption key of this provider's keys is not here: bring it back, or give api_key anew.",
                    name=name,
                )
            record = replace(_changed(old, changes), lost=False)
            records.check(record, self._knows, self._secrets.places)
            await change.put_provider(record)
        await self._keeper.refresh()
        return record

    async def delete(self, name: str) -> None:
        """Removes a provider. Raises: ProviderNotFound, ProviderOfEnvironment, ProviderInUse."""
        async with self._store.changing() as change:
            self._stored(change.kept, name)
            beside = {provider.name for provider in self._registry.environment}
            users = [
                a.name for a in change.kept.aliases.values() if any(t.model.startswith(f"{name}/") for t in a.targets)
            ]
            if users and name not in beside:
                raise ProviderInUse("An alias names this provider; change the alias first.", alias=min(users))
            await change.delete_provider(name)
            if name not in beside:
                self._unset(change, name)
        await self._keeper.refresh()

    async def set_default(self, name: str, *, embeddings: bool) -> None:
        """Makes a provider the default, or none for an empty name. Raises: ProviderNotFound, NoDefaultModel."""
        async with self._store.changing() as change:
            if name:
                record = _named(self._all(change.kept), name)
                known = KNOWN.get(record.type) if not record.base_url else None
                chat = record.default_model or record.models or known
                if not (record.embedding_model or (known and known.embedding_model) if embeddings else chat):
                    raise NoDefaultModel("This provider names no model for that; set one first.", name=name)
            kept = change.defaults
            change.defaults = replace(kept, embeddings=name) if embeddings else replace(kept, provider=name)
        await self._keeper.refresh()

    async def test(self, name: str, model: str) -> Verdict:
        """Makes one small call. Raises: ProviderNotFound."""
        record = await self.get(name)
        provider = self._registry.names.providers.get(name)
        try:
            if provider is None:
                provider = await callable_provider(record, self._secrets)
            elif record.stored:
                # As it is kept now, and with the models its server has told.
                now = await callable_provider(record, self._secrets)
                provider = now if now.models else replace(now, models=provider.models, fast=provider.fast)
        except SecretUnavailable as error:
            return Verdict("PROVIDER_AUTH_FAILED", f"The provider's key cannot be read: {error}.")
        model = model or provider.default_model or provider.fast or next(iter(provider.models), "")
        if not model:
            return Verdict("MODEL_NOT_FOUND", "The provider told of no model, and none was named.")
        deployment = self._registry.deployment(provider, model)
        timeouts = Timeouts(LONGEST_S, LONGEST_S, LONGEST_S)
        call = Call(model, (Message(Role.USER, "Say yes."),), max_output_tokens=_TEST_TOKENS, timeouts=timeouts)
        try:
            return Verdict(first_token_s=await self._trial(deployment, call))
        except ParleyError as error:
            return Verdict(error.code, error.message)

    def _all(self, kept: Kept) -> dict[str, ProviderRecord]:
        return {p.name: described(p) for p in self._registry.environment} | dict(kept.providers)

    def _stored(self, kept: Kept, name: str) -> ProviderRecord:
        record = _named(self._all(kept), name)
        if not record.stored:
            raise ProviderOfEnvironment("This provider is the environment's; change it there.", name=name)
        return record

    def _unset(self, change: Change, name: str) -> None:
        if change.defaults.provider == name:
            change.defaults = replace(change.defaults, provider="")
        if change.defaults.embeddings == name:
            change.defaults = replace(change.defaults, embeddings="")


def _named(found: Mapping[str, ProviderRecord], name: str) -> ProviderRecord:
    if name not in found:
        raise ProviderNotFound("There is no provider of this name.", name=name)
    return found[name]


def _changed(old: ProviderRecord, changes: Changes) -> ProviderRecord:
    def new(name: str) -> object:
        value = getattr(changes, name)
        return getattr(old, name) if value is None else value

    settings = old.settings
    if changes.settings is not None:
        settings = {
            name: _unmasked(f"settings.{name}", value, old.settings.get(name, ""), name)
            for name, value in changes.settings.items()
        }
    key = old.api_key if changes.api_key is None else _unmasked("api_key", changes.api_key, old.api_key)
    plain = {
        name: new(name) for name in ("base_url", "models", "default_model", "embedding_model", "timeouts", "enabled")
    }
    return replace(old, api_key=key, settings=settings, updated_at=datetime.now(UTC), **plain)  # type: ignore[arg-type]


def _unmasked(field: str, value: str, old: str, setting: str = "") -> str:
    """Returns the old value where it was read back masked. Raises: InvalidArgument: it is the mask of something else."""
    if records.MASK not in value or (setting and setting not in records.SECRET_SETTINGS):
        return value
    if value != references.masked(old):
        raise invalid(field, "is masked, and not what this provider has: give the whole of it.")
    return old
