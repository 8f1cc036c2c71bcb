"""A signed-in user of the data service under test, and the service itself."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration

from parley.data.v1 import data_pb2 as pb
from parley.data.v1 import data_pb2_grpc
from runtime import postgres
from runtime.channel import open_channel, unary
from runtime.errors import ParleyError
from runtime.testing import Clock, Issuer, loopback
from services.data.composition import load_queries, servicers
from tests.channels import connected

NOBODY = "00000000-0000-0000-0000-000000000000"
UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"


class Person:
    """Calls the service with an access token of its own; refusals are raised as the vocabulary's errors."""

    def __init__(self, channel: grpc.aio.Channel, token: str, *, user_id: str = "", org_id: str = "") -> None:
        self.user_id = user_id
        self.org_id = org_id
        self.token = token
        self._conversations = data_pb2_grpc.ConversationServiceStub(channel)
        self._runs = data_pb2_grpc.RunServiceStub(channel)

    async def call(self, request: Any) -> Any:
        """Makes the call a request belongs to."""
        name = type(request).__name__.removesuffix("Request")
        stub = self._runs if hasattr(self._runs, name) else self._conversations
        return await unary(getattr(stub, name), request, timeout_s=20, token=self.token)

    async def refusal(self, request: Any) -> ParleyError:
        """Makes a call that must fail and returns what it was refused with."""
        try:
            response = await self.call(request)
        except ParleyError as error:
            return error
        raise AssertionError(f"{type(request).__name__} was not refused: {response}")

    async def create(self, title: str = "") -> pb.Conversation:
        response: pb.CreateConversationResponse = await self.call(pb.CreateConversationRequest(title=title))
        return response.conversation

    async def conversation(self, conversation_id: str) -> pb.Conversation:
        request = pb.GetConversationRequest(conversation_id=conversation_id)
        response: pb.GetConversationResponse = await self.call(request)
        return response.conversation

    async def begin(self, conversation_id: str = "", content: str = "hello", **fields: Any) -> pb.BeginRunResponse:
        response: pb.BeginRunResponse = await self.call(begin_request(conversation_id, content, **fields))
        return response

    async def finish(self, run: pb.Run, *parts: pb.Part, **fields: Any) -> pb.Run:
        response: pb.FinishRunResponse = await self.call(finish_request(run.id, *parts, **fields))
        return response.run

    async def turn(self, conversation_id: str, content: str, answer: str, **fields: Any) -> pb.Run:
        """Makes a whole run."""
        begun = await self.begin(conversation_id, content)
        return await self.finish(begun.run, text(answer), **fields)

    async def stored(self, run_id: str) -> pb.GetRunResponse:
        response: pb.GetRunResponse = await self.call(pb.GetRunRequest(run_id=run_id))
        return response

    async def claim(self, **fields: Any) -> list[pb.Claim]:
        response: pb.ClaimRunsResponse = await self.call(claim_request(**fields))
        return list(response.claims)

    async def messages(self, conversation_id: str) -> list[pb.Message]:
        """Returns the newest hundred messages of the branch, oldest first, as they are without a list: their siblings not named."""
        response = await self.call(pb.ListMessagesRequest(conversation_id=conversation_id, page_size=100))
        for message in response.messages:
            message.ClearField("sibling_ids")
        return list(response.messages)


def text(value: str) -> pb.Part:
    return pb.Part(text=value)


def begin_request(conversation_id: str = "", content: str = "hello", **fields: Any) -> pb.BeginRunRequest:
    given: dict[str, Any] = {
        "model": "fast",
        "owner": "chat-1",
        "lease": Duration(seconds=15),
        "history_max_messages": 50,
        "history_max_tokens": 8000,
    }
    return pb.BeginRunRequest(conversation_id=conversation_id, content=content, **(given | fields))


def checkpoint_request(run_id: str, *parts: pb.Part, **fields: Any) -> pb.CheckpointRunRequest:
    given: dict[str, Any] = {"fence": 1, "last_seq": 4, "lease": Duration(seconds=15)}
    return pb.CheckpointRunRequest(run_id=run_id, parts=parts, **(given | fields))


def finish_request(run_id: str, *parts: pb.Part, **fields: Any) -> pb.FinishRunRequest:
    given: dict[str, Any] = {"fence": 1, "status": pb.RUN_STATUS_COMPLETED, "last_seq": 9}
    return pb.FinishRunRequest(run_id=run_id, parts=parts, **(given | fields))


def release_request(run_id: str, *parts: pb.Part, **fields: Any) -> pb.ReleaseRunRequest:
    given: dict[str, Any] = {"fence": 1, "last_seq": 4}
    return pb.ReleaseRunRequest(run_id=run_id, parts=parts, **(given | fields))


def retry_request(run_id: str, *parts: pb.Part, **fields: Any) -> pb.RetryRunRequest:
    given: dict[str, Any] = {"fence": 1, "error_reason": "PROVIDER_UNAVAILABLE", "last_seq": 4}
    return pb.RetryRunRequest(run_id=run_id, parts=parts, **(given | fields))


def load_request(run_id: str, **fields: Any) -> pb.LoadRunRequest:
    given: dict[str, Any] = {"fence": 1, "history_max_messages": 50, "history_max_tokens": 8000}
    return pb.LoadRunRequest(run_id=run_id, **(given | fields))


def claim_request(**fields: Any) -> pb.ClaimRunsRequest:
    """Claims what has lapsed at once; tests that are about suspicion ask for it."""
    given: dict[str, Any] = {"owner": "chat-2", "lease": Duration(seconds=15), "max_runs": 100}
    return pb.ClaimRunsRequest(**(given | fields))


async def lapse(owner: asyncpg.Connection, *runs: pb.Run, ago: str = "1 minute") -> None:
    """Lets leases lapse, as time does."""
    await owner.execute(
        "UPDATE chat.run SET lease_expires_at = clock_timestamp() - $2::text::interval WHERE id::text = ANY($1)",
        [run.id for run in runs],
        ago,
    )


@dataclass(frozen=True)
class Service:
    """The data service on a loopback port.

    Attributes:
        channel: Leads to it.
        issuer: Signs the access tokens it trusts.
        clock: What it takes for the time.
    """

    channel: grpc.aio.Channel
    issuer: Issuer
    clock: Clock

    def claimer(self) -> Person:
        """Returns a service that speaks for itself, as auth lets it."""
        return self.person(user_id=NOBODY, org=NOBODY, role="service", aud=["data"], act={"sub": "chat"})

    def person(self, **claims: Any) -> Person:
        """Returns a new user, in an organization of its own unless told."""
        user_id = claims.pop("user_id", None) or str(uuid.uuid4())
        org_id = claims.pop("org", None) or str(uuid.uuid4())
        token = self.issuer.token(user_id, org=org_id, **claims)
        return Person(self.channel, token, user_id=user_id, org_id=org_id)


@asynccontextmanager
async def serving(url: str, *, message_max_chars: int = 10_000) -> AsyncIterator[Service]:
    """Serves on a migrated database for the length of the block."""
    issuer, clock = Issuer(), Clock()
    async with postgres.connect(url, load_queries(), max_connections=10) as database:
        verifier = issuer.verifier("data")
        offered = servicers(database, message_max_chars=message_max_chars, verifier=verifier, clock=clock)
        async with (
            loopback("data", *offered, verifier=verifier) as address,
            connected(open_channel(address, pb.DESCRIPTOR)) as channel,
        ):
            yield Service(channel, issuer, clock)
