"""Organisations and users over HTTP and by queue, for the platform, an organisation, a stranger."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from pipeline import topology
from pipeline.bootstrap.control_plane import Services as Yard
from schemas.access import Role
from schemas.message import Message
from tests.support.events import stored_events
from tests.support.http.api_process import ORG as HOME
from tests.support.tenants import Tenant
from tests.support.waiting import eventually

WORD = "a good password"


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(
        transport=ASGITransport(app), base_url="http://yard/yard/v1", timeout=30
    ) as http:
        yield http


@pytest.fixture
async def platform(yard: Yard) -> dict[str, str]:
    """An administrator of the installation's own organisation."""
    return await Tenant(yard.access, HOME).headers()


@pytest.fixture
async def team(http: AsyncClient, platform: dict[str, str]) -> dict[str, Any]:
    """A new organisation."""
    body = {"slug": f"t{uuid.uuid4().hex[:12]}", "quotas": {"gpus": 2}}
    made = await http.post("/organisations", json=body, headers=platform)
    assert made.status_code == 201, made.text
    assert made.headers["Location"] == f"/yard/v1/organisations/{made.json()['uuid']}"
    return dict(made.json())


@pytest.fixture
async def stranger(yard: Yard) -> dict[str, str]:
    """An administrator of another organisation."""
    return await Tenant(yard.access).headers()


async def logged_in(http: AsyncClient, name: str, word: str, org: str) -> dict[str, str]:
    body = {"username": name, "password": word, "org": org}
    answer = await http.post("/login", json=body)
    return {"Authorization": f"Bearer {answer.json()['access']}"} if answer.is_success else {}


async def test_an_organisation_begins_with_a_user_made_by_the_platform(
    http: AsyncClient, platform: dict[str, str], team: dict[str, Any]
) -> None:
    slug, asked = team["slug"], {"name": "ada", "password": WORD, "role": "admin"}
    made = await http.post("/users", params={"org": slug}, json=asked, headers=platform)
    assert (made.status_code, made.json()["org"]) == (201, slug)
    assert made.json().keys() & {"password_hash", "generation", "outbox"} == set()
    for org in (slug, team["uuid"]):
        ada = await logged_in(http, "ada", WORD, org)
        me = (await http.get("/me", headers=ada)).json()
        assert (me["name"], me["org"]) == ("ada", slug)
    seen = await http.get(f"/organisations/{slug}", headers=ada)
    assert seen.json() == team
    assert (await http.get("/organisations", headers=ada)).json()["items"] == [team]
    more = {"name": "bob", "password": WORD}
    assert (await http.post("/users", json=more, headers=ada)).status_code == 201
    listed = (await http.get("/users", headers=ada)).json()["items"]
    assert [(each["name"], each["role"]) for each in listed] == [
        ("bob", "member"),
        ("ada", "admin"),
    ]
    for method, path in (("POST", ""), ("PATCH", f"/{slug}"), ("DELETE", f"/{slug}")):
        body = {"json": {"slug": "more"} if method == "POST" else {}} if method != "DELETE" else {}
        answer = await http.request(method, f"/organisations{path}", headers=ada, **body)
        assert answer.status_code == 403, answer.text


async def test_what_belongs_to_others_is_unknown(
    http: AsyncClient, platform: dict[str, str], team: dict[str, Any], stranger: dict[str, str]
) -> None:
    asked = {"name": "ada", "password": WORD}
    org = {"org": team["slug"]}
    ada = (await http.post("/users", params=org, json=asked, headers=platform)).json()["uuid"]
    for path in (
        f"/organisations/{team['uuid']}",
        f"/organisations/{team['slug']}",
        f"/organisations/{HOME}",
        f"/users/{ada}",
        f"/users/{ada}?org={team['slug']}",
        f"/users?org={team['uuid']}",
        f"/users?org={HOME}",
    ):
        answer = await http.get(path, headers=stranger)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    out = await http.patch(f"/users/{ada}", json={"active": False}, headers=stranger)
    made = await http.post("/users", params=org, json=asked, headers=stranger)
    assert (out.status_code, made.status_code) == (404, 404)


async def test_who_is_disabled_or_has_another_password_is_out_at_once(
    http: AsyncClient, platform: dict[str, str], team: dict[str, Any]
) -> None:
    org = {"org": team["slug"]}
    asked = {"name": "ada", "password": WORD}
    await http.post("/users", params=org, json=asked, headers=platform)
    for change in ({"active": False}, {"role": "viewer"}, {"password": "yet another one"}):
        word = WORD
        ada = await logged_in(http, "ada", word, team["slug"])
        assert (await http.get("/me", headers=ada)).status_code == 200
        path = "/users/ada"
        answer = await http.patch(path, params=org, json=change, headers=platform)
        assert answer.status_code == 200, answer.text
        assert (await http.get("/me", headers=ada)).status_code == 401, change
        if change == {"active": False}:
            assert await logged_in(http, "ada", word, team["slug"]) == {}
            back = await http.patch(path, params=org, json={"active": True}, headers=platform)
            assert back.status_code == 200
    assert await logged_in(http, "ada", WORD, team["slug"]) == {}
    assert await logged_in(http, "ada", "yet another one", team["slug"])


async def test_a_change_may_be_guarded_by_the_revision(
    http: AsyncClient, platform: dict[str, str], team: dict[str, Any]
) -> None:
    path = f"/organisations/{team['slug']}"
    quotas = {"quotas": {"gpus": 4, "archive_bytes": 100}}
    stale = {"If-Match": '"7"'} | platform
    assert (await http.patch(path, json=quotas, headers=stale)).status_code == 412
    current = {"If-Match": '"1"'} | platform
    edited = (await http.patch(path, json=quotas, headers=current)).json()
    assert edited["quotas"] == {"gpus": 4, "containers": None, "archive_bytes": 100}
    assert (await http.delete(path, headers=current)).status_code == 412
    gone = await http.delete(path, headers=platform)
    assert (gone.status_code, gone.json()["status"]) == (200, "DELETED")
    assert (await http.get(path, headers=platform)).status_code == 404


async def test_a_slug_is_refused_that_could_be_mistaken(
    http: AsyncClient, platform: dict[str, str]
) -> None:
    for slug in ("A", "a.b", "-a", "a b", str(uuid.uuid4()), "x" * 41):
        answer = await http.post("/organisations", json={"slug": slug}, headers=platform)
        assert answer.status_code == 422, slug
    same = await http.post("/organisations", json={"slug": HOME}, headers=platform)
    assert (same.status_code, same.json()["code"]) == (409, "already_exists")


def command(org: str, name: str, key: str, **data: Any) -> Message:
    return Message(
        id=key,
        subject=topology.command(org, *name.split(".")),
        type=f"modelyard.cmd.{name}",
        source="ci",
        time=datetime.now(UTC),
        data=data,
    )


async def ask(yard: Yard, org: str, name: str, **data: Any) -> list[str]:
    """Kinds of the events that the command caused, whoever's they are."""
    key = uuid.uuid4().hex
    await yard.bus.publish(command(org, name, key, **data))

    async def caused() -> list[str]:
        return [
            topology.parse_event(each.subject).kind
            async for each in stored_events(yard.bus, None)
            if each.headers.get("ce-causationid") == key
        ]

    await eventually(caused, timeout_s=20)
    return await caused()


async def test_the_same_by_queue_for_the_installation_only(
    http: AsyncClient, yard: Yard, platform: dict[str, str]
) -> None:
    slug, tenant = f"q{uuid.uuid4().hex[:12]}", Tenant(yard.access)
    user = await Tenant(yard.access, tenant.org).user(Role.MEMBER)
    assert await ask(yard, tenant.org, "organisation.create", slug=slug) == ["rejected"]
    assert await ask(yard, HOME, "organisation.create", slug=slug) == ["created"]
    assert await ask(yard, HOME, "organisation.update", id=slug, quotas={"gpus": 1}) == ["edited"]
    found = await http.get(f"/organisations/{slug}", headers=platform)
    assert found.json()["quotas"]["gpus"] == 1
    assert await ask(yard, HOME, "organisation.delete", id=slug) == ["deleted"]
    assert await ask(yard, tenant.org, "user.update", id=user.uuid, active=False) == ["rejected"]
    assert await ask(yard, HOME, "user.update", id=user.uuid, active=False) == ["disabled"]
    assert await ask(yard, HOME, "user.update", id=user.uuid, role="viewer") == ["role-changed"]
    assert await ask(yard, HOME, "user.update", id=user.uuid, role="admin") == ["rejected"]
