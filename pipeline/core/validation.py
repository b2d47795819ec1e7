"""The stage that proves an image: it is there, complete and runnable, and which one it is."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.core import model_events, records
from pipeline.core.images import announce
from pipeline.errors import (
    BusUnavailable,
    Overloaded,
    RegistryUnavailable,
    StoreUnavailable,
    YardError,
)
from pipeline.ports import ResolvedImage
from pipeline.rules import findings, references
from schemas.image import Finding, Image, ImageSource, Needs, Progress, Severity
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.registry import RegistryClient
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.secrets import Secrets

log = logging.getLogger(__name__)

LAST_TRY_FRACTION = 0.2
"""Of the patience with a registry: a try that begins later is the last one, since the next would
come too late."""
LEAST_TRY_S = 1
VALIDATOR = "worker:validation"
OF_OUR_OWN = (StoreUnavailable, BusUnavailable, Overloaded)
"""What says nothing about the image."""
WAITING = (ImageStatus.PENDING, ImageStatus.VALIDATING)


class Validation:
    """load → slow work holding nothing → guarded write → next message."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        registry: RegistryClient,
        secrets: Secrets,
        *,
        timeout_s: float,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._registry = registry
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._clock = clock

    async def validate(self, org: str, uuid: str, *, last_try: bool) -> None:
        """Settle a PENDING image as READY or FAILED. Idempotent: anything else is left alone.

        Raises RegistryUnavailable while another try may help; on the last one, or once the time
        is over, the image becomes FAILED with that reason instead of waiting for ever.
        """
        image = await self._store.get(Image, uuid, org=org)
        if image.status not in WAITING or image.source is not ImageSource.REFERENCE:
            return
        if image.status is ImageStatus.PENDING:
            image = await self._move(image, ImageStatus.VALIDATING, "validating", {})
        try:
            resolved = await self._resolve(image)
        except (YardError, TimeoutError) as error:
            await self._settle_failure(image, error, last_try)
        except Exception:
            # It is buried with its stack; the image says so instead of waiting for ever.
            if last_try:
                broken = YardError("It could not be checked: see the dead letters for the cause.")
                await self._settle_failure(image, broken, last_try)
            raise
        else:
            await self._settle(image, resolved)

    async def _resolve(self, image: Image) -> ResolvedImage:
        parts = references.parse(image.reference)
        credentials = image.secret and await self._secrets.credentials_for(
            image.org, image.secret, parts.registry
        )
        async with asyncio.timeout(self._remaining_s(image)):
            return await self._registry.resolve(
                parts, platform=image.requested_platform, credentials=credentials or None
            )

    async def _settle(self, image: Image, resolved: ResolvedImage) -> None:
        found = findings.examine(resolved)
        wrong = [finding for finding in found if finding.severity is Severity.ERROR]
        values: dict[str, Any] = {
            "pinned": f"{resolved.parts.registry}/{resolved.parts.repository}@{resolved.digest}",
            "digest": resolved.digest,
            "platform": resolved.platform.model_dump(),
            "size_bytes": resolved.size_bytes,
            "needs": _needs(image, resolved).model_dump(),
            "image_labels": dict(resolved.labels),
            "image_annotations": dict(resolved.annotations),
            "has_healthcheck": resolved.has_healthcheck,
            "findings": [finding.model_dump() for finding in found],
            "upload": Progress(
                done_bytes=resolved.size_bytes, total_bytes=resolved.size_bytes, percentage=100
            ).model_dump(),
        }
        if wrong:
            reason = " ".join(finding.message for finding in wrong)
            await self._move(image, ImageStatus.FAILED, "failed", values, reason)
        else:
            await self._move(image, ImageStatus.READY, "ready", values)

    def _patience_s(self, image: Image) -> float:
        own = image.delivery.patience_s if image.delivery else None
        return own or self._timeout_s

    def _remaining_s(self, image: Image) -> float:
        """What one try may take."""
        if image.delivery is None or image.delivery.patience_s is None:
            return self._timeout_s
        waited_s = (self._clock() - image.created_at).total_seconds()
        return max(LEAST_TRY_S, image.delivery.patience_s - waited_s)

    def _is_over(self, image: Image, now: datetime) -> bool:
        patience_s = self._patience_s(image)
        if image.delivery is not None:
            patience_s *= LAST_TRY_FRACTION
        return now >= image.created_at + timedelta(seconds=patience_s)

    async def _settle_failure(self, image: Image, error: Exception, last_try: bool) -> None:
        over = self._is_over(image, self._clock())
        if isinstance(error, TimeoutError):
            patience_s = self._patience_s(image)
            error = RegistryUnavailable(f"The registry did not answer within {patience_s:g} s.")
            over = True
        assert isinstance(error, YardError)
        if isinstance(error, OF_OUR_OWN) or (error.retryable and not (last_try or over)):
            raise error
        values = {"findings": [finding.model_dump() for finding in _as_findings(error)]}
        await self._move(image, ImageStatus.FAILED, "failed", values, error.message)

    async def _move(
        self,
        image: Image,
        status: ImageStatus,
        kind: str,
        values: dict[str, Any],
        reason: str | None = None,
    ) -> Image:
        at = self._clock()
        revision = image.revision + 1
        message = announce(
            image,
            kind,
            at=at,
            actor=VALIDATOR,
            revision=revision,
            status=status,
            reason=reason,
            digest=values.get("digest"),
            size_bytes=values.get("size_bytes"),
        )
        told = []
        if image.delivery is not None:
            known = {**dict(image), **values, "status": status, "reason": reason}
            after = Image.model_validate(known)
            told = model_events.settled(after, at=at, actor=VALIDATOR, revision=revision)
        image = await self._store.change(
            image, values, at=at, status=status, reason=reason, messages=[message, *told]
        )
        await self._outbox.send(image)
        return image


def _needs(image: Image, resolved: ResolvedImage) -> Needs:
    """What the image declares, and in its place what its owner says instead."""
    said = image.requested_needs.model_dump(exclude_defaults=True) if image.requested_needs else {}
    return resolved.needs.model_copy(update=said)


def _as_findings(error: YardError) -> list[Finding]:
    listed = error.facts.get("findings")
    if listed:
        return [f if isinstance(f, Finding) else Finding.model_validate(f) for f in listed]
    return [Finding(code=error.code, severity=Severity.ERROR, message=error.message)]
