"""Which connections are made, kept, shared and closed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from pipeline.adapters.http.connection import Unanswered
from pipeline.adapters.http.pool import PinnedTransport
from tests.support.http.certificates import Authority
from tests.support.http.raw_server import OK, Server, ask, saying, serving


@pytest.fixture
async def transport() -> AsyncIterator[PinnedTransport]:
    transport = PinnedTransport()
    yield transport
    await transport.aclose()


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
        await asyncio.wait_for(asked.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 30)


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
        await asyncio.wait_for(waiting.wait(), 30)
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
        assert await asyncio.wait_for(ask(transport, quick), 30) == (200, b"ok")
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
        await asyncio.wait_for(closed.wait(), 30)


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
        await asyncio.wait_for(closed.wait(), 30)


async def test_nothing_is_left_of_origins_that_are_not_used_any_more() -> None:
    transport = PinnedTransport(idle_max=0)
    async with serving(saying(OK)) as server:
        for number in range(20):
            await ask(transport, server, host=f"h{number}.example")
        with pytest.raises(httpx.ConnectError):
            await ask(transport, Server(port=1))
    assert not transport._pools


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
