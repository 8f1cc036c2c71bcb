"""The chat service among its neighbours: auth and data as they are, a scripted gateway, real stores."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc

from parley.auth.v1 import auth_pb2, auth_pb2_grpc
from parley.chat.v1 import chat_pb2 as pb
from parley.chat.v1 import chat_pb2_grpc
from parley.data.v1 import data_pb2, data_pb2_grpc
from parley.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from runtime import postgres
from runtime.channel import open_channel, stream, unary
from runtime.config import Secret
from runtime.errors import ParleyError
from runtime.identity import Verifier
from runtime.server import Server, Servicer
from services.auth import composition
from services.auth.config import AuthConfig
from services.auth.store import QUERIES
from services.chat.composition import Chat, assemble
from services.chat.config import ChatConfig
from services.chat.delegation import identity_of
from services.data.composition import load_queries, servicers
from tests.channels import connected
from tests.contract.chat import process
from tests.contract.chat.process import Process
from tests.contract.chat.screen import Live, Screen
from tests.contract.chat.scripted_gateway import ScriptedGateway

ACTOR_KEY = "the-key-by-which-chat-is-known"
_CONTRACTS = {"auth": auth_pb2.DESCRIPTOR, "data": data_pb2.DESCRIPTOR, "gateway": gateway_pb2.DESCRIPTOR}
LOOPBACK = "127.0.0.1:0"


class World:
    """Everything around chat, on loopback; `await world.chat()` starts an instance.

    Attributes:
        gateway: What models say.
        redis_url: A database of its own.
    """

    def __init__(self, stack: AsyncExitStack, redis_url: str) -> None:
        self.gateway = ScriptedGateway()
        self.redis_url = redis_url
        self._stack = stack
        self._servers: dict[str, Server] = {}
        self._ports: dict[str, int] = {}
        self._make: dict[str, Any] = {}

    async def start(self, urls: dict[str, str], owner_url: str) -> None:
        """Starts the neighbours.

        Args:
            urls: Of the database, as auth and data know it.
            owner_url: The same as somebody whom no policy binds.
        """
        self._rows = await asyncpg.connect(owner_url)
        self._stack.push_async_callback(self._rows.close)
        auth_config = AuthConfig(
            listen=LOOPBACK,
            database_url=Secret(urls["auth"]),
            encryption_key=Secret(base64.b64encode(b"k" * 32).decode()),
            chat_key=Secret(ACTOR_KEY),
            hash_memory_kib=8,
            hash_iterations=1,
            sign_ups_per_hour=10_000,
        )
        auth_database = await self._stack.enter_async_context(
            postgres.connect(urls["auth"], QUERIES, max_connections=4)
        )
        data_database = await self._stack.enter_async_context(
            postgres.connect(urls["data"], load_queries(), max_connections=8)
        )
        self._keys = keys = composition.key_ring(auth_config, auth_database)
        await composition.build(auth_config, auth_database, self._stack)[1].prepare()
        self._make["auth"] = lambda listen: composition.build(
            AuthConfig(**{**vars(auth_config), "listen": listen}), auth_database, self._stack
        )[0]
        verifier = Verifier(keys.jwks, audience="data")
        self._make["data"] = lambda listen: Server(
            "data", listen, servicers(data_database, message_max_chars=10_000, verifier=verifier), verifier=verifier
        )
        offered = Servicer(
            gateway_pb2_grpc.add_GatewayServiceServicer_to_server, self.gateway, "parley.gateway.v1.GatewayService"
        )
        gateway_verifier = Verifier(keys.jwks, audience="gateway")
        self._make["gateway"] = lambda listen: Server("gateway", listen, [offered], verifier=gateway_verifier)
        for name in self._make:
            await self.bring_up(name)
        self._auth_channel = await self._stack.enter_async_context(
            connected(open_channel(self.address("auth"), auth_pb2.DESCRIPTOR))
        )
        self._data_channel = await self._stack.enter_async_context(
            connected(open_channel(self.address("data"), data_pb2.DESCRIPTOR))
        )

    async def bring_up(self, name: str) -> None:
        """Starts a neighbour, where it was before."""
        server = self._make[name](f"127.0.0.1:{self._ports.get(name, 0)}")
        await server.start()
        await server.set_ready(ready=True)
        self._servers[name], self._ports[name] = server, server.port

    async def take_down(self, name: str) -> None:
        """Stops a neighbour at once."""
        await self._servers.pop(name).stop(0)

    @contextlib.asynccontextmanager
    async def without(self, name: str) -> AsyncIterator[None]:
        """Takes a neighbour away for the length of the block."""
        await self.take_down(name)
        try:
            yield
        finally:
            await self.bring_up(name)
            # Connections of one process to one address are shared: once this one is up, chat's is.
            async with connected(open_channel(self.address(name), _CONTRACTS[name])):
                pass

    async def lapsed(self, run_id: str) -> None:
        """Returns once the lease of a run's owner has lapsed, as the database sees it."""

        async def has_lapsed() -> bool:
            statement = "SELECT lease_expires_at < clock_timestamp() FROM chat.run WHERE id = $1"
            return bool(await self._rows.fetchval(statement, run_id))

        await eventually(has_lapsed)

    async def forsake(self, run_id: str) -> None:
        """Has the lease of an owner that is gone be long lapsed; returns once the run is another's or has ended.

        Tests say so, rather than wait for leases that are short: on a busy machine those lapse also while their owner lives.
        """
        fence = await self._rows.fetchval("SELECT fence FROM chat.run WHERE id = $1", run_id)

        async def is_taken() -> bool:
            # Said until it is so: what the owner had asked for before it went may be done only now, and renew the lease.
            changed = await self._rows.execute(
                "UPDATE chat.run SET lease_expires_at = now() - interval '1 h', suspected_at = now() - interval '1 h'"
                " WHERE id = $1 AND fence = $2 AND ended_at IS NULL",
                run_id,
                fence,
            )
            return str(changed) == "UPDATE 0"

        await eventually(is_taken)

    async def stop(self) -> None:
        for name in list(self._servers):
            await self.take_down(name)

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}"

    @contextlib.asynccontextmanager
    async def chat(self, **overrides: Any) -> AsyncIterator[Instance]:
        """Serves an instance of chat for the length of the block."""
        async with assemble(ChatConfig(**self.settings(**overrides))) as chat:
            await chat.server.start()
            await chat.prepare()
            try:
                async with connected(open_channel(f"127.0.0.1:{chat.server.port}", pb.DESCRIPTOR)) as channel:
                    yield Instance(chat, channel)
            finally:
                # What a test leaves behind must not write into the next one, nor go on there.
                for run_id in list(chat.host.live):
                    chat.runs.cancel_own(run_id)
                await chat.drain(1)
                await chat.server.stop(0)

    def process(self, **overrides: Any) -> contextlib.AbstractAsyncContextManager[Process]:
        """Runs an instance of chat as a process of its own for the length of the block."""
        return process.running(self.settings(**overrides))

    def settings(self, **overrides: Any) -> dict[str, Any]:
        """Returns what an instance of chat is told."""
        given: dict[str, Any] = {
            "listen": LOOPBACK,
            "auth_address": self.address("auth"),
            "data_address": self.address("data"),
            "gateway_address": self.address("gateway"),
            "redis_url": Secret(self.redis_url),
            "actor_key": Secret(ACTOR_KEY),
            "checkpoint_every_s": 0.1,
            "claim_every_s": 0.2,
            "title_model": "",
            "requests_per_minute": 0,
        }
        return given | overrides

    async def as_member(self, person: Person) -> Person:
        """Returns somebody of the same organization who is no more than a member of it."""
        return await self._with_token(person, datetime.now(UTC) + timedelta(minutes=5), role="member")

    async def until(self, ends_at: datetime, person: Person) -> Person:
        """Returns the same person with a token that ends then."""
        return await self._with_token(person, ends_at)

    async def _with_token(self, person: Person, ends_at: datetime, **claims: str) -> Person:
        given = identity_of(person.token).claims
        began_at = ends_at - timedelta(minutes=15)
        token = await self._keys.sign({**given, **claims}, issued_at=began_at, expires_at=ends_at)
        return Person(token, person.org_id, self._data_channel)

    async def person(self) -> Person:
        """Signs up somebody new."""
        stub = auth_pb2_grpc.AuthServiceStub(self._auth_channel)
        request = auth_pb2.SignUpRequest(email=f"{uuid.uuid4().hex}@example.org", password="correct horse battery")
        response = await unary(stub.SignUp, request, timeout_s=20)
        return Person(response.session.access_token, response.session.user.org_id, self._data_channel)


@dataclass(frozen=True)
class Instance:
    """One instance of chat and the way to it."""

    chat: Chat
    channel: grpc.aio.Channel


class Person:
    """Somebody signed in; refusals are raised as the vocabulary's errors."""

    def __init__(self, token: str, org_id: str, data_channel: grpc.aio.Channel) -> None:
        self.token = token
        self.org_id = org_id
        self._runs = data_pb2_grpc.RunServiceStub(data_channel)
        self._conversations = data_pb2_grpc.ConversationServiceStub(data_channel)

    def start(self, instance: Instance | Process, message: str = "Hello?", **fields: Any) -> AsyncGenerator[Any, None]:
        """Streams a new run; close it or read it to its end."""
        request = pb.StartRunRequest(message=message, **fields)
        return stream(chat_pb2_grpc.ChatServiceStub(instance.channel).StartRun, request, token=self.token)

    def watch(self, instance: Instance | Process, run_id: str, after_seq: int = 0) -> AsyncGenerator[Any, None]:
        """Streams a run's events after a position."""
        request = pb.WatchRunRequest(run_id=run_id, after_seq=after_seq)
        return stream(chat_pb2_grpc.ChatServiceStub(instance.channel).WatchRun, request, token=self.token)

    async def cancel(self, instance: Instance | Process, run_id: str) -> pb.Run:
        stub = chat_pb2_grpc.ChatServiceStub(instance.channel)
        response: pb.CancelRunResponse = await unary(
            stub.CancelRun, pb.CancelRunRequest(run_id=run_id), timeout_s=20, token=self.token
        )
        return response.run

    async def submit(self, instance: Instance | Process, message: str = "Hello?", **fields: Any) -> pb.Run:
        stub = chat_pb2_grpc.ChatServiceStub(instance.channel)
        request = pb.SubmitRunRequest(message=message, **fields)
        response: pb.SubmitRunResponse = await unary(stub.SubmitRun, request, timeout_s=20, token=self.token)
        return response.run

    def watch_conversation(
        self, instance: Instance | Process, conversation_id: str, after_run_id: str = "", after_seq: int = 0
    ) -> AsyncGenerator[Any, None]:
        """Streams all runs of a conversation."""
        request = pb.WatchConversationRequest(
            conversation_id=conversation_id, after_run_id=after_run_id, after_seq=after_seq
        )
        return stream(chat_pb2_grpc.ChatServiceStub(instance.channel).WatchConversation, request, token=self.token)

    async def dead_letters(self, instance: Instance | Process) -> pb.ListDeadLettersResponse:
        stub = chat_pb2_grpc.ChatServiceStub(instance.channel)
        response: pb.ListDeadLettersResponse = await unary(
            stub.ListDeadLetters, pb.ListDeadLettersRequest(), timeout_s=20, token=self.token
        )
        return response

    async def retry_dead_letter(self, instance: Instance | Process, run_id: str) -> pb.Run:
        stub = chat_pb2_grpc.ChatServiceStub(instance.channel)
        request = pb.RetryDeadLetterRequest(run_id=run_id)
        response: pb.RetryDeadLetterResponse = await unary(
            stub.RetryDeadLetter, request, timeout_s=20, token=self.token
        )
        return response.run

    async def drop_dead_letter(self, instance: Instance | Process, run_id: str) -> None:
        stub = chat_pb2_grpc.ChatServiceStub(instance.channel)
        request = pb.DropDeadLetterRequest(run_id=run_id)
        await unary(stub.DropDeadLetter, request, timeout_s=20, token=self.token)

    async def get(self, instance: Instance | Process, run_id: str) -> pb.Run:
        stub = chat_pb2_grpc.ChatServiceStub(instance.channel)
        response: pb.GetRunResponse = await unary(
            stub.GetRun, pb.GetRunRequest(run_id=run_id), timeout_s=20, token=self.token
        )
        return response.run

    async def begin(self, instance: Instance | Process, message: str = "Hello?", *, text: str, **fields: Any) -> Live:
        """Starts a run and reads on until so much text is out; the stream stays open."""
        live = Live(Screen(), self.start(instance, message, **fields))
        while not live.screen.events or live.screen.text != text:
            live.screen.take(await anext(live.responses))
        return live

    async def ask(self, instance: Instance | Process, message: str = "Hello?", **fields: Any) -> Screen:
        """Has a whole turn."""
        return await Screen().read(self.start(instance, message, **fields))

    async def stored(self, run_id: str) -> data_pb2.GetRunResponse:
        """Returns what data holds of a run."""
        response: data_pb2.GetRunResponse = await unary(
            self._runs.GetRun, data_pb2.GetRunRequest(run_id=run_id), timeout_s=20, token=self.token
        )
        return response

    async def stored_text(self, run_id: str) -> str:
        return "".join(part.text for part in (await self.stored(run_id)).answer.parts)

    async def begin_elsewhere(self, message: str = "Hello?", *, owner: str, lease_s: float) -> data_pb2.Run:
        """Begins a run as an instance would that is not there."""
        request = data_pb2.BeginRunRequest(content=message, owner=owner, history_max_messages=10)
        request.lease.FromMilliseconds(int(lease_s * 1000))
        response = await unary(self._runs.BeginRun, request, timeout_s=20, token=self.token)
        run: data_pb2.Run = response.run
        return run

    async def checkpoint(self, run: data_pb2.Run, text: str, last_seq: int, *, lease_s: float) -> None:
        request = data_pb2.CheckpointRunRequest(
            run_id=run.id, fence=run.fence, parts=[data_pb2.Part(text=text)], last_seq=last_seq
        )
        request.lease.FromMilliseconds(int(lease_s * 1000))
        await unary(self._runs.CheckpointRun, request, timeout_s=20, token=self.token)

    async def finish(
        self, run_id: str, status: data_pb2.RunStatus.ValueType, text: str, *, last_seq: int, fence: int = 1
    ) -> None:
        request = data_pb2.FinishRunRequest(
            run_id=run_id, fence=fence, status=status, parts=[data_pb2.Part(text=text)], last_seq=last_seq
        )
        await unary(self._runs.FinishRun, request, timeout_s=20, token=self.token)

    async def delete_conversation(self, conversation_id: str) -> None:
        request = data_pb2.DeleteConversationRequest(conversation_id=conversation_id)
        await unary(self._conversations.DeleteConversation, request, timeout_s=20, token=self.token)

    async def messages(self, conversation_id: str) -> list[data_pb2.Message]:
        request = data_pb2.ListMessagesRequest(conversation_id=conversation_id)
        response = await unary(self._conversations.ListMessages, request, timeout_s=20, token=self.token)
        return list(response.messages)


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = 15) -> None:
    """Returns once something is so."""
    async with asyncio.timeout(within_s):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def refusal(awaitable: Any, screen: Screen | None = None) -> ParleyError:
    """Returns what a call or a stream that must fail was refused with; `screen` takes what came before."""
    try:
        if hasattr(awaitable, "__aiter__"):
            result: Any = (await (screen or Screen()).read(awaitable)).events
        else:
            result = await awaitable
    except ParleyError as error:
        return error
    raise AssertionError(f"not refused: {result}")
