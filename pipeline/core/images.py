"""Images: brought by reference, kept until nobody uses them. Proving them: `validation`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.core import records, registry_directory
from pipeline.core.paging import Page, page
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    LostRace,
    NotFound,
    StaleRevision,
)
from pipeline.rules import references, specs
from schemas.access import Principal
from schemas.container import Container
from schemas.image import Image, ImageSpec, Needs, ReferenceParts
from schemas.message import Message
from schemas.states import ContainerStatus, ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.own_registry import OwnRegistry
    from pipeline.core.secrets import Secrets

DELETE_ATTEMPTS = 10
DELETED = "The image was deleted: bring it again if it is wanted still."


class Images:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        secrets: Secrets,
        own: OwnRegistry,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._own = own
        self._outbox = outbox
        self._secrets = secrets
        self._clock = clock

    async def submit(self, caller: Principal, spec: ImageSpec, *, key: str | None = None) -> Image:
        """Record an image as PENDING and have it validated.

        Idempotent per `key`: a repeat returns the record of the first call. Raises KeyReused when
        the repeat asks for something else, InvalidReference, NotFound for an unknown secret, and
        AlreadyExists when the chosen name is taken, InvalidInput for needs, labels or a platform
        that make no sense.
        """
        specs.require_image(spec)
        parts = references.parse(spec.reference)
        await self._own.require_ones_own(caller.org, parts)
        wanted = spec.secret or await registry_directory.secret_for(self._store, caller.org, parts)
        if wanted is None:
            return await self._submit(caller, spec, parts, key, None)
        async with self._secrets.held(caller.org, wanted) as secret:
            return await self._submit(caller, spec, parts, key, secret.uuid)

    async def get(self, caller: Principal, uuid: str) -> Image:
        """Raises NotFound; a deleted image is not found any more."""
        image = await self._store.get(Image, uuid, org=caller.org)
        if image.status is ImageStatus.DELETED:
            raise NotFound(f"There is no image {uuid}.")
        return image

    async def find(self, caller: Principal, wanted: str) -> Image:
        """By uuid, else by the name somebody chose, else the newest one of that name or reference.

        Of those that share a name or reference, a READY one comes first. Raises NotFound.
        """
        image = await self._store.find_one(Image, org=caller.org, where={"_id": wanted})
        image = image or await self._named(caller.org, wanted)
        if image is None or image.status is ImageStatus.DELETED:
            raise NotFound(f"There is no image called {wanted}: submit it first.")
        return image

    async def list(
        self,
        caller: Principal,
        *,
        limit: int = 50,
        cursor: str | None = None,
        status: str | None = None,
        name: str | None = None,
    ) -> Page[Image]:
        """Newest first. Deleted images appear only when `status` asks for them."""
        where: dict[str, Any] = {"status": status or {"$ne": ImageStatus.DELETED.value}}
        if name is not None:
            where["name"] = name
        return await page(
            self._store, Image, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def delete(self, caller: Principal, uuid: str, *, revision: int | None = None) -> Image:
        """Soft delete. Idempotent.

        Raises NotFound, StaleRevision, and Conflict while a container still uses it.
        """
        for _ in range(DELETE_ATTEMPTS):
            image = await self._store.get(Image, uuid, org=caller.org)
            if image.status is ImageStatus.DELETED:
                return image
            if revision is not None and revision != image.revision:
                raise StaleRevision(f"The image is at revision {image.revision}, not {revision}.")
            await self._refuse_while_used(image)
            try:
                return await self._delete(image, caller)
            except LostRace:
                continue
        raise Conflict("The image keeps changing: try again.")

    async def _delete(self, image: Image, caller: Principal) -> Image:
        at = self._clock()
        message = announce(
            image,
            "deleted",
            at=at,
            actor=caller.id,
            revision=image.revision + 1,
            status=ImageStatus.DELETED,
            reason=DELETED,
        )
        image = await self._store.change(
            image, {}, at=at, status=ImageStatus.DELETED, reason=DELETED, messages=[message]
        )
        await self._outbox.send(image)
        return image

    async def _named(self, org: str, wanted: str) -> Image | None:
        """What nobody chose is not unique: pushes may share a name."""
        living: dict[str, Any] = {"status": {"$ne": ImageStatus.DELETED.value}}
        chosen = {"name": wanted, "named": True} | living
        called = {"$or": [{"name": wanted}, {"reference": wanted}]}
        ready = called | {"status": ImageStatus.READY.value}
        for where in (chosen, ready, called | living):
            if found := await self._store.find(Image, org=org, where=where, limit=1):
                return found[0]
        return None

    async def _submit(
        self,
        caller: Principal,
        spec: ImageSpec,
        parts: references.Reference,
        key: str | None,
        secret: str | None,
    ) -> Image:
        at = self._clock()
        image = Image(
            uuid=records.id_for(caller.org, Image.resource, key),
            org=caller.org,
            created_at=at,
            updated_at=at,
            status_since=at,
            name=spec.name or spec.reference,
            named=spec.name is not None,
            reference=spec.reference,
            parts=ReferenceParts(**parts.asdict()),
            requested_platform=spec.platform,
            requested_needs=spec.needs,
            needs=spec.needs or Needs(),
            secret=secret,
            labels=spec.labels,
            request_hash=records.fingerprint(spec),
            created_by=caller.id,
        )
        image.outbox = [
            announce(image, "created", at=at, actor=caller.id, revision=1),
            records.command(image, "validate", at=at, actor=caller.id, revision=1),
        ]
        return await self._insert(image)

    async def _insert(self, image: Image) -> Image:
        try:
            image = await self._store.insert(image)
        except AlreadyExists as taken:
            return await self._replayed(image, taken)
        await self._outbox.send(image)
        return image

    async def _replayed(self, image: Image, taken: AlreadyExists) -> Image:
        """The record of an earlier request with the same key, or the refusal."""
        try:
            earlier = await self._store.get(Image, image.uuid, org=image.org)
        except NotFound:
            raise AlreadyExists(
                f"An image named {image.name} exists already: delete it or choose another name.",
                **taken.facts,
            ) from taken
        is_same = earlier.request_hash == image.request_hash
        return records.replayed(earlier, is_same=is_same)

    async def _refuse_while_used(self, image: Image) -> None:
        users = await self._store.find(
            Container,
            org=image.org,
            where={"image": image.uuid, "status": {"$ne": ContainerStatus.DELETED.value}},
            limit=10,
        )
        if users:
            names = ", ".join(sorted(user.name for user in users))
            raise Conflict(f"Containers still use this image: {names}. Delete them first.")


def announce(
    image: Image, kind: str, *, at: datetime, actor: str | None, revision: int, **facts: Any
) -> Message:
    """An event of an image, with what every reader of events wants to know."""
    seen = {
        "name": image.name,
        "reference": image.reference,
        "status": image.status,
        "reason": image.reason,
    }
    return records.event(image, kind, at=at, actor=actor, revision=revision, **(seen | facts))
