"""What stands behind the edge, played: a gateway and an auth that answer what a test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.gateway.v1 import gateway_pb2 as pb
from parley.gateway.v1 import gateway_pb2_grpc
from runtime.errors import NotFound, ParleyError, Unauthenticated
from runtime.testing import Issuer

API_KEY = "plk_" + "k" * 49


def text(*words: str) -> pb.ChatResponse:
    return pb.ChatResponse(deltas=[pb.ChatDelta(text=word) for word in words])


def started(model: str = "gpt-4o-mini") -> pb.ChatResponse:
    return pb.ChatResponse(deltas=[pb.ChatDelta(started=pb.Started(provider="openai", model=model))])


def finished(reason: Any = pb.FINISH_REASON_STOP, **usage: int) -> pb.ChatResponse:
    used = pb.Usage(**(usage or {"input_tokens": 11, "output_tokens": 5}))  # type: ignore[arg-type] # counts alone
    return pb.ChatResponse(deltas=[pb.ChatDelta(finished=pb.Finished(reason=reason, usage=used))])


class Gateway(gateway_pb2_grpc.GatewayServiceServicer):
    """Answers each call with the next of `script`: batches, errors to be raised, events to be waited for, functions to be called."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.script: list[list[Any]] = []
        self.models: list[pb.Model] = []
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Chat(self, request: pb.ChatRequest, context: Any) -> AsyncIterator[pb.ChatResponse]:
        self.asked.append(request)
        self.called.set()
        steps = self.script.pop(0) if self.script else [started(), text("Hello", " there"), finished()]
        try:
            for step in steps:
                if isinstance(step, ParleyError):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=self.models)

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        for model in self.models:
            if model.provider_model == request.name:
                return pb.GetModelResponse(model=model)
        raise NotFound.of("MODEL_NOT_FOUND", "There is no model or alias of this name.")

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        self.asked.append(request)
        vectors = [pb.Embedding(values=[len(one), 0.5, -1.25]) for one in request.texts]
        usage = pb.Usage(input_tokens=len(request.texts))
        return pb.EmbedResponse(embeddings=vectors, provider="openai", model="small", usage=usage)


class Auth(auth_pb2_grpc.AuthServiceServicer):
    """Knows one API key; `exchanges` counts how often it was asked."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.exchanges = 0
        self.audience = ["edge", "gateway"]

    async def ExchangeApiKey(
        self, request: auth_pb2.ExchangeApiKeyRequest, context: Any
    ) -> auth_pb2.ExchangeApiKeyResponse:
        self.exchanges += 1
        await asyncio.sleep(0)
        if request.secret != API_KEY:
            raise Unauthenticated.of("INVALID_API_KEY", "The API key is not valid.")
        response = auth_pb2.ExchangeApiKeyResponse(access_token=self.issuer.token("u-1", aud=self.audience))
        response.expire_time.FromSeconds(2**31)
        return response
