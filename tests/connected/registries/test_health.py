"""Registries are looked at, whatever they do: the facts, their history, their events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.registries.registry import RegistryHealth
from tests.support.http.raw_server import Talk, saying, serving
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door, P, data, kinds
from tests.support.waiting import eventually

KEYS = {
    "reachable",
    "status_code",
    "reason",
    "url",
    "oci",
    "auth_required",
    "credentials_ok",
    "latency_ms",
    "checked_at",
    "error_kind",
}


def said(status: str, *headers: str, body: str = "") -> Talk:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    return saying("\r\n".join(lines).encode())


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    writer.close()


async def test_the_real_registry_is_healthy(door: Door, registry_host: str) -> None:
    url = f"http://{registry_host}"
    health = await door.check(await door.create(public_url=url))
    assert set(health) == KEYS
    checked_at = datetime.fromisoformat(health.pop("checked_at"))
    assert abs((datetime.now(UTC) - checked_at).total_seconds()) < 10
    assert 0 < health.pop("latency_ms") < 5000
    assert health == {
        "reachable": True,
        "status_code": 200,
        "reason": "OK",
        "url": url,
        "oci": True,
        "auth_required": False,
        "credentials_ok": None,
        "error_kind": None,
    }


async def test_a_locked_registry_is_a_registry_and_takes_its_secret_only(
    door: Door, locked_host: str
) -> None:
    url = f"http://{locked_host}"
    anonymous = await door.check(await door.create(public_url=url))
    assert (anonymous["status_code"], anonymous["oci"], anonymous["auth_required"]) == (
        401,
        True,
        True,
    )
    assert anonymous["credentials_ok"] is None
    right = await door.secret(locked_host, "right", username=USER, password=PASSWORD)
    wrong = await door.secret(locked_host, "wrong", username=USER, password="no")
    foreign = await door.secret("other.test:5000", "foreign", username=USER, password=PASSWORD)
    found = {}
    for secret in (right, wrong, foreign):
        id = await door.create(public_url=url, secret=secret)
        assert (await door.get(id))[f"{P}secret"] == secret
        health = await door.check(id)
        assert health["auth_required"]
        found[secret] = health["credentials_ok"]
    assert found == {right: True, wrong: False, foreign: None}


ANSWERS: list[tuple[str, Talk, dict[str, Any]]] = [
    ("html", said("200 OK", "Content-Type: text/html", body="<html>"), {"status_code": 200}),
    ("error", said("500 Oh No"), {"status_code": 500, "reason": "Oh No", "oci": False}),
    ("absent", said("404 Not Found"), {"status_code": 404, "oci": False}),
    ("401 without a challenge", said("401 No"), {"auth_required": True, "oci": False}),
    (
        "401 with one",
        said("401 No", 'WWW-Authenticate: Basic realm="x"'),
        {"auth_required": True, "oci": True, "credentials_ok": None},
    ),
    ("teapot", said("418 I'm a teapot"), {"status_code": 418, "oci": False}),
    ("more than 64 KiB", floods, {"status_code": 200, "oci": True}),
    ("no location", said("302 Found"), {"status_code": 302, "error_kind": None}),
    (
        "to the metadata service",
        said("302 Found", "Location: http://169.254.169.254/latest"),
        {"status_code": 302, "reason": "Found", "error_kind": "blocked", "oci": False},
    ),
    (
        "to the same in hexadecimal",
        said("307 Temporary Redirect", "Location: http://0xa9fea9fe/"),
        {"status_code": 307, "error_kind": "blocked"},
    ),
    (
        "to another protocol",
        said("302 Found", "Location: ftp://registry.test/"),
        {"status_code": 302, "error_kind": "redirect"},
    ),
    (
        "an answer that breaks off",
        saying(b"HTTP/1.1 503 Oh No\r\nContent-Length: 9\r\n\r\nhalf", then_close=True),
        {"status_code": 503, "reason": "Oh No", "error_kind": "protocol", "oci": False},
    ),
    (
        "a challenge that breaks off",
        saying(
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 9\r\n\r\n",
            then_close=True,
        ),
        {"status_code": 401, "error_kind": "protocol", "oci": True, "auth_required": True},
    ),
    ("in circles", said("302 Found", "Location: /v2/"), {"error_kind": "redirect"}),
    (
        "to where nobody is",
        said("302 Found", "Location: http://127.0.0.1:9/"),
        {"status_code": 302, "error_kind": "refused"},
    ),
]


@pytest.mark.parametrize(
    ("talk", "expected"), [each[1:] for each in ANSWERS], ids=[each[0] for each in ANSWERS]
)
async def test_any_answer_makes_it_reachable(
    door: Door, talk: Talk, expected: dict[str, Any]
) -> None:
    async with serving(talk) as server:
        health = await door.check(await door.create(public_url=f"http://127.0.0.1:{server.port}"))
    assert set(health) == KEYS
    assert health["reachable"] is True
    assert {name: health[name] for name in expected} == expected


SILENT: list[tuple[str, Talk, str]] = [
    ("resets", resets, "protocol"),
    ("babbles", babbles, "protocol"),
]


@pytest.mark.parametrize(
    ("talk", "kind"), [each[1:] for each in SILENT], ids=[each[0] for each in SILENT]
)
async def test_without_an_http_answer_it_is_not_reachable(
    door: Door, talk: Talk, kind: str
) -> None:
    async with serving(talk) as server:
        health = await door.check(await door.create(public_url=f"http://127.0.0.1:{server.port}"))
    assert set(health) == KEYS
    assert (health["reachable"], health["status_code"], health["oci"]) == (False, None, False)
    assert health["error_kind"] == kind
    assert health["reason"]


UNREACHABLE = [
    ("http://127.0.0.1:9", "refused"),
    ("https://127.0.0.1:9", "refused"),
    ("http://nowhere.invalid", "dns"),
]


@pytest.mark.parametrize(("url", "kind"), UNREACHABLE)
async def test_what_cannot_be_reached_is_told_by_kind(door: Door, url: str, kind: str) -> None:
    health = await door.check(await door.create(public_url=url))
    assert (health["reachable"], health["error_kind"], health["latency_ms"]) == (False, kind, None)


async def test_a_plain_server_behind_https_is_a_fault_of_tls(
    door: Door, registry_host: str
) -> None:
    health = await door.check(await door.create(public_url=f"https://{registry_host}"))
    assert (health["reachable"], health["error_kind"]) == (False, "tls")


async def test_hanging_registries_take_five_seconds_and_not_more(door: Door) -> None:
    """One that never answers, and one whose answer never ends: that one has answered."""

    async def timed(talk: Talk) -> tuple[dict[str, Any], float]:
        async with serving(talk) as server:
            id = await door.create(public_url=f"http://127.0.0.1:{server.port}")
            began = asyncio.get_running_loop().time()
            return await door.check(id), asyncio.get_running_loop().time() - began

    silent, endless = await asyncio.gather(timed(hangs), timed(trickles))
    for health, took in (silent, endless):
        assert health["error_kind"] == "timeout"
        assert took < 7.5
    assert (silent[0]["reachable"], silent[0]["status_code"]) == (False, None)
    assert (endless[0]["reachable"], endless[0]["status_code"]) == (True, 200)
    assert endless[0]["reason"] == "OK"


async def test_a_literal_address_that_is_forbidden_is_not_even_kept(door: Door) -> None:
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "0.0.0.0"):
        answer = await door.call(
            "POST", "/container_registry", json={f"{P}public_url": f"http://{host}/"}
        )
        assert answer.status_code == 400
    assert await door.found({}) == []


async def test_the_result_is_stored_and_is_an_event_of_the_asker(door: Door) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")
    health = await door.check(id)
    stored = (await door.get(id))[f"{P}health"]
    assert stored["checked_at"] >= health["checked_at"]
    await eventually(lambda: _told(door, id, "checked"))
    events = await door.events(id)
    checked = [event for event in events if event.subject.endswith(".checked")]
    assert data(checked[-1])["id"] == id
    assert data(checked[-1])["health"]["error_kind"] == "refused"
    assert checked[-1].headers["ce-actor"].startswith("token:")
    assert checked[-1].headers["ce-time"]


async def _told(door: Door, id: str, kind: str) -> bool:
    return kind in kinds(await door.events(id))


async def test_a_change_of_state_is_an_event_of_its_own(door: Door) -> None:
    async with serving(said("200 OK")) as server:
        id = await door.create(public_url=f"http://127.0.0.1:{server.port}")
        await door.check(id)
        await door.check(id)
    await door.check(id)

    async def is_told() -> bool:
        """Who asked is answered by the first event of a check; this one comes right after it."""
        return kinds(await door.events(id)).count("health.changed") >= 2

    await eventually(is_told)
    told = kinds(await door.events(id))
    assert told.count("health.changed") == 2
    assert told.count("checked") >= 2


async def test_a_check_changes_neither_the_document_nor_its_time(door: Door) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")
    before = await door.get(id)
    await door.check(id)
    after = await door.get(id)
    assert after.pop(f"{P}health")
    del before[f"{P}health"]
    assert after == before


async def test_many_askers_at_once_are_all_answered(door: Door) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")
    results = await asyncio.gather(*(door.check(id) for _ in range(30)))
    assert {health["error_kind"] for health in results} == {"refused"}
    assert (await door.record(id)).asked == []


async def test_the_last_hundred_checks_are_kept(door: Door, yard: Any) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")
    await door.check(id)
    registry = await door.record(id)
    for _ in range(103):
        await yard.registries.checks.check(registry, actor="test")
    answer = await door.http.get(f"/yard/v1/registries/{id}/checks")
    items = answer.json()["items"]
    assert len(items) == 100
    times = [item["checked_at"] for item in items]
    assert times == sorted(times, reverse=True)
    assert set(items[0]) == KEYS
    await door.call("DELETE", f"/container_registry/{id}")
    assert (await door.http.get(f"/yard/v1/registries/{id}/checks")).status_code == 404


async def test_a_registry_that_moved_while_it_was_looked_at_keeps_no_stale_result(
    door: Door, yard: Any
) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")
    await door.check(id)
    old = await door.record(id)
    await door.updated(id, {f"{P}public_url": "http://nowhere.invalid"})
    await yard.registries.checks.check(old, actor="test")
    assert (await door.check(id))["url"] == "http://nowhere.invalid"
    last = [event for event in await door.events(id) if event.subject.endswith(".checked")][-1]
    assert data(last)["health"]["url"] == "http://nowhere.invalid"


async def test_a_check_that_began_earlier_does_not_overwrite_a_later_one(
    door: Door, yard: Any
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(waits) as server:
        id = await door.create(public_url=f"http://127.0.0.1:{server.port}")
        registry = await door.record(id)
        early = asyncio.create_task(yard.registries.checks.check(registry, actor="test"))
        await begun.wait()
        later = yard.records.clock() + timedelta(seconds=1)
        newer = RegistryHealth(reachable=False, url="http://x", checked_at=later)
        await yard.records.store.change(await door.record(id), {"health": newer}, at=later)
        gate.set()
        await early
    assert (await door.get(id))[f"{P}health"]["reachable"] is False


async def test_a_secret_reaches_no_document_event_or_answer(
    door: Door, locked_host: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = await door.secret(locked_host, username=USER, password=PASSWORD)
    id = await door.create(public_url=f"http://{locked_host}", secret=secret)
    await door.check(id)
    document = str(await door.get(id)) + (await door.query({})).text
    events = b"".join(event.data for event in await door.events(id)).decode()
    for text in (document, events, caplog.text):
        assert PASSWORD not in text
