"""The same over gRPC, as an internal service calls it."""

from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from tests.e2e.person import PASSWORD, Person
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer


async def test_an_internal_service_signs_in_and_starts_a_run_over_grpc(stack: System, person: Person) -> None:
    stack.provider.script(Answer(text="Over the wire"), match="by gRPC")
    async with (
        grpc.aio.insecure_channel(stack.services["auth"]) as auth,
        grpc.aio.insecure_channel(stack.services["chat"]) as chat,
    ):
        signed_in = await auth_pb2_grpc.AuthServiceStub(auth).SignIn(
            auth_pb2.SignInRequest(email=person.email, password=PASSWORD)
        )
        metadata = [("authorization", f"Bearer {signed_in.session.access_token}")]
        call = chat_pb2_grpc.ChatServiceStub(chat).StartRun(
            chat_pb2.StartRunRequest(message="Say it by gRPC"), metadata=metadata
        )
        events = [event async for response in call for event in response.events]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert "".join(event.text.delta for event in events) == "Over the wire"
    assert events[-1].done.status == chat_pb2.RUN_STATUS_COMPLETED
    messages = await person.messages(events[0].run.conversation_id)
    assert [one["content"] for one in messages] == ["Say it by gRPC", "Over the wire"]


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("auth", "parley.auth.v1.AuthService"),
        ("data", "parley.data.v1.ConversationService"),
        ("chat", "parley.chat.v1.ChatService"),
        ("gateway", "parley.gateway.v1.GatewayService"),
    ],
)
async def test_every_service_tells_its_health_and_its_contract(stack: System, service: str, name: str) -> None:
    async with grpc.aio.insecure_channel(stack.services[service]) as channel:
        for asked in ("", name):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=asked))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)

        async def question() -> Any:
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        async for listed in reflection.ServerReflectionInfo(question()):
            assert name in {one.name for one in listed.list_services_response.service}
            break


@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("data", "/parley.data.v1.ConversationService/ListConversations"),
        ("data", "/parley.data.v1.RunService/BeginRun"),
        ("chat", "/parley.chat.v1.ChatService/GetRun"),
        ("gateway", "/parley.gateway.v1.GatewayService/ListModels"),
        ("auth", "/parley.auth.v1.AuthService/GetCurrentUser"),
    ],
)
async def test_no_service_trusts_its_network(stack: System, service: str, method: str) -> None:
    async with grpc.aio.insecure_channel(stack.services[service]) as channel:
        call = channel.unary_unary(
            method,
            request_serializer=empty_pb2.Empty.SerializeToString,
            response_deserializer=empty_pb2.Empty.FromString,
        )
        for metadata in ([], [("authorization", "Bearer forged")]):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(empty_pb2.Empty(), metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
