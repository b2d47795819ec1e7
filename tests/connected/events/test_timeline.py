"""The timeline of a record, over HTTP and a real broker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api.yard.history import KINDS
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.events.hub import EventHub
from pipeline.events.readers import Wanted
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Change
from pipeline.records.messages import event
from schemas.access import Role
from schemas.image import Image
from schemas.states import ImageStatus
from tests.support.records import image
from tests.support.tenants import Tenant

STEPS = (("validating", 2.5), ("ready", 40.0), ("deleted", 3600.25))


@dataclass
class Owner:
    """Somebody with an image to which things happen."""

    http: AsyncClient
    yard: Yard
    tenant: Tenant
    headers: dict[str, str]

    async def ask(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(f"{path}/timeline", headers=self.headers, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    async def refusal(self, path: str) -> int:
        return (await self.http.get(f"{path}/timeline", headers=self.headers)).status_code

    async def record(self, **values: Any) -> Image:
        given = {"at": self.yard.records.clock(), "org": self.tenant.org} | values
        made = image(**given)
        return await self.yard.records.insert(made, [event("created")], actor="user:ada")

    async def passes(self, record: Image) -> Image:
        begun = record.created_at
        for kind, after_s in STEPS:
            at = begun + timedelta(seconds=after_s)
            change = Change({}, send=[event(kind, note=kind.upper())])
            record = await self.yard.records.commit(record, change, at=at)
        return record


@pytest.fixture
async def owner(http: AsyncClient, yard: Yard) -> Owner:
    tenant = Tenant(yard.access)
    return Owner(http, yard, tenant, await tenant.headers(Role.VIEWER))


async def test_every_event_is_told_from_the_first_on_with_the_time_between(owner: Owner) -> None:
    record = await owner.record(status=ImageStatus.READY)
    await owner.record()
    await owner.passes(record)
    told = await owner.ask(f"/images/{record.uuid}")
    assert (told["resource"], told["id"], told["complete"]) == ("image", record.uuid, True)
    assert [each["kind"] for each in told["events"]] == ["created", *(k for k, _ in STEPS)]
    assert [each["elapsed_s"] for each in told["events"]] == [0, 2.5, 40.0, 3600.25]
    assert [each["since_previous_s"] for each in told["events"]] == [0, 2.5, 37.5, 3560.25]
    first, last = told["events"][0], told["events"][-1]
    assert first["actor"] == "user:ada"
    assert first["data"]["status"] == "READY"
    assert last["data"]["note"] == "DELETED"
    assert last["data"]["revision"] == 4
    assert told["next"] is None


async def test_pages_join_to_the_whole(owner: Owner) -> None:
    record = await owner.record()
    await owner.passes(record)
    whole = await owner.ask(f"/images/{record.uuid}")
    cursor, found = None, []
    while True:
        page = await owner.ask(
            f"/images/{record.uuid}", limit=1, **({"cursor": cursor} if cursor else {})
        )
        assert page["complete"] is True
        found += page["events"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == whole["events"]
    assert page["resume"] == whole["resume"]


async def test_who_follows_from_where_it_ends_misses_nothing(owner: Owner, app: FastAPI) -> None:
    record = await owner.record()
    resume = (await owner.ask(f"/images/{record.uuid}"))["resume"]
    await owner.passes(record)
    hub: EventHub = app.state.hub
    wanted = Wanted(ids=frozenset({record.uuid}))
    text = b""
    async with hub.subscribe(owner.tenant.org, wanted, after=resume) as reader:
        assert b"reset" not in reader.opening
        while b'"kind":"deleted"' not in text:
            text += await reader.read(20)
    assert [text.count(f'"kind":"{kind}"'.encode()) for kind, _ in STEPS] == [1, 1, 1]
    assert b'"kind":"created"' not in text


async def test_what_is_not_there_has_no_timeline(owner: Owner) -> None:
    foreign = await owner.record(org=f"{owner.tenant.org}-other")
    assert await owner.refusal(f"/images/{foreign.uuid}") == 404
    assert await owner.refusal(f"/images/{new_id()}") == 404
    assert await owner.refusal("/images/a.b") == 422
    assert await owner.refusal(f"/gadgets/{new_id()}") == 422


async def test_of_a_record_without_events_the_beginning_is_missing(owner: Owner) -> None:
    quiet = image(at=owner.yard.records.clock(), org=owner.tenant.org)
    await owner.yard.records.insert(quiet, [])
    told = await owner.ask(f"/images/{quiet.uuid}")
    assert (told["events"], told["complete"]) == ([], False)
    await owner.yard.records.commit(quiet, Change({}, send=[event("ready")]))
    later = await owner.ask(f"/images/{quiet.uuid}")
    assert ([each["kind"] for each in later["events"]], later["complete"]) == (["ready"], False)


@pytest.mark.parametrize("collection", sorted(KINDS))
async def test_every_resource_has_its_timelines(owner: Owner, collection: str) -> None:
    assert await owner.refusal(f"/{collection}/{new_id()}") == 404


async def test_a_secret_has_one_although_names_of_secrets_may_hold_slashes(owner: Owner) -> None:
    wanted = {"name": "mine", "secret_type": "registry"}
    wanted |= {"data": {"server": "registry.test", "username": "ada", "password": "open sesame"}}
    headers = await owner.tenant.headers(Role.MEMBER)
    made = await owner.http.post("/secrets", headers=headers, json=wanted)
    told = await owner.ask(f"/secrets/{made.json()['uuid']}")
    assert [each["kind"] for each in told["events"]][:1] == ["created"]
    assert "sesame" not in str(told)
