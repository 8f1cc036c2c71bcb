"""What the usage API takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from parley.gateway.v1 import usage_pb2 as pb

Scope = Literal["user", "organization", "global"]
SCOPES: dict[str, pb.Scope.ValueType] = {
    "user": pb.SCOPE_USER,
    "organization": pb.SCOPE_ORGANIZATION,
    "global": pb.SCOPE_GLOBAL,
}
_NAMES = {number: name for name, number in SCOPES.items()}
TOKENS_MAX = 2**53 - 1


class UsageRow(BaseModel):
    """Sums of one day; what was not asked for is empty."""

    day: Annotated[str, Field(description="UTC.", json_schema_extra={"format": "date"})]
    org_id: str
    user_id: str
    bot: str
    provider: Annotated[str, Field(description="The vendor.")]
    provider_name: Annotated[
        str, Field(description="Its name here, as in `<provider>/<model>`; empty where it is not known.")
    ]
    model: str
    calls: Annotated[int, Field(description="Calls of providers, whatever their end.")]
    input_tokens: Annotated[int, Field(description="Sent, cached ones included.")]
    output_tokens: Annotated[int, Field(description="Written, reasoning included.")]
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: Annotated[float, Field(description="Of the calls whose price is known.")]
    estimated_calls: Annotated[int, Field(description="Calls whose tokens were counted by us.")]

    @classmethod
    def of(cls, row: pb.UsageRow) -> Self:
        """Converts what the gateway answers."""
        totals = row.totals
        return cls(
            day=row.day,
            org_id=row.org_id,
            user_id=row.user_id,
            bot=row.bot,
            provider=row.provider,
            provider_name=row.provider_name,
            model=row.model,
            calls=totals.calls,
            input_tokens=totals.input_tokens,
            output_tokens=totals.output_tokens,
            cached_tokens=totals.cached_tokens,
            reasoning_tokens=totals.reasoning_tokens,
            cost_usd=totals.cost_usd,
            estimated_calls=totals.estimated_calls,
        )


class BudgetState(BaseModel):
    """Where a budget stands today."""

    scope: Scope
    current: Annotated[int, Field(description="Tokens used and held back today (UTC).")]
    limit: Annotated[int | None, Field(description="Tokens allowed a day; null: no limit.")]
    resets_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]

    @classmethod
    def of(cls, state: pb.BudgetState) -> Self:
        """Converts what the gateway answers."""
        return cls(
            scope=_NAMES[state.scope],  # type: ignore[arg-type]
            current=state.current_tokens,
            limit=state.limit_tokens if state.HasField("limit_tokens") else None,
            resets_at=state.reset_time.ToJsonString(),
        )


class OwnUsage(BaseModel):
    """One's own usage by day and model, the newest day first, and the budgets over it."""

    rows: list[UsageRow]
    budgets: list[BudgetState]


class UsagePage(BaseModel):
    """Usage, the newest day first."""

    rows: list[UsageRow]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]


class Budget(BudgetState):
    """A budget as an operator sees it."""

    inherited: Annotated[bool, Field(description="It is the default, not set for this scope.")]


class NewBudget(BaseModel):
    """What a scope may use from now on: one of the three."""

    # Strict: a budget of `false` is none that somebody wanted.
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1, "maxProperties": 1})

    limit: Annotated[int | None, Field(ge=0, le=TOKENS_MAX, description="Tokens a day; 0: none.")] = None
    unlimited: Annotated[Literal[True] | None, Field(description="No limit.")] = None
    inherit: Annotated[Literal[True] | None, Field(description="The default again.")] = None

    @model_validator(mode="after")
    def one(self) -> Self:
        """Refuses none and several."""
        if sum(value is not None for value in (self.limit, self.unlimited, self.inherit)) != 1:
            raise ValueError("must hold one of limit, unlimited and inherit")
        return self
