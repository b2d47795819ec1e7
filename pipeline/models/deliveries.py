"""Delivering images to versions of models: the newest delivery counts, older ones end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.access.roles import acting_for
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import Conflict, InvalidInput, InvalidReference, LostRace
from pipeline.images import delivery_events
from pipeline.images.delivery_events import failure_detail, has_failed
from pipeline.images.ownership import OwnRegistry
from pipeline.models.service import retired
from pipeline.oci import platforms, references, repositories
from pipeline.oci.references import Reference
from pipeline.organisations.quotas import Quotas, of_archive
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import Draft, command, event
from pipeline.records.sweeping import one_by_one
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.base import Progress
from schemas.container import Container
from schemas.image import Delivery, Finding, Image, ImageSource, ReferenceParts, Severity
from schemas.model import Activation, LoadTest, ModelVersion, TrialRun
from schemas.states import ContainerStatus, ImageStatus

SUPERSEDED: Final = "A newer delivery to this version took its place."


@dataclass(frozen=True, slots=True)
class DeliveredVersion:
    """A version with the image that counts."""

    version: ModelVersion
    image: Image


class ModelDeliveries:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self, records: Records, secrets: Secrets, own: OwnRegistry, settings: Settings
    ) -> None:
        self._records = records
        self._secrets = secrets
        self._link_timeout_s = settings.link_timeout_s
        self._registry = settings.registry
        self._own = own
        self._quotas = Quotas(records)

    async def link(
        self,
        caller: Principal,
        version: ModelVersion,
        url: str,
        *,
        username: str = "",
        password: str = "",
        platform: str | None = None,
    ) -> DeliveredVersion:
        """Deliver what lies in a registry; a worker looks whether it is there and complete.

        Without credentials it is asked for anonymously. Raises NotFound, InvalidReference,
        InvalidInput.
        """
        reference = _parse(url)
        await self._own.require_ones_own(caller.org, reference)
        image = self._image(caller, version, reference, platform)
        image.delivery = _delivery(version, patience_s=self._link_timeout_s)
        image.secret = await self._keep_credentials(caller, image, username, password)
        return await self._deliver(caller, version, image, [command("validate")])

    async def begin_archive(
        self,
        caller: Principal,
        version: ModelVersion,
        *,
        platform: str | None,
        source: ImageSource,
        total: int | None,
    ) -> DeliveredVersion:
        """An image of `total` bytes that is about to come as an archive counts from now on.

        What goes on with it: `pipeline.images.ingest.service`. Raises InvalidInput, QuotaExceeded.
        """
        place = repositories.of_version(version.model, version.version)
        reference = Reference(self._registry, place.repository, place.tag)
        image = self._image(caller, version, reference, platform)
        image.source, image.upload = source, Progress(total_bytes=total)
        return await self._deliver(caller, version, image)

    async def current(self, version: ModelVersion) -> Image | None:
        """The image that counts, also when its delivery failed; None before any delivery."""
        if version.image is None:
            return None
        image = await self._records.store.find_by_id(Image, version.image, org=version.org)
        if image is None or image.status is not ImageStatus.DELETED:
            return image
        # Else somebody deleted it through the door for images.
        return image if has_failed(image) else None

    def _image(
        self, caller: Principal, version: ModelVersion, reference: Reference, platform: str | None
    ) -> Image:
        if platform is not None:
            platforms.parse(platform)
        return Image(
            **self._records.initial(caller.org),
            name=str(reference),
            reference=str(reference),
            parts=ReferenceParts(**reference.asdict()),
            requested_platform=platform,
            delivery=_delivery(version),
            created_by=caller.id,
        )

    async def _keep_credentials(
        self, caller: Principal, image: Image, username: str, password: str
    ) -> str | None:
        """uuid of the secret that holds them."""
        if not username and not password:
            return None
        if not username or not password:
            raise InvalidInput("Send username and password together, or neither.", field="registry")
        data = {"server": image.parts.registry, "username": username, "password": password}
        name = f"delivery-{image.uuid}"
        secret = await self._secrets.create(
            caller, name=name, secret_type="registry", data=data, is_listed=False
        )
        return secret.uuid

    async def _deliver(
        self, caller: Principal, version: ModelVersion, image: Image, send: Sequence[Draft] = ()
    ) -> DeliveredVersion:
        """Make a new image the one that counts and end what was under way for the one before."""
        drafts = [event("created"), delivery_events.upload("started"), *send]
        async with self._quotas.admitted(image.org, image.uuid, of_archive(image)):
            image = await self._records.insert(image, drafts, actor=caller.id)
        before = version

        def decide(current: ModelVersion, at: datetime) -> Change:
            nonlocal before
            before = current
            ended = retired(current)
            values = {"image": image.uuid, "load": LoadTest(), "run": TrialRun(), **ended.values}
            if current.image is not None:
                values["superseded"] = [*current.superseded, current.image]
            if current.activation is Activation.ACTIVE:
                values["activation"] = Activation.INACTIVE.value
            return Change(values, send=ended.send)

        version = await self._records.amend(version, decide, actor=caller.id)
        superseded = await self.current(before)
        if superseded is not None:
            await self._records.amend(superseded, _superseded, actor=caller.id)
        return DeliveredVersion(version, image)


_UNDER_WAY = frozenset({ImageStatus.PENDING, ImageStatus.UPLOADING, ImageStatus.VALIDATING})


def _superseded(image: Image, _at: datetime) -> Change | None:
    """The end of a delivery under way. Of an archive nothing is kept but why it failed."""
    if image.status not in _UNDER_WAY:
        return None
    is_link = image.source is ImageSource.REFERENCE
    return Change(
        {"findings": [Finding(code="superseded", severity=Severity.ERROR, message=SUPERSEDED)]},
        status=ImageStatus.FAILED if is_link else ImageStatus.DELETED,
        reason=SUPERSEDED,
        send=[event("failed"), delivery_events.delivered],
    )


def _delivery(version: ModelVersion, *, patience_s: float | None = None) -> Delivery:
    return Delivery(
        identifier=version.model,
        model_name=version.model_name,
        version=version.version,
        patience_s=patience_s,
    )


def _parse(url: str) -> Reference:
    try:
        return references.parse(url)
    except InvalidReference:
        if "@" not in url:
            raise
    # What stands before the @ may be a password.
    raise InvalidReference(
        "The registry url is not an image reference: write it like host/repository:tag and send"
        " credentials as username and password.",
        field="registry.url",
    )


def require_complete(image: Image | None) -> Image:
    """Raises Conflict while there is no image that could be started."""
    if image is None:
        raise Conflict("The version has no container image: deliver one first.")
    if image.status is not ImageStatus.READY:
        why = failure_detail(image) if has_failed(image) else ""
        state = "has failed" if why else "is still under way"
        raise Conflict(f"The delivery of the container image {state}.", technical=why)
    return image


log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 50
OVER: Final = (ImageStatus.FAILED.value, ImageStatus.DELETED.value)


class DeliverySecrets:
    """Nodes pull with them, so they stay while their image counts or a container has it."""

    def __init__(self, records: Records, secrets: Secrets) -> None:
        self._records = records
        self._store = records.store
        self._secrets = secrets

    async def sweep(self) -> None:
        """Forget those of deliveries that failed or were superseded. Safe in several workers."""
        failed = {"secret": {"$gt": ""}, "delivery": {"$ne": None}, "status": {"$in": list(OVER)}}
        images = await self._store.find(
            Image, org=EVERY_ORG, where=failed, sort=[], limit=SWEPT_AT_ONCE
        )
        await one_by_one(images, self._forget)
        superseded = {"superseded.0": {"$exists": True}}
        versions = await self._store.find(
            ModelVersion, org=EVERY_ORG, where=superseded, sort=[], limit=SWEPT_AT_ONCE
        )
        await one_by_one(versions, self._settle)

    async def _settle(self, version: ModelVersion) -> None:
        done = {uuid for uuid in version.superseded if await self._is_over(version.org, uuid)}

        def decide(now: ModelVersion, _at: datetime) -> Change | None:
            left = [uuid for uuid in now.superseded if uuid not in done]
            return Change({"superseded": left}) if left != now.superseded else None

        if done:
            await self._records.amend(version, decide)

    async def _is_over(self, org: str, uuid: str) -> bool:
        """Whether nothing is left to forget of the image; forgets what can be forgotten."""
        image = await self._store.find_by_id(Image, uuid, org=org)
        if image is None or image.secret is None:
            return True
        living = {"image": uuid, "status": {"$ne": ContainerStatus.DELETED.value}}
        if await self._store.count(Container, org=org, where=living):
            return False
        return await self._forget(image)

    async def _forget(self, image: Image) -> bool:
        """The secret goes first: who is killed in between finds the image again."""
        assert image.secret is not None, "only images with credentials are looked at"
        await self._secrets.discard(acting_for(image.org, None), image.secret)
        try:
            await self._records.commit(image, Change({"secret": None}))
        except LostRace:
            return False  # the next sweep
        log.info("the credentials of image %s are forgotten", image.uuid)
        return True
