"""Delivering images to versions of models: the newest delivery counts, older ones end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.core import model_events, records
from pipeline.core.images import announce
from pipeline.core.model_endings import retired
from pipeline.core.model_writes import Change, ModelWrites
from pipeline.core.own_registry import OwnRegistry
from pipeline.errors import Conflict, InvalidInput, InvalidReference, LostRace, NotFound
from pipeline.rules import container_image, platforms, references, repositories
from pipeline.rules.references import Reference
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.image import (
    Delivery,
    Finding,
    Image,
    ImageSource,
    Progress,
    ReferenceParts,
    Severity,
)
from schemas.model import Activation, LoadTest, ModelVersion, TrialRun
from schemas.model_requests import RegistryLink
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.secrets import Secrets

SUPERSEDED: Final = "A newer delivery to this version took its place."


@dataclass(frozen=True, slots=True)
class Delivered:
    """A version with the image that counts."""

    version: ModelVersion
    image: Image


class ModelDeliveries:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        writes: ModelWrites,
        secrets: Secrets,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._writes = writes
        self._secrets = secrets
        self._link_timeout_s = settings.link_timeout_s
        self._registry = settings.registry
        self._own = OwnRegistry(store, settings.registry)
        self._clock = clock

    async def link(
        self,
        caller: Principal,
        model: str,
        version: str,
        link: RegistryLink,
        *,
        platform: str | None = None,
    ) -> Delivered:
        """Deliver what lies in a registry; a worker looks whether it is there and complete.

        Raises NotFound, InvalidReference, InvalidInput.
        """
        current = await self._writes.load(caller.org, model, version)
        reference = _parse(link.url)
        await self._own.require_ones_own(caller.org, reference)
        if platform is not None:
            platforms.parse(platform)
        delivery = _delivery(current, patience_s=self._link_timeout_s)
        image = self._image(caller, current, delivery, reference, platform=platform)
        image.secret = await self._keep_credentials(caller, image, link)
        image.outbox.append(
            records.command(image, "validate", at=image.created_at, actor=caller.id, revision=1)
        )
        return await self.deliver(caller, current, image)

    async def begin_archive(
        self,
        caller: Principal,
        model: str,
        version: str,
        *,
        platform: str | None,
        source: ImageSource,
        total: int | None,
    ) -> Delivered:
        """An image of `total` bytes that is about to come as an archive counts from now on.

        What goes on with it: `pipeline.core.deliveries`. Raises NotFound, InvalidInput.
        """
        current = await self._writes.load(caller.org, model, version)
        if platform is not None:
            platforms.parse(platform)
        place = repositories.of_version(current.model, current.version)
        reference = Reference(self._registry, place.repository, place.tag)
        image = self._image(
            caller,
            current,
            _delivery(current),
            reference,
            platform=platform,
            source=source,
            total=total,
        )
        return await self.deliver(caller, current, image)

    async def deliver(self, caller: Principal, version: ModelVersion, image: Image) -> Delivered:
        """Make a new image the one that counts and end what was under way for the one before."""
        image = await self._store.insert(image)
        before = version

        def decide(current: ModelVersion, at: datetime) -> Change:
            nonlocal before
            before = current
            values: dict[str, Any] = {
                "image": image.uuid,
                "load": LoadTest(),
                "run": TrialRun(),
            }
            if current.image is not None:
                values["superseded"] = [*current.superseded, current.image]
            ended = retired(current, at=at, actor=caller.id)
            if current.activation is Activation.ACTIVE:
                values["activation"] = Activation.INACTIVE.value
            return Change({**values, **ended.values}, ended.messages)

        version = await self._writes.amend(version, decide)
        await self._outbox.send(image)
        await self._end(caller, before)
        return Delivered(version, image)

    async def current(self, version: ModelVersion) -> Image | None:
        """The image that counts, also when its delivery failed; None before any delivery."""
        if version.image is None:
            return None
        try:
            image = await self._store.get(Image, version.image, org=version.org)
        except NotFound:
            return None
        # Somebody deleted it through the door for images.
        is_gone = image.status is ImageStatus.DELETED and not container_image.has_failed(image)
        return None if is_gone else image

    async def fail(
        self, image: Image, *, code: str, reason: str, actor: str | None, at: datetime
    ) -> Image:
        """End a delivery that is under way. Of an archive nothing is kept but why it failed."""
        is_tar = image.source is not ImageSource.REFERENCE
        status = ImageStatus.DELETED if is_tar else ImageStatus.FAILED
        findings = [Finding(code=code, severity=Severity.ERROR, message=reason)]
        after = image.model_copy(update={"status": status, "reason": reason, "findings": findings})
        revision = image.revision + 1
        said = [announce(after, "failed", at=at, actor=actor, revision=revision)]
        said += model_events.settled(after, at=at, actor=actor, revision=revision)
        image = await self._store.change(
            image,
            {"findings": [finding.model_dump() for finding in findings]},
            at=at,
            status=status,
            reason=reason,
            messages=said,
        )
        await self._outbox.send(image)
        return image

    def _image(
        self,
        caller: Principal,
        version: ModelVersion,
        delivery: Delivery,
        reference: Reference,
        *,
        platform: str | None,
        source: ImageSource = ImageSource.REFERENCE,
        total: int | None = None,
    ) -> Image:
        at = self._clock()
        image = Image(
            uuid=records.new_id(),
            org=caller.org,
            created_at=at,
            updated_at=at,
            status_since=at,
            name=str(reference),
            reference=str(reference),
            parts=ReferenceParts(**reference.asdict()),
            requested_platform=platform,
            source=source,
            upload=Progress(total_bytes=total),
            delivery=delivery,
            created_by=caller.id,
        )
        image.outbox = [
            announce(image, "created", at=at, actor=caller.id, revision=1),
            model_events.started(image, at=at, actor=caller.id),
        ]
        return image

    async def _keep_credentials(
        self, caller: Principal, image: Image, link: RegistryLink
    ) -> str | None:
        """uuid of the secret that holds them."""
        password = link.password.get_secret_value() if link.password else ""
        if not link.username and not password:
            return None
        if not link.username or not password:
            raise InvalidInput("Send username and password together, or neither.", field="registry")
        data = {"server": image.parts.registry, "username": link.username, "password": password}
        secret = await self._secrets.create(
            caller,
            name=f"delivery-{image.uuid}",
            secret_type="registry",
            data=data,
            is_listed=False,
        )
        return secret.uuid

    async def _end(self, caller: Principal, before: ModelVersion) -> None:
        """What was under way for the image that counted before is of no use any more."""
        image = await self.current(before)
        for _ in range(10):
            if image is None or image.status not in _UNDER_WAY:
                return
            try:
                await self.fail(
                    image,
                    code="superseded",
                    reason=SUPERSEDED,
                    actor=caller.id,
                    at=self._clock(),
                )
            except LostRace:
                image = await self.current(before)


_UNDER_WAY = frozenset({ImageStatus.PENDING, ImageStatus.UPLOADING, ImageStatus.VALIDATING})


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
    if not container_image.is_complete(image):
        why = container_image.failure_detail(image) if container_image.has_failed(image) else ""
        state = "has failed" if why else "is still under way"
        raise Conflict(f"The delivery of the container image {state}.", technical=why)
    return image
