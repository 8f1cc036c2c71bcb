"""Puts the nouns together into one ASGI application."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from runtime.errors import Internal, ParleyError
from services.edge import problems
from services.edge.admin.routes import AliasRoutes, ProviderRoutes
from services.edge.api_keys.routes import ApiKeyRoutes
from services.edge.asgi import Front
from services.edge.callers import Callers
from services.edge.client_address import ClientAddress
from services.edge.conversations.routes import ConversationRoutes
from services.edge.cors import Cors
from services.edge.dead_letters.routes import DeadLetterRoutes
from services.edge.description import describe
from services.edge.dialects.openai.direct import Direct
from services.edge.dialects.openai.kept import KeptRoutes
from services.edge.dialects.openai.responses import ResponseRoutes
from services.edge.dialects.openai.routes import OpenAIRoutes
from services.edge.identity.routes import IdentityRoutes
from services.edge.operation.page import Page
from services.edge.operation.routes import OperationRoutes
from services.edge.runs.routes import RunRoutes
from services.edge.runs.shortcut import Shortcut
from services.edge.runs.start import StartRoutes
from services.edge.usage.routes import UsageRoutes

if TYPE_CHECKING:
    from fastapi import APIRouter
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from runtime.identity import Verifier
    from services.edge.clients import Services
    from services.edge.config import EdgeConfig
    from services.edge.operation.readiness import Readiness
    from services.edge.streams import Streams

_ABOUT = """\
Chat with language models: sign up or sign in below `/auth/v1`, then send messages to `/v1/chat` and read the answer as server-sent events.

Every error is an `application/problem+json` document; branch on its `code`. Every answer carries `x-request-id`.
"""


def build(config: EdgeConfig, services: Services, verifier: Verifier, streams: Streams, readiness: Readiness) -> Front:
    """Builds the application.

    Raises: ConfigError: a trusted proxy is no address.
    """
    # The edge makes its own spans and log lines; FastAPI's would double them and hold the texts of exceptions.
    quiet = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
    app = FastAPI(
        title="Parley",
        version="1",
        description=_ABOUT,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=quiet,  # type: ignore[arg-type] # a TypedDict that takes just these
    )
    callers = app.state.callers = Callers(verifier, services.exchange)
    # Routes are tried in this order: the hot ones come first.
    start = StartRoutes(services, streams, patience_s=config.reattach_s)
    nouns = [
        *start.routers(),
        *RunRoutes(services, streams, patience_s=config.reattach_s).routers(),
        *ConversationRoutes(services).routers(),
        *IdentityRoutes(services, ClientAddress(config.trusted_proxies)).routers(),
        *ApiKeyRoutes(services).routers(),
        *DeadLetterRoutes(services).routers(),
    ]
    openai = OpenAIRoutes(services.gateway, streams) if services.gateway is not None else None
    if openai is not None:
        nouns += openai.routers()
        nouns += ResponseRoutes(services, streams, patience_s=config.reattach_s).routers()
        nouns += KeptRoutes(services).routers()
    if services.usage is not None:
        nouns += UsageRoutes(services, services.usage).routers()
    if services.providers is not None:
        nouns += ProviderRoutes(services, services.providers).routers()
    if services.aliases is not None:
        nouns += AliasRoutes(services, services.aliases).routers()
    for router in nouns:
        app.include_router(router)
    operation = OperationRoutes(readiness, Page(Path(config.web_root)), functools.partial(describe, app))
    app.router.routes += operation.routes()
    _handle_errors(app, nouns)
    app.middleware_stack = app.build_middleware_stack()
    # Outside the framework's application, which would be a part of every stream.
    answering: ASGIApp = Shortcut(app, start, callers)
    if openai is not None:
        answering = Direct(answering, openai, callers)
    return Front(
        answering,
        cors=Cors(config.cors_origins),
        readiness=readiness,
        max_body_bytes=config.max_body_bytes,
        max_prompt_bytes=config.max_prompt_bytes,
        body_timeout_s=config.body_timeout_s,
    )


def _handle_errors(app: FastAPI, nouns: list[APIRouter]) -> None:
    routes = [route for router in nouns for route in router.routes] + app.router.routes

    def allowed(path: str) -> str:
        methods: set[str] = set()
        for route in routes:
            if (pattern := getattr(route, "path_regex", None)) is not None and pattern.match(path):
                methods |= getattr(route, "methods", None) or set()
        return ", ".join(sorted(methods))

    def tell(request: Request, error: ParleyError) -> Response:
        request.scope["parley.exchange"].reason = error.code
        return problems.respond(error, path=request.url.path)

    async def of_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, ParleyError)  # noqa: S101 - registered for nothing else
        return tell(request, error)

    async def of_fields(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
        return tell(request, problems.of_validation(error.errors()))

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - as above
        path = request.url.path
        return tell(request, problems.of_http(error, path=path, allow=allowed(path)))

    async def of_nobody(request: Request, _: Exception) -> Response:
        return tell(request, Internal("internal error"))

    app.add_exception_handler(ParleyError, of_ours)
    app.add_exception_handler(RequestValidationError, of_fields)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(Exception, of_nobody)
