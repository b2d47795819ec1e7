"""Where a health check may go: addresses, certificates, redirects; and what it never takes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.bootstrap.control_plane import open_services
from pipeline.errors import InvalidInput
from pipeline.registries import wire
from tests.support.http.certificates import Authority
from tests.support.http.raw_server import Talk, saying, serving
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door, P, entry
from tests.support.tenants import principal

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "[::]",
    "[fe80::1]",
    "[ff02::1]",
    "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
]
PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "[::1]", "[fd12:3456::1]"]


@pytest.fixture(scope="module")
async def strict(yard: Yard) -> AsyncIterator[Yard]:
    """The same installation, as one with the setting for private addresses off sees it."""
    settings = yard.settings.model_copy(update={"allow_private_addresses": False})
    async with open_services(settings, name="strict") as strict:
        yield strict


class Recorder:
    """Answers every request with `answer` and keeps the heads."""

    def __init__(self, answer: str, *headers: str, body: str = "") -> None:
        lines = [f"HTTP/1.1 {answer}", *headers, f"Content-Length: {len(body)}", "", body]
        self.answer = "\r\n".join(lines).encode()
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)

    @property
    def proofs(self) -> list[bytes]:
        return [head for head in self.heads if b"authorization:" in head.lower()]


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_no_spelling_of_a_forbidden_address_gets_into_an_entry(door: Door, host: str) -> None:
    url = f"http://{host}:5000"
    answer = await door.call("POST", "/container_registry", json={f"{P}public_url": url})
    assert answer.status_code == 400, answer.text
    id = await door.create()
    answer = await door.put(id, {f"{P}public_url": url})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("host", PRIVATE)
async def test_private_and_loopback_addresses_need_the_setting(
    door: Door, strict: Yard, host: str
) -> None:
    given = entry(public_url=f"http://{host}:5001")
    with pytest.raises(InvalidInput, match="MODELYARD_ALLOW_PRIVATE_ADDRESSES"):
        await strict.registries.service.create(principal(door.org), wire.read(given))
    await door.create(public_url=given[f"{P}public_url"])


async def test_a_name_of_a_private_address_is_blocked_without_the_setting(
    door: Door, strict: Yard
) -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as server:
        id = await door.create(public_url=f"http://localhost:{server.port}")
        assert (await door.check(id))["oci"] is True
        reached = server.connections
        await strict.registries.checks.check(await door.record(id), actor="test")
        health = (await door.get(id))[f"{P}health"]
        assert (health["reachable"], health["error_kind"]) == (False, "blocked")
        assert health["status_code"] is None
        assert server.connections == reached


async def test_a_redirect_to_a_private_address_is_blocked_without_the_setting(
    door: Door, strict: Yard
) -> None:
    """The first hop is the installation's own registry, which may be anywhere."""
    there = Recorder("200 OK")
    async with serving(there) as target:
        away = Recorder("302 Found", f"Location: http://127.0.0.1:{target.port}/v2/")
        async with serving(away) as server:
            own = f"127.0.0.1:{server.port}"
            settings = strict.settings.model_copy(update={"registry": own})
            id = await door.create(public_url=f"http://{own}")
            await door.check(id)
            assert there.heads
            there.heads.clear()
            async with open_services(settings, name="own") as yard:
                await yard.registries.checks.check(await door.record(id), actor="test")
    health = (await door.get(id))[f"{P}health"]
    assert (health["reachable"], health["status_code"]) == (True, 302)
    assert (health["reason"], health["error_kind"]) == ("Found", "blocked")
    assert there.heads == []


async def test_a_certificate_of_nobody_known_is_a_fault_of_tls(door: Door) -> None:
    ok = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with serving(ok, tls=Authority().server("localhost")) as server:
        health = await door.check(await door.create(public_url=f"https://localhost:{server.port}"))
    assert (health["reachable"], health["error_kind"]) == (False, "tls")
    assert (health["status_code"], health["oci"]) == (None, False)


@pytest.mark.parametrize("of", ["the first host", "the second host"])
async def test_credentials_never_follow_a_redirect(door: Door, of: str) -> None:
    proof = Recorder("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
    async with serving(proof) as second:
        target = f"127.0.0.1:{second.port}"
        moved = Recorder("307 Temporary Redirect", f"Location: http://{target}/v2/")
        async with serving(moved) as first:
            host = f"127.0.0.1:{first.port}"
            secret = await door.secret(host if of == "the first host" else target)
            id = await door.create(public_url=f"http://{host}", secret=secret)
            health = await door.check(id)
    assert (health["status_code"], health["auth_required"]) == (401, True)
    assert health["credentials_ok"] is None
    assert moved.heads
    assert proof.heads
    assert moved.proofs + proof.proofs == []


def asking_for_a_token(realm: str) -> Talk:
    """A registry that takes the bearer token `good` only."""
    challenge = f'WWW-Authenticate: Bearer realm="{realm}",service="registry"'
    denied = f"HTTP/1.1 401 Unauthorized\r\n{challenge}\r\nContent-Length: 0\r\n\r\n".encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            is_good = b"authorization: bearer good" in head.lower()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if is_good else denied)

    return talk


def giving_a_token(username: str, password: str) -> Talk:
    proof = base64.b64encode(f"{username}:{password}".encode()).lower()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = json.dumps({"token": "good" if proof in head.lower() else "bad"}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return talk


@pytest.mark.parametrize(("password", "accepted"), [(PASSWORD, True), ("no", False)])
async def test_a_registry_with_a_token_service_takes_the_right_password(
    door: Door, password: str, accepted: bool
) -> None:
    async with (
        serving(giving_a_token(USER, PASSWORD)) as tokens,
        serving(asking_for_a_token(f"http://127.0.0.1:{tokens.port}/token")) as server,
    ):
        host = f"127.0.0.1:{server.port}"
        secret = await door.secret(host, username=USER, password=password)
        health = await door.check(await door.create(public_url=f"http://{host}", secret=secret))
    assert (health["oci"], health["auth_required"]) == (True, True)
    assert health["credentials_ok"] is accepted


def hops(wanted: int) -> Talk:
    """Redirects that many times, then answers."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            done = int(head.split(b"hop=")[1].split(b" ")[0]) if b"hop=" in head else 0
            if done == wanted:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            else:
                writer.write(
                    b"HTTP/1.1 302 Found\r\nLocation: /v2/?hop=%d\r\nContent-Length: 0\r\n\r\n"
                    % (done + 1)
                )

    return talk


EXPECTED: list[tuple[int, dict[str, Any]]] = [
    (3, {"status_code": 200, "oci": True, "error_kind": None}),
    (4, {"status_code": 302, "oci": False, "error_kind": "redirect"}),
]


@pytest.mark.parametrize(("count", "expected"), EXPECTED)
async def test_three_redirects_are_followed_and_a_fourth_is_not(
    door: Door, count: int, expected: dict[str, Any]
) -> None:
    async with serving(hops(count)) as server:
        health = await door.check(await door.create(public_url=f"http://127.0.0.1:{server.port}"))
    assert health["reachable"] is True
    assert {name: health[name] for name in expected} == expected
