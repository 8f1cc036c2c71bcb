"""A server drains on SIGTERM: the call under way finishes, new ones are refused, the process ends well."""

import asyncio
import signal
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parley.chat.v1 import chat_pb2, chat_pb2_grpc

PROGRAM = """
import asyncio, uvloop
from parley.chat.v1 import chat_pb2, chat_pb2_grpc
from runtime.server import Server, ServerConfig, Servicer, serve

class Slow(chat_pb2_grpc.ChatServiceServicer):
    async def WatchRun(self, request, context):
        yield chat_pb2.WatchRunResponse(run_id="first")
        await asyncio.sleep(1)
        yield chat_pb2.WatchRunResponse(run_id="last")

async def drain():
    print("drained", flush=True)

async def main():
    config = ServerConfig(listen="127.0.0.1:0", drain_grace_s=10)
    item = Servicer(chat_pb2_grpc.add_ChatServiceServicer_to_server, Slow(), "parley.chat.v1.ChatService", ("WatchRun",))
    server = Server("chat", config.listen, [item], verifier=None)
    print(server.port, flush=True)
    await serve(server, config, drain=drain)
    print("closed", flush=True)

uvloop.run(main())
"""


async def test_sigterm_lets_the_call_under_way_finish() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="parley.chat.v1.ChatService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = chat_pb2_grpc.ChatServiceStub(channel).WatchRun(chat_pb2.WatchRunRequest())
        responses = aiter(call)
        assert (await anext(responses)).run_id == "first"
        process.send_signal(signal.SIGTERM)
        assert [response.run_id async for response in responses] == ["last"]
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert {"drained", "closed"} <= set(output.decode().split())
