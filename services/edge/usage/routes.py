"""Usage: one's own, everybody's, and budgets."""

import re
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BeforeValidator

from parley.gateway.v1 import usage_pb2 as pb
from parley.gateway.v1 import usage_pb2_grpc
from services.edge.calls import SignedInRoute
from services.edge.clients import Services
from services.edge.conversations.routes import PageToken
from services.edge.description import BEARER, responses
from services.edge.usage.shapes import SCOPES, Budget, BudgetState, NewBudget, OwnUsage, Scope, UsagePage, UsageRow

Days = Annotated[int, Query(ge=0, le=366, description="How many days back, today included; 0: 30.")]
PageSize = Annotated[int, Query(ge=0, le=1000, description="Most rows of a page; 0: 100.")]
Dimension = Literal["organization", "user", "bot", "model", "provider"]
By = Annotated[list[Dimension], Query(max_length=5, description="What rows are told apart by, beside the day.")]
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _as_date(value: str) -> str:
    # Otherwise a number would be taken for seconds since 1970.
    if not _DATE.fullmatch(value):
        raise ValueError("must be a date, such as 2026-01-31")
    return value


Day = Annotated[date, BeforeValidator(_as_date)]
_DIMENSIONS = {
    "organization": pb.USAGE_DIMENSION_ORGANIZATION,
    "user": pb.USAGE_DIMENSION_USER,
    "bot": pb.USAGE_DIMENSION_BOT,
    "model": pb.USAGE_DIMENSION_MODEL,
    "provider": pb.USAGE_DIMENSION_PROVIDER,
}


class UsageRoutes:
    """`/v1/usage`, `/v1/admin/usage` and `/v1/admin/budgets`.

    Args:
        services: The services behind.
        usage: Stub of UsageService.
    """

    def __init__(self, services: Services, usage: "usage_pb2_grpc.UsageServiceAsyncStub") -> None:
        self._services = services
        self._usage = usage

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        router = APIRouter(route_class=SignedInRoute, tags=["Usage"])
        router.add_api_route(
            "/v1/usage",
            self.own,
            methods=["GET"],
            response_model=OwnUsage,
            summary="Get your own usage",
            responses=responses(),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            "/v1/admin/usage",
            self.everybodys,
            methods=["GET"],
            response_model=UsagePage,
            summary="List everybody's usage",
            responses=responses(403),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            "/v1/admin/budgets",
            self.budget,
            methods=["GET"],
            response_model=Budget,
            summary="Get a budget",
            responses=responses(403),
            openapi_extra=BEARER,
        )
        router.add_api_route(
            "/v1/admin/budgets",
            self.set_budget,
            methods=["PUT"],
            response_model=BudgetState,
            summary="Set a budget",
            responses=responses(403, body=True),
            openapi_extra=BEARER,
        )
        return [router]

    async def own(self, days: Days = 0) -> Response:
        """Returns your usage by day and model, the newest day first, and where your budget and your organization's stand today."""
        told = await self._services.call(self._usage.GetUsage, pb.GetUsageRequest(days=days))
        usage = OwnUsage(rows=list(map(UsageRow.of, told.rows)), budgets=list(map(BudgetState.of, told.budgets)))
        return Response(usage.model_dump_json(), media_type="application/json")

    async def everybodys(  # noqa: PLR0917 - FastAPI names them
        self,
        from_day: Day | None = None,
        to_day: Day | None = None,
        org_id: UUID | None = None,
        user_id: UUID | None = None,
        by: By = [],  # noqa: B006 - never changed
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Sums up everybody's usage by day and whatever `by` names; 30 days by default. Needs `usage:admin`."""
        request = pb.ListUsageRequest(
            from_day=from_day.isoformat() if from_day else "",
            to_day=to_day.isoformat() if to_day else "",
            org_id=str(org_id or ""),
            user_id=str(user_id or ""),
            dimensions=[_DIMENSIONS[name] for name in by],
            page_size=page_size,
            page_token=page_token,
        )
        told = await self._services.call(self._usage.ListUsage, request)
        page = UsagePage(rows=list(map(UsageRow.of, told.rows)), next_page_token=told.next_page_token)
        return Response(page.model_dump_json(), media_type="application/json")

    async def budget(self, scope: Scope, org_id: UUID | None = None, user_id: UUID | None = None) -> Response:
        """Returns a budget: of a user (`org_id`, `user_id`), an organization (`org_id`) or all together. Needs `usage:admin`."""
        request = pb.GetBudgetRequest(scope=SCOPES[scope], org_id=str(org_id or ""), user_id=str(user_id or ""))
        told = await self._services.call(self._usage.GetBudget, request)
        budget = Budget(**BudgetState.of(told.budget).model_dump(), inherited=told.inherited)
        return Response(budget.model_dump_json(), media_type="application/json")

    async def set_budget(
        self, new: NewBudget, scope: Scope, org_id: UUID | None = None, user_id: UUID | None = None
    ) -> Response:
        """Sets a budget, or lets the default hold again; from the next call on. Needs `usage:admin`."""
        request = pb.SetBudgetRequest(scope=SCOPES[scope], org_id=str(org_id or ""), user_id=str(user_id or ""))
        if new.limit is not None:
            request.limit_tokens = new.limit
        elif new.unlimited:
            request.unlimited = True
        else:
            request.inherit = True
        told = await self._services.call(self._usage.SetBudget, request)
        return Response(BudgetState.of(told.budget).model_dump_json(), media_type="application/json")
