"""A real HAProxy that follows the records of deployments; replicas are servers of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import Any

import httpx
import pytest

from pipeline import concurrency
from pipeline.access.jwt import TokenKind
from pipeline.errors import Misconfigured, Unreachable
from pipeline.gateway.figures import figures_of
from pipeline.gateway.routing import Listening, commands
from pipeline.gateway.service import Gateway
from pipeline.records.kernel import now
from schemas.access import Role, Token, User
from schemas.deployment import Deployment
from schemas.states import ContainerStatus
from tests.connected.gateway.conftest import KEY, Rig, gateway_of, resolved, token
from tests.support.models.upstreams import Upstream, upstream
from tests.support.records import ORG
from tests.support.systems.services import Services
from tests.support.waiting import eventually


@asynccontextmanager
async def following(gateway: Gateway) -> AsyncIterator[None]:
    running = asyncio.create_task(gateway.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_deployment_is_called_by_path_and_by_host(rig: Rig) -> None:
    made = await rig.deployment()
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        by_path = await rig.call(f"/{made.slug}/v1/chat?x=1")
        by_host = await rig.call(f"/{made.slug}/x", headers={"Host": f"{made.slug}.models.test"})
    assert (by_path.status_code, by_path.text) == (200, "one /v1/chat?x=1")
    assert by_host.text == f"one /{made.slug}/x"
    assert all(b"authorization" not in head.lower() for head in one.heads), "no token goes on"


async def test_what_begins_like_anothers_id_is_another_deployment(rig: Rig) -> None:
    """Keys that give such an id can be searched for; the names are their owners' to choose."""
    made = await rig.deployment()
    begun = f"{made.uuid[:9]}{'0' * 4}{made.uuid[13:]}"
    theirs = await rig.deployment(uuid=begun, org="other")
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        assert (await rig.call(f"/{made.slug}/")).text == "one /"
        assert (await rig.call(f"/{theirs.slug}/")).status_code == 404


@pytest.mark.parametrize(
    ("bearer", "status"),
    [
        ("", 401),
        (token(key="x" * 40), 401),
        (token(kind=TokenKind.REFRESH), 401),
        (token(expires_at=now() - timedelta(seconds=1)), 401),
        (token(role=Role.VIEWER), 403),
        (token(role=Role.NODE), 403),
        (token(org="other"), 404),
    ],
    ids=["none", "forged", "refresh", "expired", "viewer", "node", "other organisation"],
)
async def test_a_call_that_may_not_be_is_a_problem(rig: Rig, bearer: str, status: int) -> None:
    made = await rig.deployment()
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {"Authorization": ""}
        answer = await rig.http.get(f"/{made.slug}/", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert one.asked == []


async def test_what_is_revoked_admits_nobody_also_after_a_restart(rig: Rig) -> None:
    made = await rig.deployment()
    ends = now() + timedelta(hours=1)
    known: dict[str, Any] = {"org": ORG, "created_at": now(), "updated_at": now(), "name": "x"}
    note = {"kind": "jwt", "role": Role.MEMBER, "expires_at": ends, **known}
    user = User(uuid="u-1", password_hash="", role=Role.MEMBER, **known)
    bearers = [token(id="t-1"), token(session="t-1"), token(user="u-1")]

    async def statuses() -> list[int]:
        return [(await rig.call(f"/{made.slug}/", each)).status_code for each in bearers]

    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.store.insert(Token(uuid="t-1", **note))
        await rig.store.insert(Token(uuid="old", **note | {"expires_at": now()}, revoked_at=now()))
        await rig.store.insert(user)
        await rig.gateway.look()
        assert await statuses() == [200, 200, 200]
        worker = await rig.gateway._haproxy._worker()
        await rig.amend(Token, "t-1", revoked_at=now())
        await rig.amend(User, "u-1", active=False)
        await rig.gateway.look()
        assert await statuses() == [401, 401, 401]
        assert "was revoked" in (await rig.call(f"/{made.slug}/", bearers[0])).json()["detail"]
        assert (await rig.call(f"/{made.slug}/")).status_code == 200
        assert await rig.gateway._haproxy._worker() == worker, "without a reload"
        assert rig.gateway._haproxy.revoked.read_text() == "t-1\nu-1\n"
        await rig.piece.kill()
        await rig.piece.start()
        assert await statuses() == [401, 401, 401]
        for change, answered in (({"active": True}, 200), ({"generation": 1}, 401)):
            await rig.amend(User, "u-1", **change)
            await rig.gateway.look()
            assert await statuses() == [401, 401, answered]


async def test_a_node_whose_name_does_not_resolve_costs_only_its_own_replicas(rig: Rig) -> None:
    made = await rig.deployment()
    async with upstream("one") as one, upstream("two") as two:
        await rig.replica(made, one, 1, "here.test")
        await rig.replica(made, two, 2, "nowhere.test")
        await rig.gateway.look()
        assert {(await rig.call(f"/{made.slug}/")).text for _ in range(4)} == {"one /"}
    assert rig.gateway.unresolved == {"nowhere.test": "nowhere.test is not known"}


async def test_an_unknown_one_is_404_and_one_without_replicas_503(rig: Rig) -> None:
    made = await rig.deployment()
    await rig.gateway.look()
    assert (await rig.call("/nothing/")).status_code == 404
    waiting = await rig.call(f"/{made.slug}/")
    assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "5")


async def test_replicas_come_drain_and_go_without_a_reload(rig: Rig) -> None:
    made = await rig.deployment()
    async with upstream("one") as one, upstream("two") as two:
        first = await rig.replica(made, one)
        await rig.gateway.look()
        worker = await rig.gateway._haproxy._worker()
        second = await rig.replica(made, two, 2)
        await rig.gateway.look()
        assert {(await rig.call(f"/{made.slug}/")).text for _ in range(6)} == {"one /", "two /"}
        slow = asyncio.create_task(rig.call(f"/{made.slug}/slow"))
        await eventually(lambda: "GET /slow" in one.asked + two.asked)
        busy, other = (first, two) if "GET /slow" in one.asked else (second, one)
        await rig.change(busy, drain_until=now())
        await rig.gateway.look()
        assert {(await rig.call(f"/{made.slug}/")).text for _ in range(6)} == {f"{other.name} /"}
        await rig.change(busy, status=ContainerStatus.STOPPED)
        await rig.gateway.look()
        (one if other is two else two).hold.set()
        assert (await slow).status_code == 200, "what was under way ends"
        await rig.gateway.look()
        assert await rig.gateway._haproxy._worker() == worker


async def test_a_reload_for_another_deployment_cuts_no_stream(rig: Rig) -> None:
    made = await rig.deployment()
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        headers = {"Authorization": f"Bearer {token()}"}
        async with rig.http.stream("GET", f"/{made.slug}/events", headers=headers) as answer:
            pieces = answer.aiter_text()
            assert await anext(pieces) == "data: 1\n\n"
            another = await rig.deployment("another")
            await rig.gateway.look()
            assert (await rig.call(f"/{another.slug}/")).status_code == 503
            figures = figures_of(await rig.gateway._haproxy.statistics())
            assert figures[made.slug].under_way == 1, "what is under way counts over a reload"
            assert figures[another.slug].is_idle
            one.hold.set()
            assert await anext(pieces) == "data: 2\n\n"


async def test_calls_on_connections_that_are_kept_are_answered_over_reloads(rig: Rig) -> None:
    """By the worker that is on its way out, which counts no servers any more."""
    made = await rig.deployment()
    statuses: list[int] = []

    async def call_on() -> None:
        while True:
            try:
                statuses.append((await rig.call(f"/{made.slug}/")).status_code)
            except httpx.RemoteProtocolError:
                continue  # a kept connection may end at any time, as HTTP says

    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        calling = [asyncio.create_task(call_on()) for _ in range(4)]
        for number in range(3):
            answered = len(statuses)
            await rig.deployment(f"another-{number}")
            await rig.gateway.look()
            await eventually(lambda before=answered: len(statuses) > before + 40)
        await concurrency.cancel_and_wait(*calling)
    assert set(statuses) == {200}


async def test_a_command_that_haproxy_refuses_holds_up_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = [await rig.deployment(name) for name in ("one", "two")]
    await rig.gateway.look()

    def spoilt(known: Any, wanted: Any, slug: str) -> list[str]:
        refused = [f"add server d_{slug}/x nonsense:"] if slug == first.slug else []
        return [*refused, *commands(known, wanted, slug)]

    monkeypatch.setattr("pipeline.gateway.service.commands", spoilt)
    monkeypatch.setattr("pipeline.gateway.service.revocations", lambda *_: ["add acl #999 x"])
    async with upstream("one") as one:
        for made in (first, last):
            await rig.replica(made, one)
        with pytest.raises(Unreachable, match="refuses 1 commands"):
            await rig.gateway.look()
        for made in (first, last):
            forged = {"X-Forwarded-Prefix": "/theirs", "Host": f"{made.slug}.models.test"}
            assert (await rig.call("/a", headers=forged)).text == "one /a"
    assert all(b"x-forwarded-prefix" not in head.lower() for head in one.heads)


async def test_a_websocket_flows_both_ways(rig: Rig) -> None:
    made = await rig.deployment()
    async with upstream("one") as one:
        await rig.replica(made, one)
        await rig.gateway.look()
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.piece.port)
        head = (
            f"GET /{made.slug}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {'A' * 22}==\r\nAuthorization: Bearer {token()}\r\n\r\n"
        )
        with closing(writer):
            writer.write(head.encode())
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"there and back")
            assert await reader.readexactly(14) == b"there and back"


async def test_a_replica_that_is_gone_costs_no_call(rig: Rig) -> None:
    """Nothing was sent to it yet: another one is asked."""
    made = await rig.deployment()
    async with upstream("one") as one:
        async with upstream("gone") as gone:
            await rig.replica(made, one)
            await rig.replica(made, gone, 2)
            await rig.gateway.look()
        assert {(await rig.call(f"/{made.slug}/")).text for _ in range(8)} == {"one /"}


async def test_it_follows_the_records_by_itself_and_survives_haproxy(rig: Rig) -> None:
    async with upstream("one") as one, following(rig.gateway):
        made = await rig.deployment()
        await rig.replica(made, one)

        async def is_answered() -> bool:
            try:
                return (await rig.call(f"/{made.slug}/")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(is_answered)
        written = rig.gateway._haproxy.file
        await eventually(lambda: f":{one.port}" in written.read_text())
        await rig.piece.kill()
        await rig.piece.start()
        assert await is_answered(), "it begins with what it knew last"
        async with upstream("two") as two:
            await rig.replica(made, two, 2)
            await eventually(lambda: _has_been_asked(rig, made, two))


async def test_changes_that_come_together_are_looked_at_together(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(rig.gateway, "look", look)
    monkeypatch.setattr("pipeline.gateway.service.LINGER_S", 0.5)
    async with following(rig.gateway):
        await eventually(lambda: looks == 1)
        for _ in range(20):
            rig.gateway._hint.set()
            await asyncio.sleep(0)
        await eventually(lambda: looks > 1)
        assert looks == 2


async def test_of_two_gateways_each_goes_on_alone(rig: Rig, services: Services) -> None:
    other = services.haproxy(KEY)
    await other.start()
    try:
        second = Rig(rig.store, other, gateway_of(other, rig.store))
        async with (
            upstream("one") as one,
            upstream("two") as two,
            following(rig.gateway),
            following(second.gateway),
        ):
            made = await rig.deployment()
            await rig.replica(made, one)
            for each in (rig, second):
                await eventually(lambda which=each: _answers(which, made, "one /"))
            await rig.piece.kill()
            await rig.replica(made, two, 2)
            await eventually(lambda: _has_been_asked(second, made, two))
            asked = len(two.asked)
            await rig.piece.start()

            async def first_asks_both() -> bool:
                await rig.call(f"/{made.slug}/")
                return len(two.asked) > asked

            await eventually(first_asks_both)
        await second.http.aclose()
    finally:
        await other.stop()


async def _answers(rig: Rig, made: Deployment, text: str) -> bool:
    return (await rig.call(f"/{made.slug}/")).text == text


async def _has_been_asked(rig: Rig, made: Deployment, server: Upstream) -> bool:
    await rig.call(f"/{made.slug}/")
    return bool(server.asked)


async def test_a_key_that_haproxy_cannot_hold_is_refused_in_words(rig: Rig) -> None:
    listening = Listening(rig.piece.bind, "/tmp/a.sock", "/tmp/revoked", 'no"key' * 10)
    gateway = Gateway(rig.store, rig.gateway._haproxy, listening, resolved)
    await rig.deployment()
    with pytest.raises(Misconfigured, match="MODELYARD_SIGNING_KEY"):
        await gateway.look()
