"""The embedded Postgres is waited for through whatever a server that is coming up answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.local.postgres import EmbeddedPostgres, PostgresError
from deploy.local.process import Process


def refusal(code: str) -> bytes:
    """Returns a server's ErrorResponse with this SQLSTATE, after which it hangs up."""
    fields = f"SFATAL\0VFATAL\0C{code}\0Mno\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


async def test_a_connection_that_breaks_while_the_server_comes_up_is_tried_again(tmp_path: Path) -> None:
    """The second answer, a wrong password, is final: it shows that there was a second try."""
    answers = [refusal("08006"), refusal("28P01")]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    postgres = EmbeddedPostgres(tmp_path)
    port = server.sockets[0].getsockname()[1]
    postgres.url = f"postgresql://postgres:secret@127.0.0.1:{port}/parley"
    postgres.process = Process.spawn(("/bin/sh", "-c", "exec sleep 60"))
    try:
        with pytest.raises(PostgresError, match="another password"):
            await postgres._await_ready()
    finally:
        await postgres.process.stop()
        server.close()
        await server.wait_closed()
    assert not answers
