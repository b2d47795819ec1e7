"""The audit trail over HTTP, of what is done by HTTP and by commands."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient

from pipeline.adapters.store.audit_log import AuditLog, Read
from pipeline.audit.service import AuditTrail
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.records.messages import event
from pipeline.settings import Settings
from schemas.access import AuditEntry, Role
from tests.support.records import image
from tests.support.tenants import PASSWORD, Tenant

SECRET = "no-entry-tells-me"


class Office:
    """An organisation whose administrators look at what was done."""

    def __init__(self, http: AsyncClient, yard: Yard) -> None:
        self.http, self.yard = http, yard
        self.tenant = Tenant(yard.access)

    async def does(self, method: str, path: str, role: Role = Role.ADMIN, **more: Any) -> Any:
        headers = await self.tenant.headers(role) | more.pop("headers", {})
        return await self.http.request(method, path, headers=headers, **more)

    async def trail(self, **query: Any) -> list[Any]:
        await self.yard.watching.audit.sweep()
        answer = await self.does("GET", "/audit", params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    async def adds_secret(self, name: str) -> str:
        data = {"server": "r.test", "username": "ci", "password": SECRET}
        headers = {"X-Request-Id": f"asked-for-{name}"}
        body = {"name": name, "data": data}
        answer = await self.does("POST", "/secrets", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uuid"])


@pytest.fixture
def office(http: AsyncClient, yard: Yard) -> Office:
    return Office(http, yard)


async def test_it_tells_who_did_what_and_from_where_and_no_secret(office: Office) -> None:
    secret = await office.adds_secret("one")
    await office.does("DELETE", f"/secrets/{secret}")
    gone, made = await office.trail(target=secret)
    assert [made["action"], gone["action"]] == ["secret.created", "secret.deleted"]
    assert (made["name"], made["request"], made["origin"]) == ("one", "asked-for-one", "127.0.0.1")
    assert made["actor"].startswith("token:")
    assert made["time"] <= gone["time"]
    whole = await office.does("GET", "/audit")
    assert SECRET not in whole.text


async def test_a_login_is_told(office: Office) -> None:
    user = await office.tenant.user(Role.VIEWER, "grace")
    asked = {"username": f"grace@{office.tenant.org}", "password": PASSWORD}
    assert (await office.http.post("/login", json=asked)).status_code == 200
    [entry] = await office.trail(actor=f"user:{user.uuid}")
    assert (entry["action"], entry["target"]) == ("user.logged-in", user.uuid)


async def test_filters_and_pages_agree(office: Office) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        await office.adds_secret(name)
    found = await office.trail(action="secret.created")
    assert [each["name"] for each in found] == names[::-1]
    middle = found[2]
    assert await office.trail(request_id="asked-for-s2") == [middle]
    assert await office.trail(origin="127.0.0.2") == []
    since = await office.trail(action="secret.created", since=middle["time"])
    until = await office.trail(action="secret.created", until=middle["time"])
    assert middle in since
    assert middle not in until
    assert [*since, *until] == found
    pages, cursor = [], None
    while True:
        query = {"limit": 2, "action": "secret.created", **({"cursor": cursor} if cursor else {})}
        page = (await office.does("GET", "/audit", params=query)).json()
        pages += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert pages == found


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER, Role.NODE, Role.SERVICE])
async def test_it_is_for_administrators(office: Office, role: Role) -> None:
    assert (await office.does("GET", "/audit", role)).status_code == 403


async def test_an_organisation_sees_its_own_alone(office: Office, yard: Yard) -> None:
    await office.adds_secret("mine")
    other = Office(office.http, yard)
    assert await other.trail(action="secret.created") == []


async def test_several_workers_make_each_entry_once(office: Office, yard: Yard) -> None:
    made = [await office.adds_secret(f"s{number}") for number in range(8)]
    await asyncio.gather(*(yard.watching.audit.sweep() for _ in range(4)))
    found = await office.trail(action="secret.created")
    assert sorted(each["target"] for each in found) == sorted(made)


async def test_a_worker_that_died_before_it_noted_how_far_it_was_repeats_nothing(
    office: Office, yard: Yard
) -> None:
    await yard.watching.audit.sweep()
    log = AuditLog(yard.records.store)
    before = await log.read_up_to()
    assert before is not None
    secret = await office.adds_secret("once")
    await yard.watching.audit.sweep()
    after = await log.read_up_to()
    assert after is not None
    assert after.sequence > before.sequence
    # As if it had ended between the entries and the note.
    assert await log.advance(after, before)
    assert not await log.advance(after, Read(after.epoch, after.sequence + 1))
    assert len(await office.trail(target=secret)) == 1


async def test_of_a_stream_that_is_made_anew_everything_is_read(office: Office, yard: Yard) -> None:
    await yard.watching.audit.sweep()
    log = AuditLog(yard.records.store)
    now = await log.read_up_to()
    assert now is not None
    assert await log.advance(now, Read("another", now.sequence + 1_000_000))
    secret = await office.adds_secret("later")
    assert len(await office.trail(target=secret)) == 1


async def test_what_nobody_did_is_not_told(office: Office, yard: Yard) -> None:
    made = image(at=yard.records.clock(), org=office.tenant.org)
    await yard.records.insert(made, [event("created")], actor="worker:validation")
    assert await office.trail(target=made.uuid) == []


async def test_entries_are_kept_as_long_as_is_set(office: Office, yard: Yard) -> None:
    secret = await office.adds_secret("old")
    assert len(await office.trail(target=secret)) == 1
    patient = AuditTrail(yard.records, yard.bus, Settings(audit_max_age_days=1))
    await patient.purge()
    assert len(await office.trail(target=secret)) == 1
    a_day_on = yard.records.clock() + timedelta(days=1, seconds=5)
    log = AuditLog(yard.records.store)
    while await log.delete_older(a_day_on):
        pass
    where = {"target": secret}
    assert await yard.records.store.count(AuditEntry, org=office.tenant.org, where=where) == 0
