"""HTTP/1.1 as providers are spoken to, against servers on loopback that say exactly what a test has them say."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp.resolver import ThreadedResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.gateway.http.connection import Broken, Malformed
from services.gateway.http.pool import Pool, Post, Response

CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = CHUNKED + b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nx-checksum: 1\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello, world"


@dataclass
class Server:
    """Answers each request with the next of its answers, the pieces of one apart by a moment; `None` hangs up."""

    answers: list[Sequence[bytes | None]] = field(default_factory=list)
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                for piece in self.answers.pop(0):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


MakeServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve() -> AsyncIterator[MakeServer]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(*answers: Sequence[bytes | None], tls: ssl.SSLContext | None = None) -> Server:
            server = Server([*answers])
            listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
            stack.callback(listening.close)
            host = "localhost" if tls else "127.0.0.1"
            server.url = f"{'https' if tls else 'http'}://{host}:{listening.sockets[0].getsockname()[1]}/v1/chat?a=b"
            return server

        yield make


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(ThreadedResolver(), connections=2) as pool:
        yield pool


async def body(response: Response) -> bytes:
    read = b""
    while data := await response.read():
        read += data
    response.close()
    return read


async def post(pool: Pool, server: Server, text: bytes = b"{}") -> bytes:
    async with asyncio.timeout(10):
        return await body(await pool.post(Post(server.url, "", text), {"x-a": "1"}))


@pytest.mark.parametrize("answer", [WHOLE, SIZED, UNTIL_CLOSE], ids=["chunked", "sized", "until close"])
async def test_an_answer_may_be_cut_anywhere(serve: MakeServer, pool: Pool, answer: bytes) -> None:
    cuts = range(1, len(answer))
    server = await serve(*([answer[:cut], answer[cut:]] + [None] * (answer is UNTIL_CLOSE) for cut in cuts))

    assert [await post(pool, server) for _ in cuts] == [b"hello, world"] * len(cuts)


@pytest.mark.parametrize("answer", [WHOLE, SIZED], ids=["chunked", "sized"])
async def test_an_answer_may_come_byte_by_byte(serve: MakeServer, pool: Pool, answer: bytes) -> None:
    server = await serve([answer[at : at + 1] for at in range(len(answer))])

    assert await post(pool, server) == b"hello, world"


async def test_what_is_sent_is_what_was_given(serve: MakeServer, pool: Pool) -> None:
    server = await serve([SIZED])

    await post(pool, server, b'{"a": 1}')

    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat?a=b HTTP/1.1"
    assert set(lines[1:]) == {server.url.split("/")[2].join(["host: ", ""]).encode(), b"x-a: 1", b"content-length: 8"}
    assert sent == b'{"a": 1}'


async def test_a_connection_serves_one_call_after_the_other(serve: MakeServer, pool: Pool) -> None:
    server = await serve([WHOLE], [SIZED], [WHOLE])

    for _ in range(3):
        await post(pool, server)

    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [SIZED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), SIZED.replace(b"1.1", b"1.0"), SIZED + b"more"],
    ids=["close", "old", "more than was said"],
)
async def test_a_connection_that_ends_with_its_answer_is_not_used_again(
    serve: MakeServer, pool: Pool, answer: bytes
) -> None:
    server = await serve([answer], [SIZED])

    for _ in range(2):
        assert await post(pool, server) == b"hello, world"

    assert server.connections == 2


async def test_a_connection_that_was_closed_meanwhile_is_made_good(serve: MakeServer, pool: Pool) -> None:
    server = await serve([SIZED], [None], [SIZED])

    for _ in range(2):
        assert await post(pool, server) == b"hello, world"

    assert server.connections == 2


async def test_a_connection_that_was_waited_for_is_made_good_too(serve: MakeServer, pool: Pool) -> None:
    server = await serve([SIZED], [SIZED], [None], [SIZED])
    first, second = [await pool.post(Post(server.url, "", b""), {}) for _ in range(2)]
    waiting = asyncio.create_task(post(pool, server))
    await asyncio.sleep(0)

    await body(first)

    assert await waiting == b"hello, world"
    assert server.connections == 3
    second.close()


async def test_a_request_is_sent_once_more_at_most_and_as_it_was(serve: MakeServer, pool: Pool) -> None:
    server = await serve([SIZED], [None], [None], [SIZED])
    await post(pool, server)

    with pytest.raises(Broken):
        await post(pool, server, b'{"a": 1}')

    assert len(server.requests) == 3
    assert server.requests[1] == server.requests[2]


async def test_a_new_connection_that_says_nothing_is_not_tried_again(serve: MakeServer, pool: Pool) -> None:
    server = await serve([None], [SIZED])

    with pytest.raises(Broken):
        await post(pool, server)

    assert (len(server.requests), server.connections) == (1, 1)


async def test_who_has_begun_to_answer_is_not_asked_again(serve: MakeServer, pool: Pool) -> None:
    server = await serve([SIZED], [SIZED[:10], None], [SIZED])
    await post(pool, server)

    with pytest.raises(Broken):
        await post(pool, server)

    assert len(server.requests) == 2


@pytest.mark.parametrize("answer", [WHOLE[:-7], CHUNKED + b"5\r\nhel", SIZED[:-1], SIZED[:20]])
async def test_an_answer_that_ends_too_early_is_told_from_a_whole_one(
    serve: MakeServer, pool: Pool, answer: bytes
) -> None:
    server = await serve([answer, None])

    with pytest.raises(Broken):
        await post(pool, server)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n",
        CHUNKED + b"0x5\r\nhello\r\n",
        CHUNKED + b"5\r\nhelloworld\r\n",
        CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n5\r\nhelloworld\r\n",
        CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n\r\n",
        CHUNKED + b"fffffffff\r\n",
        CHUNKED + b"1" * 2000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
async def test_what_is_no_http_is_refused(serve: MakeServer, pool: Pool, answer: bytes) -> None:
    server = await serve([answer, None])

    with pytest.raises(Malformed):
        await post(pool, server)


async def test_what_comes_before_the_answer_is_passed_over(serve: MakeServer, pool: Pool) -> None:
    server = await serve([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + SIZED])

    assert await post(pool, server) == b"hello, world"


async def test_who_leaves_in_the_middle_closes_the_connection_at_once(serve: MakeServer, pool: Pool) -> None:
    server = await serve([CHUNKED + b"5\r\nhello\r\n"])
    response = await pool.post(Post(server.url, "", b""), {})
    assert await response.read() == b"hello"

    response.close()

    await asyncio.wait_for(server.hung_up.wait(), 10)


async def test_no_more_connections_than_allowed(serve: MakeServer, pool: Pool) -> None:
    server = await serve([SIZED], [SIZED], [SIZED], [SIZED])
    first, second = [await pool.post(Post(server.url, "", b""), {}) for _ in range(2)]
    third = asyncio.create_task(post(pool, server))
    left = asyncio.create_task(post(pool, server))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait({left})

    assert (len(server.requests), server.connections) == (2, 2)
    await body(first)
    assert await third == b"hello, world"
    assert await body(second) == b"hello, world"
    assert server.connections == 2


async def test_who_waits_for_a_connection_to_elsewhere_gets_the_place_of_one(serve: MakeServer, pool: Pool) -> None:
    busy, other = await serve([SIZED], [SIZED]), await serve([SIZED])
    first, second = [await pool.post(Post(busy.url, "", b""), {}) for _ in range(2)]
    waiting = asyncio.create_task(post(pool, other))
    await asyncio.sleep(0)

    await body(first)

    assert await waiting == b"hello, world"
    second.close()


async def test_a_connection_that_nobody_uses_makes_room_for_one_to_elsewhere(serve: MakeServer, pool: Pool) -> None:
    servers = [await serve([SIZED]) for _ in range(4)]

    for server in servers:
        assert await post(pool, server) == b"hello, world"


async def test_a_reader_who_falls_behind_holds_up_the_provider(serve: MakeServer, pool: Pool) -> None:
    """What waits here is bounded, however much is sent."""
    size = 64 * 1024 * 1024
    server = await serve([f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode(), b"x" * size])
    response = await pool.post(Post(server.url, "", b""), {})
    await asyncio.sleep(0.2)

    assert len(await response.read()) < 4 * 1024 * 1024
    read = 0
    while data := await response.read():
        read += len(data)
    assert read > 60 * 1024 * 1024
    response.close()


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {"x\n": "a"}, {"x": "a\nb"}])
async def test_a_header_is_one_line(serve: MakeServer, pool: Pool, headers: dict[str, str]) -> None:
    server = await serve()

    with pytest.raises(ValueError, match="header"):
        await pool.post(Post(server.url, "", b""), headers)


@pytest.mark.parametrize("url", ["ftp://a/b", "/v1", "http://", "http://a:port/"])
async def test_where_no_connection_can_lead_is_refused(pool: Pool, url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library's words
        await pool.post(Post(url, "", b""), {})


async def test_a_server_s_certificate_is_looked_at(
    serve: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = _certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = await serve([WHOLE], tls=tls)

    async with Pool(ThreadedResolver(), connections=1) as pool:
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await post(pool, server)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Pool(ThreadedResolver(), connections=1) as pool:
        assert await post(pool, server) == b"hello, world"
        elsewhere = server.url.replace("localhost", "127.0.0.2")
        with pytest.raises(OSError):  # noqa: PT011 - nobody listens, or the certificate is another's
            await pool.post(Post(elsewhere, "", b""), {})


def _certificate(directory: Path) -> Path:
    """Writes a key and a certificate of `localhost` that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(pem)
    )
    return path
