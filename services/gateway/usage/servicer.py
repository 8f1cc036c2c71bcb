"""`parley.gateway.v1.UsageService`: the contract's messages to the domain's and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley.gateway.v1 import usage_pb2 as pb
from parley.gateway.v1 import usage_pb2_grpc
from runtime.context import current_identity
from runtime.permissions import require
from runtime.validation import invalid
from runtime.wellknown import timestamp
from services.gateway.usage.accounts import Asked
from services.gateway.usage.domain import ScopeKind

if TYPE_CHECKING:
    from asyncpg import Record

    from services.gateway.usage.accounts import Accounts, Budget

SERVICE = pb.DESCRIPTOR.services_by_name["UsageService"].full_name
PERMISSION = "usage:admin"

_KINDS = {
    pb.SCOPE_USER: ScopeKind.USER,
    pb.SCOPE_ORGANIZATION: ScopeKind.ORGANIZATION,
    pb.SCOPE_GLOBAL: ScopeKind.GLOBAL,
}
_SCOPES = {kind: scope for scope, kind in _KINDS.items()}
_DIMENSIONS = (
    pb.USAGE_DIMENSION_ORGANIZATION,
    pb.USAGE_DIMENSION_USER,
    pb.USAGE_DIMENSION_BOT,
    pb.USAGE_DIMENSION_MODEL,
    pb.USAGE_DIMENSION_PROVIDER,
)


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Usage over gRPC."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        """See the contract."""
        rows, budgets = await self._accounts.own(current_identity(), request.days)
        told = (
            pb.UsageRow(day=str(row["day"]), provider=row["provider"], model=row["model"], totals=_totals(row))
            for row in rows
        )
        return pb.GetUsageResponse(rows=told, budgets=map(_state, budgets))

    async def ListUsage(self, request: pb.ListUsageRequest, context: Any) -> pb.ListUsageResponse:
        """See the contract."""
        require(PERMISSION)
        if set(request.dimensions) - set(_DIMENSIONS):
            raise invalid("dimensions", "must be of organization, user, bot, model and provider.")
        organization, user, bot, model, provider = (dimension in request.dimensions for dimension in _DIMENSIONS)
        asked = Asked(
            first=request.from_day,
            last=request.to_day,
            org_id=request.org_id,
            user_id=request.user_id,
            by=(organization, user, bot, model, provider),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        rows, token = await self._accounts.everybodys(asked)
        told = (
            pb.UsageRow(
                day=str(row["day"]),
                org_id=row["org"],
                user_id=row["person"],
                bot=row["bot_name"],
                provider=row["vendor"],
                model=row["model_name"],
                provider_name=row["record"],
                totals=_totals(row),
            )
            for row in rows
        )
        return pb.ListUsageResponse(rows=told, next_page_token=token)

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        """See the contract."""
        require(PERMISSION)
        budget = await self._accounts.budget(_kind(request.scope), request.org_id, request.user_id)
        return pb.GetBudgetResponse(budget=_state(budget), inherited=budget.inherited)

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        """See the contract."""
        require(PERMISSION)
        wanted = request.WhichOneof("tokens_per_day")
        if wanted is None or (wanted != "limit_tokens" and not getattr(request, wanted)):
            raise invalid("tokens_per_day", "must be one of limit_tokens, unlimited and inherit.")
        budget = await self._accounts.set_budget(
            _kind(request.scope),
            request.org_id,
            request.user_id,
            request.limit_tokens if wanted == "limit_tokens" else None,
            inherit=wanted == "inherit",
        )
        return pb.SetBudgetResponse(budget=_state(budget))


def _kind(scope: int) -> ScopeKind:
    if scope not in _KINDS:
        raise invalid("scope", "must be one of user, organization and global.")
    return _KINDS[scope]  # type: ignore[index]


def _state(budget: Budget) -> pb.BudgetState:
    return pb.BudgetState(
        scope=_SCOPES[budget.kind],
        current_tokens=budget.current,
        limit_tokens=budget.limit,
        reset_time=timestamp(budget.resets_at),
    )


def _totals(row: Record) -> pb.UsageTotals:
    return pb.UsageTotals(
        calls=row["calls"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cached_tokens=row["cached_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        cost_usd=row["cost_usd"],
        estimated_calls=row["estimated_calls"],
    )
