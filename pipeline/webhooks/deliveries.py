"""Deliveries: one event for one webhook, tried until its receiver takes it.

Events become records first, in their order, and are sent from there: a receiver who is slow or
away holds up neither the events nor other receivers. Those about one record go one after the
other. Each try is written down before it is made, with the time of the next one: whoever dies in
it is followed by another after that time, so what is sent may be sent twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.adapters.http.guarded import GuardedHttp, Limits, Reply
from pipeline.adapters.store.indexes import SOME_TIME
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import Conflict, LostRace, NotFound, YardError
from pipeline.events.readers import Wanted
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.records.queries import Page, page
from pipeline.records.sweeping import one_by_one
from pipeline.settings import Settings
from pipeline.topology import EventSubject
from pipeline.webhooks import signing
from pipeline.webhooks.service import Webhooks
from schemas.access import Principal
from schemas.states import WebhookDeliveryStatus as Status
from schemas.states import WebhookStatus
from schemas.webhook import Attempt, Webhook, WebhookDelivery

log = logging.getLogger(__name__)

GONE: Final = 410
"""Standard Webhooks: the receiver wants nothing any more."""
KEPT_ATTEMPTS: Final = 20
ANSWER_BYTES: Final = 1024
"""Of an answer, which nobody is shown: it may come from where its owner cannot look himself."""
MARGIN_S: Final = 5
SWEPT_AT_ONCE: Final = 500
PURGED_AT_ONCE: Final = 1000
BEHIND: Final = timedelta(minutes=1)
"""After which those that wait for another one of their record are looked at once more."""
_DELIVER: Final = command("deliver")


class WebhookDeliveries:
    """Writes them down, sends them, and lets their owners look."""

    def __init__(
        self, records: Records, webhooks: Webhooks, http: GuardedHttp, settings: Settings
    ) -> None:
        self._records = records
        self._store = records.store
        self._webhooks = webhooks
        self._http = http
        self._timeout_s = settings.webhook_timeout_s
        self._waits_s = settings.webhook_waits_s
        self._settle = timedelta(seconds=settings.sweep_age_s)
        self._kept = timedelta(seconds=settings.webhook_kept_s)

    async def take(self, org: str, uuid: str, told: StoredEvent) -> None:
        """Write down that a webhook is to be told of an event, if it wants to be. Idempotent."""
        subject = topology.parse_event(told.subject)
        webhook = await self._store.find_by_id(Webhook, uuid, org=org)
        if webhook is None or webhook.status is not WebhookStatus.ACTIVE:
            return
        if subject.resource == WebhookDelivery.resource or not _covers(webhook, subject):
            return
        named = told.headers.get("ce-id") or str(told.sequence)
        about = f"{subject.resource}/{subject.id}"
        kind = f"{subject.resource}.{subject.kind}"
        body = _body(told.headers, told.sequence, json.loads(told.data))
        await self._insert(webhook, named, about, kind, body, sequence=told.sequence)

    async def test(self, caller: Principal, wanted: str, *, key: str | None) -> WebhookDelivery:
        """Send something that did not happen. Idempotent per `key`. Raises NotFound, Conflict."""
        webhook = await self._webhooks.find(caller, wanted)
        if webhook.status is not WebhookStatus.ACTIVE:
            raise Conflict(f"The webhook {webhook.name} is not active: enable it first.")
        at = self._records.clock()
        headers = {"ce-type": "modelyard.webhook.test", "ce-time": at.isoformat()}
        body = _body(headers, 0, {"id": webhook.uuid, "org": webhook.org, "name": webhook.name})
        about = f"{Webhook.resource}/{webhook.uuid}"
        named = f"test {key or at.isoformat()}"
        return await self._insert(webhook, named, about, "webhook.test", body, sequence=0)

    async def deliver(self, org: str, uuid: str) -> None:
        """Send what is due about a record, the oldest first, until one fails. Idempotent."""
        given = await self._store.find_by_id(WebhookDelivery, uuid, org=org)
        while given is not None:
            webhook = await self._store.find_by_id(Webhook, given.webhook, org=org)
            head = await self._head(given)
            if webhook is None or head is None:
                return
            now = self._records.clock()
            if webhook.status is not WebhookStatus.ACTIVE:
                await self._look_later(given, now + BEHIND)
                return
            if not _is_due(webhook, head, now):
                await self._look_later(given, head.next_at or now + BEHIND)
                return
            if not await self._try(webhook, head):
                return

    async def sweep(self) -> None:
        """Have those sent that are due again, or whose command was lost."""
        now = self._records.clock()
        where = {
            "next_at": {"$gt": SOME_TIME, "$lte": now},
            "updated_at": {"$lte": now - self._settle},
        }
        oldest = (("next_at", 1),)
        found = await self._store.find(
            WebhookDelivery, org=EVERY_ORG, where=where, sort=oldest, limit=SWEPT_AT_ONCE
        )
        heads: dict[tuple[str, str], WebhookDelivery] = {}
        for each in sorted(found, key=lambda each: each.sequence):
            if heads.setdefault((each.webhook, each.about), each) is not each:
                await self._look_later(each, now + BEHIND)
        await one_by_one(heads.values(), lambda each: self._records.remind(each, _DELIVER))

    async def purge(self) -> None:
        """Forget old ones, whatever became of them."""
        old = {"created_at": {"$lt": self._records.clock() - self._kept}}
        found = await self._store.find(
            WebhookDelivery, org=EVERY_ORG, where=old, sort=(), limit=PURGED_AT_ONCE
        )
        await one_by_one(found, self._records.purge)

    async def list(
        self,
        caller: Principal,
        wanted: str,
        *,
        status: Status | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[WebhookDelivery]:
        """Of one webhook, newest first. Raises NotFound."""
        webhook = await self._webhooks.find(caller, wanted)
        where: dict[str, Any] = {"webhook": webhook.uuid}
        if status is not None:
            where["status"] = status.value
        return await page(
            self._store, WebhookDelivery, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def send_again(self, caller: Principal, wanted: str, uuid: str) -> WebhookDelivery:
        """One that was delivered or given up; its receiver knows it by the same id.

        Idempotent while it waits. Raises NotFound, and Conflict for a webhook that is not active.
        """
        webhook = await self._webhooks.find(caller, wanted)
        if webhook.status is not WebhookStatus.ACTIVE:
            raise Conflict(f"The webhook {webhook.name} is not active: enable it first.")
        delivery = await self._store.find_by_id(WebhookDelivery, uuid, org=caller.org)
        if delivery is None or delivery.webhook != webhook.uuid:
            raise NotFound(f"{webhook.name} has no delivery {uuid[:255]}.")

        def decide(delivery: WebhookDelivery, at: datetime) -> Change | None:
            if delivery.status is Status.PENDING:
                return None
            values = {"tries": 0, "next_at": at}
            return Change(values, Status.PENDING, f"asked for by {caller.id}", [_DELIVER])

        return await self._records.amend(delivery, decide, actor=caller.id)

    async def _insert(
        self, webhook: Webhook, named: str, about: str, kind: str, body: str, *, sequence: int
    ) -> WebhookDelivery:
        id = id_for(webhook.org, WebhookDelivery.resource, f"{webhook.uuid} {named}")
        initial = self._records.initial(webhook.org, id)
        delivery = WebhookDelivery(
            **initial,
            webhook=webhook.uuid,
            about=about,
            kind=kind,
            sequence=sequence,
            body=body,
            next_at=initial["created_at"],
        )
        return await self._records.insert_once(delivery, [_DELIVER], is_same=lambda _: True)

    async def _head(self, given: WebhookDelivery) -> WebhookDelivery | None:
        where = {"webhook": given.webhook, "about": given.about, "status": Status.PENDING.value}
        in_order = (("sequence", 1),)
        found = await self._store.find(
            WebhookDelivery, org=given.org, where=where, sort=in_order, limit=1
        )
        return found[0] if found else None

    async def _look_later(self, behind: WebhookDelivery, at: datetime) -> None:
        guard = {"status": Status.PENDING.value, "revision": behind.revision}
        later = {"$set": {"next_at": at}}
        await self._store.update(
            WebhookDelivery, behind.uuid, org=behind.org, guard=guard, update=later
        )

    async def _try(self, webhook: Webhook, delivery: WebhookDelivery) -> bool:
        """False when it is not over: it failed and waits, or another worker has it."""
        at = self._records.clock()
        while_sent = at + timedelta(seconds=self._timeout_s + MARGIN_S)
        claim = Change({"tries": delivery.tries + 1, "next_at": while_sent})
        try:
            claimed = await self._records.commit(delivery, claim)
        except LostRace:
            return False
        attempt, wait_s = await self._send(webhook, claimed, at)
        settled = await self._records.amend(claimed, partial(self._settled, attempt, wait_s))
        if attempt.status == GONE:
            await self._webhooks.disable(webhook, "its receiver says that it is gone (410)")
        return settled.status is not Status.PENDING

    async def _send(
        self, webhook: Webhook, delivery: WebhookDelivery, at: datetime
    ) -> tuple[Attempt, float]:
        """What came of it, and how long the receiver wants to be left alone."""
        body = delivery.body.encode()
        limits = Limits(total_s=self._timeout_s, body_max_bytes=ANSWER_BYTES, redirects=0)
        try:
            signed = signing.headers(delivery.uuid, at, body, self._webhooks.keys(webhook))
            headers = {"Content-Type": "application/json", **signed}
            reply = await self._http.request(
                "POST", webhook.url, headers=headers, content=body, limits=limits
            )
        except YardError as error:
            log.info("delivery %s to %s failed: %s", delivery.uuid, webhook.name, error.message)
            return self._attempt(at, error.facts.get("status"), error.message), 0
        is_taken = 200 <= reply.status < 300
        why = None if is_taken else f"it answered {reply.status} {reply.reason}".rstrip()
        return self._attempt(at, reply.status, why), _retry_after_s(reply)

    def _attempt(self, at: datetime, status: int | None, error: str | None) -> Attempt:
        took = self._records.clock() - at
        return Attempt(
            at=at, status=status, error=error, milliseconds=took // timedelta(milliseconds=1)
        )

    def _settled(
        self, attempt: Attempt, wait_s: float, delivery: WebhookDelivery, at: datetime
    ) -> Change | None:
        if delivery.status is not Status.PENDING:
            return None
        attempts = [*delivery.attempts, attempt][-KEPT_ATTEMPTS:]
        values: dict[str, Any] = {"attempts": [each.model_dump() for each in attempts]}
        if attempt.error is None:
            return Change(values | {"next_at": None}, Status.DELIVERED, None)
        if delivery.tries > len(self._waits_s):
            dead = [event("dead")]
            return Change(values | {"next_at": None}, Status.DEAD, attempt.error, dead)
        pause_s = max(self._waits_s[delivery.tries - 1], wait_s)
        values["next_at"] = at + timedelta(seconds=pause_s)
        return Change(values, reason=attempt.error)


@dataclass(frozen=True, slots=True)
class WebhookServices:
    service: Webhooks
    deliveries: WebhookDeliveries

    @classmethod
    def over(
        cls, records: Records, bus: Bus, http: GuardedHttp, settings: Settings
    ) -> WebhookServices:
        """`http` is the client for addresses that users give."""
        service = Webhooks(records, bus, http, settings)
        return cls(service, WebhookDeliveries(records, service, http, settings))


def _covers(webhook: Webhook, subject: EventSubject) -> bool:
    resources = frozenset(webhook.resources)
    kinds: Sequence[str | None] = webhook.kinds or [None]
    return any(Wanted(resources, kind=kind).covers(subject) for kind in kinds)


def _body(headers: Mapping[str, str], sequence: int, data: Any) -> str:
    """`type`, `timestamp` and `data` as Standard Webhooks has them; the others are ours."""
    known = {
        "type": headers.get("ce-type"),
        "timestamp": headers.get("ce-time"),
        "id": headers.get("ce-id"),
        "sequence": sequence,
        "actor": headers.get("ce-actor"),
        "causationid": headers.get("ce-causationid"),
        "data": data,
    }
    return json.dumps({name: value for name, value in known.items() if value is not None})


def _is_due(webhook: Webhook, delivery: WebhookDelivery, now: datetime) -> bool:
    # The head of a line may have been put off with those behind another one that is over.
    if not delivery.tries or (delivery.next_at is not None and delivery.next_at <= now):
        return True
    # Who is listened to again has not failed since.
    since = webhook.status_since
    return since is not None and delivery.updated_at < since


LONGEST_WAIT_S: Final = 24 * 3600


def _retry_after_s(reply: Reply) -> float:
    """RFC 9110, 10.2.3: in seconds; dates are not believed."""
    text = reply.headers.get("retry-after", "")
    return min(int(text), LONGEST_WAIT_S) if text.isascii() and text.isdigit() else 0
