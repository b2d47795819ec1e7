"""Connections as they are on the wire, to servers on loopback that say just what we like."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from pipeline.adapters.http_transport import PinnedTransport
from pipeline.adapters.http_wire import BUFFER_BYTES, HEAD_MAX_BYTES, Unanswered
from tests.support.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    port: int
    connections: int = 0


@asynccontextmanager
async def serving(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """`talk` has each connection to itself."""
    talks: set[asyncio.Task[None]] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client hung up
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info.connections += 1
        talks.add(asyncio.ensure_future(hold(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    info = Server(server.sockets[0].getsockname()[1])
    try:
        yield info
    finally:
        server.close()
        for _ in range(5):
            # A connection may be accepted, and not yet known to `accept`.
            await asyncio.sleep(0)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def saying(*answers: bytes, then_close: bool = False) -> Talk:
    """Answers the requests of each connection in turn; the last answer repeats."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            if then_close:
                return

    return talk


@pytest.fixture
async def transport() -> AsyncIterator[PinnedTransport]:
    transport = PinnedTransport()
    yield transport
    await transport.aclose()


async def ask(
    transport: PinnedTransport,
    server: Server,
    method: str = "GET",
    *,
    content: bytes | AsyncIterator[bytes] | None = None,
    scheme: str = "http",
    host: str = "server.example",
    pinned: tuple[str, ...] = ("127.0.0.1",),
) -> tuple[int, bytes]:
    request = httpx.Request(
        method,
        f"{scheme}://{host}:{server.port}/path?q=1",
        content=content,
        extensions={"pinned": pinned},
    )
    response = await transport.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()


# --- framing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            b"ok",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b'HTTP/1.1 304 Not Modified\r\nEtag: "x"\r\n\r\n', b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_answers_are_read_and_the_connection_is_kept(
    transport: PinnedTransport, answer: bytes, body: bytes
) -> None:
    async with serving(saying(answer)) as server:
        for _ in range(3):
            assert (await ask(transport, server))[1] == body
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_answers_that_end_the_connection(transport: PinnedTransport, answer: bytes) -> None:
    async with serving(saying(answer, then_close=True)) as server:
        for _ in range(2):
            assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 2


async def test_the_length_of_a_head_answer_is_not_waited_for(transport: PinnedTransport) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
    async with serving(saying(head)) as server:
        assert await ask(transport, server, "HEAD") == (200, b"")
        assert await ask(transport, server, "HEAD") == (200, b"")
        assert server.connections == 1


async def test_what_follows_an_answer_unasked_is_not_taken_for_the_next_one(
    transport: PinnedTransport,
) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    async with serving(saying(OK + forged)) as server:
        for _ in range(3):
            assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 3


async def test_a_body_after_a_head_answer_is_not_taken_for_the_next_one(
    transport: PinnedTransport,
) -> None:
    async with serving(saying(OK)) as server:
        assert await ask(transport, server, "HEAD") == (200, b"")
        assert await ask(transport, server) == (200, b"ok")


async def test_an_answer_that_comes_late_for_nobody_closes_the_connection(
    transport: PinnedTransport,
) -> None:
    go, closed = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        try:
            await reader.read()
        finally:
            closed.set()

    async with serving(talk) as server:
        assert await ask(transport, server) == (200, b"ok")
        go.set()
        await asyncio.wait_for(closed.wait(), 5)
        go.clear()
        assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 2
        go.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * HEAD_MAX_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200",
    ],
)
async def test_what_is_not_http_is_refused(transport: PinnedTransport, answer: bytes) -> None:
    async with serving(saying(answer, then_close=True)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(transport, server)


async def test_a_connection_that_breaks_is_said_so(transport: PinnedTransport) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])
        await writer.drain()
        writer.transport.abort()

    async with serving(talk) as server:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await ask(transport, server)


async def test_a_big_body_waits_for_its_reader(transport: PinnedTransport) -> None:
    piece = b"x" * 65536
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * 1000))
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with serving(talk) as server:
        request = httpx.Request(
            "GET", f"http://h:{server.port}/", extensions={"pinned": ("127.0.0.1",)}
        )
        response = await transport.handle_async_request(request)
        received = 0
        async for got in response.aiter_raw():
            received += len(got)
            # What is neither here nor with the server lies in the buffers of the two sockets.
            assert len(got) <= BUFFER_BYTES + 256 * 1024
        await response.aclose()
        assert received == sent == len(piece) * 1000


async def test_a_body_that_nobody_reads_is_held_back(transport: PinnedTransport) -> None:
    sent, stuck = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            try:
                await asyncio.wait_for(writer.drain(), 0.2)
            except TimeoutError:
                stuck.set()
                return
            sent += 65536

    async with serving(talk) as server:
        request = httpx.Request(
            "GET", f"http://h:{server.port}/", extensions={"pinned": ("127.0.0.1",)}
        )
        response = await transport.handle_async_request(request)
        await asyncio.wait_for(stuck.wait(), 10)
        await response.aclose()
        assert sent < 32 * 1024 * 1024


# --- sending ----------------------------------------------------------------------------------


def echoing() -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"chunked" in head.lower():
                rest = await reader.readuntil(b"0\r\n\r\n")
            else:
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
                rest = await reader.readexactly(length)
            body = head + rest
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    return talk


async def test_a_request_as_it_is_written(transport: PinnedTransport) -> None:
    async with serving(echoing()) as server:
        _, said = await ask(transport, server, "POST", content=b"hello")
    lines = said.split(b"\r\n")
    assert lines[0] == b"POST /path?q=1 HTTP/1.1"
    assert b"Host: server.example:%d" % server.port in lines
    assert said.endswith(b"\r\n\r\nhello")


async def test_a_streamed_body_is_chunked(transport: PinnedTransport) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"three"):
            yield piece

    async with serving(echoing()) as server:
        _, said = await ask(transport, server, "PUT", content=pieces())
    assert said.endswith(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")


async def test_a_refusal_in_mid_upload_is_an_answer(transport: PinnedTransport) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with serving(talk) as server:
        status, _ = await asyncio.wait_for(ask(transport, server, "PUT", content=endless()), 10)
        assert status == 413


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"X": "a\nHost: evil"}),
        ("GET", {"X": "a\r\n\r\nGET /"}),
        ("GET", {"X": "a\0"}),
        ("GET", {"X\r\nY": "a"}),
        ("GET / HTTP/1.1\r\nX:", {}),
        ("", {}),
    ],
)
async def test_nothing_can_be_smuggled_into_a_head(
    transport: PinnedTransport, method: str, headers: dict[str, str]
) -> None:
    async with serving(saying(OK)) as server:
        request = httpx.Request(
            method,
            f"http://h:{server.port}/",
            headers=headers,
            extensions={"pinned": ("127.0.0.1",)},
        )
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(request)
        assert server.connections == 0


# --- connections ------------------------------------------------------------------------------


async def test_a_request_without_checked_addresses_goes_nowhere(transport: PinnedTransport) -> None:
    async with serving(saying(OK)) as server:
        with pytest.raises(httpx.LocalProtocolError, match="no checked address"):
            await ask(transport, server, pinned=(), host="127.0.0.1")
        assert server.connections == 0


async def test_the_name_is_never_resolved(
    transport: PinnedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("resolved")

    async with serving(saying(OK)) as server:
        monkeypatch.setattr("socket.getaddrinfo", refuse)
        assert await ask(transport, server, host="localhost") == (200, b"ok")


async def test_the_next_address_is_tried_when_one_refuses(transport: PinnedTransport) -> None:
    async with serving(saying(OK)) as server:
        assert await ask(transport, server, pinned=("127.0.0.2", "127.0.0.1")) == (200, b"ok")


async def test_nobody_listening_is_a_connect_error(transport: PinnedTransport) -> None:
    async with serving(saying(OK)) as server:
        pass
    with pytest.raises(httpx.ConnectError) as caught:
        await ask(transport, server)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_another_scheme_is_not_spoken(transport: PinnedTransport) -> None:
    async with serving(saying(OK)) as server:
        with pytest.raises(httpx.UnsupportedProtocol):
            await ask(transport, server, scheme="ftp")


async def test_an_idle_connection_that_the_server_closed_is_replaced(
    transport: PinnedTransport,
) -> None:
    async with serving(saying(OK, then_close=True)) as server:
        for _ in range(3):
            assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 3


async def test_a_connection_closed_while_it_is_used_again_is_replaced_for_get_but_not_for_post(
    transport: PinnedTransport,
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")

    async with serving(once) as server:
        assert await ask(transport, server) == (200, b"ok")
        assert await ask(transport, server) == (200, b"ok")
        with pytest.raises(Unanswered):
            await ask(transport, server, "POST")


async def test_a_fresh_connection_that_is_closed_at_once_is_not_tried_for_ever(
    transport: PinnedTransport,
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with serving(hang_up) as server:
        with pytest.raises(Unanswered):
            await ask(transport, server)
        assert server.connections == 1


async def test_a_cancelled_request_closes_its_connection(transport: PinnedTransport) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        try:
            await reader.read()
        finally:
            closed.set()

    async with serving(hang) as server:
        task = asyncio.create_task(ask(transport, server))
        await asyncio.wait_for(asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 5)


async def test_an_unread_body_closes_its_connection(transport: PinnedTransport) -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")) as server:
        for _ in range(2):
            request = httpx.Request(
                "GET", f"http://h:{server.port}/", extensions={"pinned": ("127.0.0.1",)}
            )
            response = await transport.handle_async_request(request)
            await response.aclose()
        assert server.connections == 2


async def test_connections_to_one_origin_are_limited() -> None:
    gate, waiting = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            if server.connections == 2:
                waiting.set()
            await gate.wait()
            writer.write(OK)

    transport = PinnedTransport(per_origin=2)
    async with serving(talk) as server:
        tasks = [asyncio.create_task(ask(transport, server)) for _ in range(6)]
        await asyncio.wait_for(waiting.wait(), 5)
        gate.set()
        assert await asyncio.gather(*tasks) == [(200, b"ok")] * 6
        assert server.connections == 2
        await transport.aclose()


async def test_a_slow_origin_does_not_hold_up_another() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    transport = PinnedTransport(per_origin=1)
    async with serving(hang) as slow, serving(saying(OK)) as quick:
        stuck = asyncio.create_task(ask(transport, slow))
        assert await asyncio.wait_for(ask(transport, quick), 5) == (200, b"ok")
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
        await transport.aclose()


async def test_idle_connections_are_closed_after_a_while() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()
        closed.set()

    transport = PinnedTransport(idle_s=0.05)
    async with serving(talk) as server:
        await ask(transport, server)
        await asyncio.wait_for(closed.wait(), 5)


async def test_closing_the_transport_closes_idle_connections() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()
        closed.set()

    transport = PinnedTransport()
    async with serving(talk) as server:
        await ask(transport, server)
        await transport.aclose()
        await asyncio.wait_for(closed.wait(), 5)


async def test_nothing_is_left_of_origins_that_are_not_used_any_more() -> None:
    transport = PinnedTransport(idle_max=0)
    async with serving(saying(OK)) as server:
        for number in range(20):
            await ask(transport, server, host=f"h{number}.example")
        with pytest.raises(httpx.ConnectError):
            await ask(transport, Server(port=1))
    assert not transport._lanes
    gc.collect()


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def test_the_certificate_is_checked_for_the_name_not_for_the_address(
    authority: Authority,
) -> None:
    transport = PinnedTransport(ssl_context=authority.client())
    context = authority.server("server.example")
    async with serving(saying(OK), tls=context) as server:
        assert await ask(transport, server, scheme="https") == (200, b"ok")
        with pytest.raises(httpx.ConnectError) as caught:
            await ask(transport, server, scheme="https", host="other.example")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        await transport.aclose()


async def test_a_connection_to_one_name_never_serves_another_at_the_same_address(
    authority: Authority,
) -> None:
    names: list[str | None] = []
    context = authority.server("a.example", "b.example")
    context.sni_callback = lambda _, name, __: names.append(name)
    transport = PinnedTransport(ssl_context=authority.client())
    async with serving(saying(OK), tls=context) as server:
        for host in ("a.example", "b.example", "a.example"):
            await ask(transport, server, scheme="https", host=host)
        await transport.aclose()
    assert names == ["a.example", "b.example"]


async def test_an_unknown_authority_is_not_trusted(authority: Authority) -> None:
    transport = PinnedTransport()
    async with serving(saying(OK), tls=authority.server("server.example")) as server:
        with pytest.raises(httpx.ConnectError) as caught:
            await ask(transport, server, scheme="https")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_a_server_without_tls_is_told_from_one_with_a_bad_certificate(
    transport: PinnedTransport,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with serving(talk) as server:
        with pytest.raises(httpx.ConnectError) as caught:
            await ask(transport, server, scheme="https")
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert not isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    transport = PinnedTransport(connect_s=0.05)
    async with serving(hang) as server:
        with pytest.raises(httpx.ConnectTimeout):
            await ask(transport, server, scheme="https")
