"""What budgets and the ledger are about: scopes, calls under way and over, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from runtime import validation
from runtime.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKENS_MAX = 2**53 - 1
"""Highest limit: what every counter holds exactly."""
CALL_TOKENS_MAX = 2**40
"""Whoever says that one call has used as many does not tell the truth; sums of fewer fit every counter."""
_COST_MAX_USD = 1e6
COMPLETED, CANCELLED, ABANDONED, INTERNAL = "completed", "cancelled", "abandoned", "internal"
"""How calls end that do not fail; one that fails ends by the reason of its error."""
GLOBAL = "g"
"""The scope of all together."""


class ScopeKind(StrEnum):
    """Whose usage or budget."""

    USER = "user"
    ORGANIZATION = "organization"
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens a day where nothing was set; None: no limit."""

    user: int | None
    organization: int | None
    everybody: int | None

    def each(self) -> tuple[int | None, int | None, int | None]:
        """Returns them in the order of `scopes_of`."""
        return (self.user, self.organization, self.everybody)


class TokenBudgetExceeded(ResourceExhausted):
    """The call might use more tokens than are left of a day.

    Args:
        kind: Whose budget.
        current: Tokens used and held back today.
        limit: Tokens allowed a day.
        now: Moment of the call.
    """

    reason = "TOKEN_BUDGET_EXCEEDED"

    def __init__(self, kind: ScopeKind, current: int, limit: int, now: datetime) -> None:
        resets_at = day_end(now)
        super().__init__(
            "The tokens of today are used up, or would be by this; there are new ones tomorrow (UTC).",
            retry_after_s=(resets_at - now).total_seconds(),
            limit_type=f"{kind}_tokens_day",
            current=str(current),
            limit=str(limit),
            resets_at=resets_at.isoformat().replace("+00:00", "Z"),
        )


@dataclass(slots=True)
class Used:
    """One call of a provider that is over: a row of the ledger; nobody changes one.

    Attributes:
        id: UUID; stored once, however often it is written.
        provider: The vendor, as OpenTelemetry names it.
        cost_usd: None where the price is not known.
        estimated: Counted by us.
        outcome: `completed`, `cancelled`, `abandoned` or the reason of the failure, lower case.
        provider_name: Our name of the provider, of which a vendor may have several; empty: not known.
    """

    id: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    estimated: bool
    outcome: str
    started_at: datetime
    ended_at: datetime
    provider_name: str = ""

    @property
    def tokens(self) -> int:
        """What counts against budgets."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class OpenCall:
    """A call that has been let in, or is about to be: one or several calls of providers.

    Attributes:
        id: UUID; also that of its first row.
        day: Whose budget it counts against, UTC.
        model: As asked for, until a provider is called.
        provider: The vendor that is called; empty: none yet.
        provider_name: Our name of the provider that is called; empty: none yet.
        tokens: Held back for it.
        input_tokens: The prompt, estimated.
        used: Calls of providers that are over.
        by_database: The database let it in, not Redis.
    """

    id: str
    day: date
    org_id: str
    user_id: str
    bot: str
    run_id: str
    model: str
    tokens: int
    input_tokens: int
    started_at: datetime
    provider: str = ""
    provider_name: str = ""
    used: list[Used] = field(default_factory=list)
    by_database: bool = False

    @property
    def scopes(self) -> tuple[str, str, str]:
        """Whose budgets it counts against."""
        return scopes_of(self.org_id, self.user_id)

    @property
    def used_tokens(self) -> int:
        """What it has used."""
        return sum(one.tokens for one in self.used)

    def reservation(self) -> dict[str, Any]:
        """Returns what Redis and Postgres both keep of it while it is under way."""
        # Written out: this is done before each call of a provider. Without the provider's name, since the release before reads this from Redis
        # and fails by what it does not know.
        return {
            "day": self.day.isoformat(),
            "org_id": self.org_id,
            "user_id": self.user_id,
            "bot": self.bot,
            "run_id": self.run_id or None,
            "id": self.id,
            "provider": self.provider,
            "model": self.model,
            "tokens": self.tokens,
            "input_tokens": self.input_tokens,
            "started_at": self.started_at.isoformat(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Returns its rows of the ledger."""
        return [
            {
                **self._whose(),
                "id": one.id,
                "provider": one.provider,
                "model": one.model,
                "input_tokens": one.input_tokens,
                "output_tokens": one.output_tokens,
                "cached_tokens": one.cached_tokens,
                "reasoning_tokens": one.reasoning_tokens,
                "cost_usd": one.cost_usd,
                "estimated": one.estimated,
                "outcome": one.outcome,
                "started_at": one.started_at.isoformat(),
                "ended_at": one.ended_at.isoformat(),
                "provider_name": one.provider_name,
            }
            for one in self.used
        ]

    def _whose(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "org_id": self.org_id,
            "user_id": self.user_id,
            "bot": self.bot,
            "run_id": self.run_id or None,
        }


def read_call(stored: Mapping[str, Any]) -> OpenCall:
    """Returns the call of which this is stored; see `OpenCall.reservation`."""
    return OpenCall(
        **{
            **stored,
            "run_id": stored["run_id"] or "",
            "day": date.fromisoformat(stored["day"]),
            "started_at": datetime.fromisoformat(stored["started_at"]),
        }
    )


def provider_name(key: str) -> str:
    """Returns our name of the provider from a model's key, `<provider>/<model>…`."""
    return key.partition("/")[0]


def scopes_of(org_id: str, user_id: str) -> tuple[str, str, str]:
    """Returns the scopes a user's call counts against, narrowest first."""
    return (f"u:{org_id}:{user_id}", f"o:{org_id}", GLOBAL)


def scope_of(kind: ScopeKind, org_id: str, user_id: str) -> str:
    """Returns one scope.

    Raises: InvalidArgument: an id is no UUID, or stands where it has no meaning.
    """
    for name, value, wanted in (
        ("org_id", org_id, kind is not ScopeKind.GLOBAL),
        ("user_id", user_id, kind is ScopeKind.USER),
    ):
        if value and not wanted:
            raise validation.invalid(name, f"has no meaning for the scope {kind}.")
    if kind is ScopeKind.GLOBAL:
        return GLOBAL
    org_id = validation.identifier("org_id", org_id)
    if kind is ScopeKind.ORGANIZATION:
        return f"o:{org_id}"
    return f"u:{org_id}:{validation.identifier('user_id', user_id)}"


KINDS: Sequence[ScopeKind] = (ScopeKind.USER, ScopeKind.ORGANIZATION, ScopeKind.GLOBAL)
"""In the order of `scopes_of`."""


def cost(told: float | None) -> float | None:
    """Returns the price of a call where it can be one; None: it is not known."""
    return told if told is not None and 0 <= told < _COST_MAX_USD else None


def day_end(now: datetime) -> datetime:
    """Returns the next midnight, UTC."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)


def limit(text: str) -> int | None:
    """Reads a limit of the configuration: a whole number of tokens; empty: no limit.

    Raises: ValueError.
    """
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) > TOKENS_MAX:
        raise ValueError(f"{text!r} is neither a whole number of tokens, 0-{TOKENS_MAX}, nor empty for no limit")
    return int(text)
