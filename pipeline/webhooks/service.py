"""Webhooks of an organisation: where its events go, and with which secrets they are signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import Conflict, Unreachable
from pipeline.records.idempotency import fingerprint, id_for
from pipeline.records.kernel import Change, Records, living, require_revision
from pipeline.records.messages import event
from pipeline.records.queries import Page, find_living, page
from pipeline.secrets.rotation import Sealed
from pipeline.secrets.vault import Vault
from pipeline.settings import Settings
from pipeline.topology import StagePlan
from pipeline.webhooks import signing
from schemas.access import Principal
from schemas.states import WebhookStatus as Status
from schemas.webhook import SigningSecret, Webhook, WebhookEdit, WebhookSpec

LIVE_SECRETS: Final = 2
"""A new one and the one before it."""


def _sealed(webhook: Webhook) -> Mapping[str, str]:
    texts = enumerate(each.sealed for each in webhook.secrets)
    return {f"secrets.{place}.sealed": text for place, text in texts}


SEALED: Final = Sealed(Webhook, _sealed, "secrets.sealed")


class Webhooks:
    """Every call acts for the organisation of its caller; a webhook is named by uuid or name."""

    def __init__(self, records: Records, bus: Bus, http: GuardedHttp, settings: Settings) -> None:
        """`http` is the client for addresses that users give."""
        self._records = records
        self._store = records.store
        self._bus = bus
        self._http = http
        self._vault = Vault.from_setting(settings.encryption_keys.get_secret_value())

    async def create(
        self, caller: Principal, spec: WebhookSpec, *, key: str | None = None
    ) -> Webhook:
        """Tell of what happens from now on. Idempotent per `key`.

        Raises InvalidInput and AddressRefused for the URL, AlreadyExists, KeyReused, Misconfigured
        without a key to seal with, BusUnavailable.
        """
        await self._require_allowed(spec.url)
        id = id_for(caller.org, Webhook.resource, key)
        webhook = Webhook(
            **self._records.initial(caller.org, id),
            **spec.model_dump(),
            secrets=[self._new_secret(caller.org, id)],
            after=(await self._bus.position()).last,
            request_hash=fingerprint(spec),
            created_by=caller.id,
        )
        taken = f"There is a webhook {spec.name} already: choose another name."
        return await self._records.insert_once(
            webhook, [event("created")], actor=caller.id, taken=taken
        )

    async def find(self, caller: Principal, wanted: str) -> Webhook:
        """As `find_living`."""
        return await find_living(self._store, Webhook, wanted, org=caller.org)

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Webhook]:
        """Newest first, without those that are deleted."""
        return await page(
            self._store,
            Webhook,
            org=caller.org,
            where=living(Status.DELETED),
            limit=limit,
            cursor=cursor,
        )

    async def edit(
        self, caller: Principal, wanted: str, edit: WebhookEdit, *, revision: int | None = None
    ) -> Webhook:
        """Change what is given. Of the time when it was not active nothing is told.

        Idempotent. Raises NotFound, StaleRevision, BusUnavailable, and as `create` for the URL.
        """
        if edit.url is not None:
            await self._require_allowed(edit.url)
        given = edit.model_dump(exclude_none=True, exclude={"active"})
        now = (await self._bus.position()).last if edit.active else 0

        def decide(webhook: Webhook, at: datetime) -> Change | None:
            _refuse_deleted(webhook)
            require_revision(webhook, revision)
            status = _status(webhook, edit.active)
            if status is None and webhook.model_dump(include=set(given)) == given:
                return None
            values = dict(given)
            if status is Status.ACTIVE:
                values |= {"after": now, "turn": webhook.turn + 1}
            reason = None if status is Status.ACTIVE else f"edited by {caller.id}"
            return Change(values, status, reason, [event("edited")])

        webhook = await self.find(caller, wanted)
        return await self._records.amend(webhook, decide, actor=caller.id)

    async def rotate_secret(
        self, caller: Principal, wanted: str, *, keep_s: float, revision: int | None = None
    ) -> Webhook:
        """Sign with a new secret, and for `keep_s` with the one before it, too.

        Not idempotent: each call makes one, so send `revision`. Raises NotFound, StaleRevision.
        """

        def decide(webhook: Webhook, at: datetime) -> Change:
            _refuse_deleted(webhook)
            require_revision(webhook, revision)
            until = at + timedelta(seconds=keep_s)
            made = self._new_secret(webhook.org, webhook.uuid)
            before = webhook.secrets[0].model_copy(update={"until": until})
            kept = [made, before][: LIVE_SECRETS if keep_s else 1]
            values = {"secrets": [each.model_dump() for each in kept]}
            # The one that is kept may be sealed anew meanwhile.
            guard = {"secrets": [each.model_dump() for each in webhook.secrets]}
            return Change(values, send=[event("secret-rotated")], guard=guard)

        webhook = await self.find(caller, wanted)
        return await self._records.amend(webhook, decide, actor=caller.id)

    async def delete(
        self, caller: Principal, wanted: str, *, revision: int | None = None
    ) -> Webhook:
        """Tell nothing any more, also of what waits. Idempotent by uuid.

        Raises NotFound, StaleRevision.
        """

        def decide(webhook: Webhook, at: datetime) -> Change | None:
            if webhook.status is Status.DELETED:
                return None
            require_revision(webhook, revision)
            reason = f"deleted by {caller.id}"
            return Change({"secrets": []}, Status.DELETED, reason, [event("deleted")])

        gone = {"_id": wanted, "status": Status.DELETED.value}
        webhook = await self._store.find_one(Webhook, org=caller.org, where=gone)
        webhook = webhook or await self.find(caller, wanted)
        return await self._records.amend(webhook, decide, actor=caller.id)

    async def disable(self, webhook: Webhook, reason: str) -> None:
        """On behalf of its receiver, who says that he is gone. Idempotent."""

        def decide(webhook: Webhook, at: datetime) -> Change | None:
            if webhook.status is not Status.ACTIVE:
                return None
            return Change({}, Status.DISABLED, reason, [event("disabled")])

        await self._records.amend(webhook, decide)

    async def active(self) -> Sequence[Webhook]:
        """Of every organisation."""
        where = {"status": Status.ACTIVE.value}
        return await self._store.find(Webhook, org=EVERY_ORG, where=where, sort=())

    def keys(self, webhook: Webhook) -> Sequence[str]:
        """What signs now, the newest first. Raises Misconfigured when no key opens one."""
        now = self._records.clock()
        return [
            self._vault.open(each.sealed, org=webhook.org, record=webhook.uuid)
            for each in webhook.secrets
            if each.until is None or each.until > now
        ]

    async def _require_allowed(self, url: str) -> None:
        """A name may lead elsewhere later, so each delivery asks again; one that leads nowhere yet
        is no mistake."""
        try:
            await self._http.pinned(url)
        except Unreachable:
            return

    def _new_secret(self, org: str, id: str) -> SigningSecret:
        return SigningSecret(sealed=self._vault.seal(signing.new_secret(), org=org, record=id))


def reader(webhook: Webhook) -> StagePlan:
    """The durable from which workers take the events that it may be told of.

    It outlives workers for as long as events are kept: then there is nothing left to resume.
    """
    return StagePlan(
        durable=f"webhook-{webhook.uuid}-{webhook.turn}",
        stream=topology.EVENTS,
        subject=topology.events_of(webhook.org),
        workers=1,
        max_deliver=-1,
        cloud_events=False,
        after=webhook.after,
        in_order=True,
        idle_s=topology.EVENTS.max_age_s,
    )


def _status(webhook: Webhook, active: bool | None) -> Status | None:
    wanted = {None: webhook.status, True: Status.ACTIVE, False: Status.DISABLED}[active]
    return None if wanted is webhook.status else wanted


def _refuse_deleted(webhook: Webhook) -> None:
    if webhook.status is Status.DELETED:
        raise Conflict(f"The webhook {webhook.name} was deleted meanwhile.")
