"""The stage that proves an image: it is there, complete and runnable, and which one it is."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pipeline import topology
from pipeline.adapters.registry.client import RegistryClient
from pipeline.catalog.gates import secret_of
from pipeline.errors import (
    BusUnavailable,
    LostRace,
    NotFound,
    Overloaded,
    RegistryDenied,
    RegistryUnavailable,
    StoreUnavailable,
    YardError,
)
from pipeline.images import delivery_events, findings
from pipeline.images.ownership import OwnRegistry
from pipeline.oci import references
from pipeline.ports import ResolvedImage
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.secrets.service import Secrets
from schemas.base import Progress
from schemas.image import Finding, Image, ImageSource, Severity
from schemas.message import Message
from schemas.registries.catalog import CatalogEntry
from schemas.states import ImageStatus

log = logging.getLogger(__name__)

LAST_TRY_FRACTION = 0.2
"""Of the patience with a registry: a try that begins later is the last one, since the next would
come too late."""
LEAST_TRY_S = 1
VALIDATOR = "worker:validation"
NOT_OF_THE_IMAGE = (StoreUnavailable, BusUnavailable, Overloaded)
"""What says nothing about the image."""
WAITING = (ImageStatus.PENDING, ImageStatus.VALIDATING)


class Validation:
    """load → slow work holding nothing → decide → guarded write, with its messages."""

    def __init__(
        self,
        records: Records,
        registry: RegistryClient,
        secrets: Secrets,
        own: OwnRegistry,
        *,
        timeout_s: float,
    ) -> None:
        self._records = records
        self._own = own
        self._registry = registry
        self._secrets = secrets
        self._timeout_s = timeout_s

    async def validate(self, org: str, uuid: str, *, last_try: bool) -> None:
        """Settle a PENDING image as READY or FAILED. Idempotent: anything else is left alone.

        Raises RegistryUnavailable while another try may help, which the image says; on the last
        one, or once the time is over, it becomes FAILED with that reason.
        """
        image = await self._records.store.find_by_id(Image, uuid, org=org)
        if image is None or image.source is not ImageSource.REFERENCE:
            return
        if image.status not in WAITING:
            return
        if image.status is ImageStatus.PENDING:
            begun = _change(image, ImageStatus.VALIDATING, "validating")
            image = await self._records.commit(image, begun, actor=VALIDATOR)
        try:
            outcome = _examined(image, await self._resolve(image))
        except TimeoutError:
            where = self._registry.place(image.parts.registry)
            patience_s = self._patience_s(image)
            late = RegistryUnavailable(f"{where} did not answer within {patience_s:g} s.")
            outcome = _rejected(image, late)
        except NOT_OF_THE_IMAGE:
            raise
        except YardError as error:
            if error.retryable and not (last_try or self._is_over(image)):
                await self._tell_retry(image, error)
                raise
            outcome = _rejected(image, error)
        except Exception:
            # Its dead letter has the stack; the image says so instead of waiting for ever.
            if last_try:
                broken = YardError("It could not be checked: see the dead letters for the cause.")
                await self._settle(image, _rejected(image, broken))
            raise
        await self._settle(image, outcome)

    async def _settle(self, image: Image, outcome: Change) -> None:
        # Of one that was withdrawn meanwhile nobody wants to know.
        with suppress(NotFound):
            await self._records.commit(image, outcome, actor=VALIDATOR)

    async def _resolve(self, image: Image) -> ResolvedImage:
        parts = references.parse(image.reference)
        credentials, secret = None, await secret_of(self._records.store, image)
        try:
            async with asyncio.timeout(self._remaining_s(image)):
                parts, credentials = await self._own.claim(image.org, parts)
                if credentials is None and secret is not None:
                    credentials = await self._secrets.credentials_for(
                        image.org, secret, parts.registry
                    )
                return await self._registry.resolve(
                    parts, platform=image.requested_platform, credentials=credentials
                )
        except RegistryDenied as error:
            if secret is None or (credentials is not None and credentials.token):
                raise
            raise await self._secrets.blamed(image.org, secret, parts.registry, error) from error

    async def _tell_retry(self, image: Image, error: YardError) -> None:
        """Whoever waits for the image reads at the first failure why it takes long."""
        end = image.created_at + timedelta(seconds=self._patience_s(image))
        why = f"{error.message.rstrip('.')}; trying again until {end:%H:%M:%S} UTC."
        finding = Finding(code=error.code, severity=Severity.WARNING, message=why)
        if image.findings != [finding]:
            told = event("retrying", code=finding.code, message=why)
            values = {"findings": [finding], "last_failure": error.facts.get("kind")}
            change = Change(values, reason=why, send=[told])
            # Who was faster has news of his own; the next try tells this again.
            with suppress(LostRace, NotFound):
                await self._records.commit(image, change, actor=VALIDATOR)

    def _patience_s(self, image: Image) -> float:
        own = image.delivery.patience_s if image.delivery else None
        return own or self._timeout_s

    def _remaining_s(self, image: Image) -> float:
        """What one try may take."""
        if image.delivery is None or image.delivery.patience_s is None:
            return self._timeout_s
        return max(LEAST_TRY_S, image.delivery.patience_s - self._age_s(image))

    def _is_over(self, image: Image) -> bool:
        patience_s = self._patience_s(image)
        if image.delivery is not None:
            patience_s *= LAST_TRY_FRACTION
        return self._age_s(image) >= patience_s

    def _age_s(self, image: Image) -> float:
        return (self._records.clock() - image.created_at).total_seconds()


def _examined(image: Image, resolved: ResolvedImage) -> Change:
    """What was found out about the image: READY, or FAILED for every error that was found."""
    found = findings.examine(resolved)
    size = resolved.size_bytes
    values = findings.facts(image, resolved) | {
        "findings": found,
        "last_failure": None,
        "upload": Progress(done_bytes=size, total_bytes=size, percentage=100),
    }
    wrong = [finding.message for finding in found if finding.severity is Severity.ERROR]
    if wrong:
        return _change(image, ImageStatus.FAILED, "failed", " ".join(wrong), **values)
    return _change(image, ImageStatus.READY, "ready", **values)


def _rejected(image: Image, error: YardError) -> Change:
    listed = error.facts.get("findings") or [
        Finding(code=error.code, severity=Severity.ERROR, message=error.message)
    ]
    found = [Finding.model_validate(finding) for finding in listed]
    return _change(image, ImageStatus.FAILED, "failed", error.message, findings=found)


def _settle_entry(image: Image, at: datetime, actor: str | None) -> Message:
    """An order to record the outcome in the entry of the catalogue that the image is for."""
    return Message(
        id=f"{image.uuid}.{image.revision}.cmd-settle",
        subject=topology.command(image.org, CatalogEntry.resource, "settle"),
        type=f"modelyard.cmd.{CatalogEntry.resource}.settle",
        time=at,
        actor=actor,
        data={"id": str(image.catalog), "image": image.uuid},
    )


def _change(
    image: Image, status: ImageStatus, kind: str, reason: str | None = None, **values: Any
) -> Change:
    facts = {name: values.get(name) for name in ("digest", "size_bytes")}
    send = [event(kind, **facts)]
    if image.delivery is not None and status is not ImageStatus.VALIDATING:
        send.append(delivery_events.delivered)
    elif status is ImageStatus.READY and not image.named:
        send.append(command("supersede"))
    if image.catalog is not None and status is not ImageStatus.VALIDATING:
        send.append(_settle_entry)
    return Change(values, status=status, reason=reason, send=send)
