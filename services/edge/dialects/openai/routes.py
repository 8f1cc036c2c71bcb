"""The paths of OpenAI's dialect that call models: completions, embeddings, the list of models."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request, Response

from parley.gateway.v1 import gateway_pb2 as pb
from runtime.channel import unary
from runtime.errors import NotFound, Unimplemented
from services.edge.dialects.openai.answers import StreamedAnswer, WholeAnswer, whole
from services.edge.dialects.openai.bodies import ChatBody, EmbeddingBody, Reader
from services.edge.dialects.openai.description import COMPLETION, EMBEDDINGS
from services.edge.dialects.openai.errors import PREFIX
from services.edge.dialects.openai.prompt import request_of
from services.edge.dialects.openai.routing import Operation, router_of
from services.edge.dialects.openai.vectors import embedded, requests_of

if TYPE_CHECKING:
    from parley.gateway.v1.gateway_pb2_grpc import GatewayServiceAsyncStub
    from services.edge.streams import Streams

COMPLETIONS = PREFIX + "chat/completions"
"""Path of the one request that has to be fast."""
_LIST_S = 15.0

_chat, _embedding = Reader(ChatBody), Reader(EmbeddingBody)


class ModelNotFound(NotFound):
    """There is no model or alias of that name."""

    reason = "MODEL_NOT_FOUND"


class OpenAIRoutes:
    """The paths below `/openai/v1`.

    Args:
        gateway: Who calls models.
        streams: The answers under way.
    """

    def __init__(self, gateway: GatewayServiceAsyncStub, streams: Streams) -> None:
        self._gateway = gateway
        self._streams = streams

    def routers(self) -> list[APIRouter]:
        """Returns the routes."""
        return [
            router_of(
                Operation(
                    "POST",
                    "/chat/completions",
                    self.complete,
                    "Answer a prompt, whole or streamed",
                    streams=True,
                    extra=COMPLETION,
                ),
                Operation("POST", "/embeddings", self.embed, "Turn texts into vectors", extra=EMBEDDINGS),
                Operation("GET", "/models", self.models, "List models and aliases"),
                Operation("GET", "/models/{model:path}", self.model, "Get a model or an alias"),
            )
        ]

    async def complete(self, request: Request) -> Response:
        """Answers a prompt, as OpenAI's `chat/completions` does. A client that goes away ends the model's call."""
        body: ChatBody = _chat.read(await request.body())
        call, created = request_of(body), int(time.time())
        if not body.stream:
            return WholeAnswer(self._streams, lambda: whole(self._gateway, call, created))
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return StreamedAnswer(self._streams, self._gateway, call, created=created, include_usage=usage)

    async def embed(self, request: Request) -> Response:
        """Turns texts into vectors, as OpenAI's `embeddings` does."""
        body: EmbeddingBody = _embedding.read(await request.body())
        calls = requests_of(body)
        return WholeAnswer(self._streams, lambda: embedded(self._gateway, calls, body.encoding_format))

    async def models(self) -> Response:
        """Lists the models and aliases a request may name, aliases first."""
        return _json({"object": "list", "data": [_told(model) for model in await self._listed()]})

    async def model(self, model: str) -> Response:
        """Returns a model or an alias, listed or not, by any name that a request may call it by."""
        for one in await self._listed():
            if one.name == model:
                return _json(_told(one))
        try:
            found = await unary(self._gateway.GetModel, pb.GetModelRequest(name=model), timeout_s=_LIST_S)
        except (NotFound, Unimplemented):  # a gateway of the release before knows those it lists
            raise ModelNotFound("There is no model of this name; GET /openai/v1/models lists them.") from None
        return _json(_told(found.model) | {"id": model})

    async def _listed(self) -> list[pb.Model]:
        response = await unary(self._gateway.ListModels, pb.ListModelsRequest(), timeout_s=_LIST_S)
        return list(response.models)


def _told(model: pb.Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": model.provider}


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
