"""Webhooks over HTTP, with real receivers, and workers that share the work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook as Verifier

from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.records.kernel import Change
from pipeline.records.messages import event
from schemas.access import Role
from schemas.image import Image
from schemas.states import ImageStatus, WebhookDeliveryStatus
from schemas.webhook import WebhookDelivery
from tests.support.http.hook_receiver import Receiver
from tests.support.records import image
from tests.support.tenants import Tenant
from tests.support.waiting import eventually


@dataclass
class Owner:
    """Somebody with images, whose events are the ones that are told."""

    http: httpx.AsyncClient
    yard: Yard
    tenant: Tenant
    headers: dict[str, str]

    async def ask(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        return await self.http.request(
            method, f"/webhooks{path}", **{"headers": self.headers} | options
        )

    async def done(self, method: str, path: str = "", **options: Any) -> Any:
        answer = await self.ask(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json()

    async def hook(self, receiver: Receiver, **more: Any) -> Any:
        body = {"name": "ci", "url": receiver.url, "resources": ["image"]} | more
        return await self.done("POST", json=body)

    async def secret(self) -> str:
        return str((await self.done("GET", "/ci/secret"))["secrets"][0])

    async def record(self) -> Image:
        """Which no worker looks at."""
        made = image(at=self.yard.records.clock(), org=self.tenant.org, status=ImageStatus.READY)
        return await self.yard.records.insert(made, [event("created")])

    async def happens(self, record: Image, *kinds: str) -> Image:
        for kind in kinds:
            record = await self.yard.records.commit(record, Change({}, send=[event(kind)]))
        return record

    async def deliveries(self, **query: Any) -> list[Any]:
        return list((await self.done("GET", "/ci/deliveries", params=query))["items"])


@pytest.fixture
async def owner(http: httpx.AsyncClient, yard: Yard) -> Owner:
    tenant = Tenant(yard.access)
    return Owner(http, yard, tenant, await tenant.headers(Role.MEMBER))


def kinds(*names: str) -> list[str]:
    return [f"modelyard.image.{name}" for name in names]


async def test_a_receiver_is_told_in_order_and_can_verify_it(
    owner: Owner, receiver: Receiver
) -> None:
    made = await owner.hook(receiver)
    assert made.keys() & {"secrets", "after", "turn", "outbox"} == set()
    first, second = await owner.record(), await owner.record()
    names = [f"k{number}" for number in range(12)]
    await asyncio.gather(owner.happens(first, *names), owner.happens(second, *names))
    await eventually(lambda: len(receiver.told) == 26)
    for record in (first, second):
        assert receiver.of(record.uuid) == kinds("created", *names)
    verifier = Verifier(await owner.secret())
    for told in receiver.told:
        assert verifier.verify(told.body, told.headers) == told.event
    first_of_all = receiver.told[0].event
    assert first_of_all["data"]["org"] == owner.tenant.org
    assert first_of_all.keys() >= {"type", "timestamp", "data", "id", "sequence"}
    assert len({each.headers["webhook-id"] for each in receiver.told}) == 26


async def test_only_what_was_asked_for_is_told(owner: Owner, receiver: Receiver) -> None:
    await owner.hook(receiver, kinds=["upload", "ready"])
    record = await owner.record()
    told = ("upload.started", "upload-other", "ready", "failed", "ready.now")
    record = await owner.happens(record, *told)
    await eventually(lambda: len(receiver.told) == 3)
    assert receiver.of(record.uuid) == kinds("upload.started", "ready", "ready.now")
    stranger = Owner(owner.http, owner.yard, Tenant(owner.yard.access), {})
    await stranger.happens(await stranger.record(), "ready")
    await owner.happens(record, "ready")
    await eventually(lambda: len(receiver.told) == 4)
    assert {each.event["data"]["org"] for each in receiver.told} == {owner.tenant.org}


async def test_who_is_away_is_told_later_and_holds_up_only_that_record(
    owner: Owner, receiver: Receiver
) -> None:
    await owner.hook(receiver)
    held, other = await owner.record(), await owner.record()
    await eventually(lambda: len(receiver.told) == 2)
    receiver.refused.add(held.uuid)
    await owner.happens(held, "first", "second")
    await owner.happens(other, "first", "second")
    await eventually(lambda: receiver.of(other.uuid) == kinds("created", "first", "second"))
    await eventually(lambda: len(receiver.of(held.uuid)) >= 2)
    assert set(receiver.of(held.uuid)[1:]) == set(kinds("first"))
    receiver.refused.clear()
    await eventually(lambda: receiver.of(held.uuid)[-1:] == kinds("second"))
    ids = [each.headers["webhook-id"] for each in receiver.told]
    await eventually(lambda: _are(owner, "DELIVERED", len(set(ids))))
    (first,) = [each for each in await owner.deliveries() if each["attempts"][1:]]
    assert [each["status"] for each in first["attempts"]][::-1][:2] == [200, 503]
    assert first["attempts"][0]["error"] == "it answered 503 Said"


async def test_what_is_given_up_is_a_dead_letter_and_can_be_sent_again(
    owner: Owner, receiver: Receiver
) -> None:
    await owner.hook(receiver)
    record = await owner.record()
    await eventually(lambda: len(receiver.told) == 1)
    receiver.refused.add(record.uuid)
    await owner.happens(record, "lost", "next")
    await eventually(lambda: _are(owner, "DEAD", 2))
    given_up = await owner.deliveries(status="DEAD")
    dead = next(each for each in given_up if each["kind"] == "image.lost")
    assert (dead["tries"], len(dead["attempts"]), dead["next_at"]) == (4, 4, None)
    assert dead["reason"] == "it answered 503 Said"
    receiver.refused.clear()
    again = await owner.done("POST", f"/ci/deliveries/{dead['uuid']}/send")
    assert (again["status"], again["uuid"]) == ("PENDING", dead["uuid"])
    await eventually(lambda: receiver.told[-1].headers["webhook-id"] == dead["uuid"])
    await eventually(lambda: _are(owner, "DEAD", 1))
    assert (await owner.ask("POST", "/ci/deliveries/nothing/send")).status_code == 404


async def test_a_try_whose_worker_died_is_made_again(owner: Owner, receiver: Receiver) -> None:
    await owner.hook(receiver)
    await owner.record()
    await eventually(lambda: _are(owner, "DELIVERED", 1))
    (sent,) = await owner.deliveries()
    records, org = owner.yard.records, owner.tenant.org
    known = await records.store.get(WebhookDelivery, sent["uuid"], org=org)
    begun = {"tries": 1, "next_at": records.clock()}
    await records.commit(known, Change(begun, WebhookDeliveryStatus.PENDING))
    await eventually(lambda: len(receiver.told) == 2)
    assert {each.headers["webhook-id"] for each in receiver.told} == {sent["uuid"]}
    await eventually(lambda: _are(owner, "DELIVERED", 1))


async def test_a_receiver_that_does_not_answer_or_redirects_is_a_failed_try(
    owner: Owner, receiver: Receiver
) -> None:
    await owner.hook(receiver)
    receiver.status, receiver.more = 307, "Location: http://127.0.0.1:1/\r\n"
    await owner.record()
    await eventually(lambda: len(receiver.told) == 1)
    await owner.done("PATCH", "/ci", json={"url": "http://127.0.0.1:1/nobody"})
    await eventually(lambda: _are(owner, "DEAD", 1))
    (dead,) = await owner.deliveries()
    said = [each["error"] for each in dead["attempts"]]
    assert said[0].endswith("it redirects where we do not follow.")
    assert said[-1] == "127.0.0.1:1 cannot be reached: it refuses the connection."


async def test_a_receiver_that_is_gone_is_told_nothing_any_more(
    owner: Owner, receiver: Receiver
) -> None:
    await owner.hook(receiver)
    receiver.status = 410
    record = await owner.record()

    async def is_disabled() -> bool:
        return bool((await owner.done("GET", "/ci"))["status"] == "DISABLED")

    await eventually(is_disabled)
    assert "410" in (await owner.done("GET", "/ci"))["reason"]
    assert (await owner.ask("POST", "/ci/test")).status_code == 409
    record = await owner.happens(record, "unheard")
    (waiting,) = await owner.deliveries()
    # A sweep that meets it now puts it off: that must not count once it is active again.
    await owner.yard.webhooks.deliveries.deliver(owner.tenant.org, waiting["uuid"])
    receiver.status = 200
    assert (await owner.done("PATCH", "/ci", json={"active": True}))["status"] == "ACTIVE"
    await owner.happens(record, "heard")
    await eventually(lambda: receiver.of(record.uuid)[-1:] == kinds("heard"))
    assert "unheard" not in str(receiver.told)


async def test_a_rotated_secret_signs_beside_the_one_before_it(
    owner: Owner, receiver: Receiver
) -> None:
    await owner.hook(receiver)
    old = await owner.secret()
    both = (await owner.done("POST", "/ci/rotate-secret"))["secrets"]
    assert both[1:] == [old]
    await owner.record()
    await eventually(lambda: len(receiver.told) == 1)
    for secret in both:
        Verifier(secret).verify(receiver.told[0].body, receiver.told[0].headers)
    (only,) = (await owner.done("POST", "/ci/rotate-secret", params={"keep_s": 0}))["secrets"]
    sent = await owner.done("POST", "/ci/test")
    await eventually(lambda: len(receiver.told) == 2)
    assert receiver.told[1].headers["webhook-id"] == sent["uuid"]
    assert receiver.told[1].event["type"] == "modelyard.webhook.test"
    Verifier(only).verify(receiver.told[1].body, receiver.told[1].headers)
    assert len(receiver.told[1].headers["webhook-signature"].split()) == 1


async def test_names_roles_and_other_organisations(owner: Owner, receiver: Receiver) -> None:
    made = await owner.hook(receiver)
    taken = await owner.ask("POST", json={"name": "ci", "url": receiver.url})
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
    viewer = {"headers": await owner.tenant.headers(Role.VIEWER)}
    assert (await owner.ask("GET", "/ci", **viewer)).json() == made
    for method, path in (("GET", "/ci/secret"), ("POST", "/ci/test"), ("DELETE", "/ci")):
        assert (await owner.ask(method, path, **viewer)).status_code == 403
    stranger = {"headers": await Tenant(owner.yard.access).headers()}
    for method, path in (
        *(("GET", ""), ("DELETE", ""), ("GET", "/secret"), ("GET", "/deliveries")),
        *(("POST", "/test"), ("POST", "/rotate-secret"), ("POST", "/deliveries/x/send")),
    ):
        answer = await owner.ask(method, f"/{made['uuid']}{path}", **stranger)
        assert answer.status_code == 404, (method, path)
    stale = {"headers": owner.headers | {"If-Match": '"9"'}}
    assert (await owner.ask("DELETE", "/ci", **stale)).status_code == 412
    for _ in range(2):
        gone = await owner.done("DELETE", f"/{made['uuid']}")
        assert gone["status"] == "DELETED"
    assert (await owner.done("GET"))["items"] == []
    await owner.hook(receiver)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "a", "url": "ftp://host/x"}, "url"),
        ({"name": "a", "url": "http://user:word@host/x"}, "url"),
        ({"name": "a", "url": "http://169.254.169.254/latest"}, "address_refused"),
        ({"name": "", "url": "http://h.example"}, "name"),
        ({"name": "a", "url": "http://h.example", "kinds": ["*"]}, "kinds"),
        ({"name": "a", "url": "http://h.example", "resources": ["Image"]}, "resources"),
    ],
)
async def test_what_cannot_be_told_is_refused(
    owner: Owner, body: dict[str, Any], field: str
) -> None:
    refused = await owner.ask("POST", json=body)
    assert refused.status_code == 422, refused.text
    assert field in refused.text


async def test_deliveries_are_forgotten_after_a_time(
    owner: Owner, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.hook(receiver)
    await owner.record()
    await eventually(lambda: _are(owner, "DELIVERED", 1))
    deliveries = owner.yard.webhooks.deliveries
    await deliveries.purge()
    assert len(await owner.deliveries()) == 1
    monkeypatch.setattr(deliveries, "_kept", deliveries._kept * 0)
    await deliveries.purge()
    assert await owner.deliveries() == []


async def _are(owner: Owner, status: str, count: int) -> bool:
    return len(await owner.deliveries(status=status)) == count
