"""Images: brought by reference, kept until nobody uses them. Proving them: `validation`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.errors import AlreadyExists, Conflict, NotFound, StaleRevision
from pipeline.images import specs as image_specs
from pipeline.images.ownership import OwnRegistry
from pipeline.oci import references
from pipeline.records.idempotency import fingerprint, id_for
from pipeline.records.kernel import Change, Records, living
from pipeline.records.messages import command, event
from pipeline.records.queries import Page, find_called, get_living, page
from pipeline.registries.service import SecretsOfHosts
from pipeline.secrets.service import Secrets
from schemas.access import Principal, User
from schemas.container import Container
from schemas.deployment import Deployment
from schemas.image import Image, ImageSource, ImageSpec, Needs, ReferenceParts
from schemas.states import ContainerStatus, DeploymentStatus, ImageStatus

WITHDRAWN_FROM: Final = (ImageStatus.PENDING, ImageStatus.VALIDATING, ImageStatus.FAILED)
DELETED = "The image was deleted: bring it again if it is wanted still."


class Images:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(self, records: Records, secrets: Secrets, own: OwnRegistry) -> None:
        self._records = records
        self._store = records.store
        self._secrets = secrets
        self._of_hosts = SecretsOfHosts(self._store)
        self._own = own

    async def submit(
        self,
        caller: Principal,
        spec: ImageSpec,
        *,
        key: str | None = None,
        own: Mapping[str, str] | None = None,
        catalog: int | None = None,
    ) -> Image:
        """Record an image as PENDING and have it validated. `own`: see `specs.annotated`;
        `catalog`: the entry that it is brought for.

        Idempotent per `key`: a repeat returns the record of the first call. Raises KeyReused when
        the repeat asks for something else, InvalidReference, NotFound for an unknown secret, and
        AlreadyExists when the chosen name is taken, InvalidInput for needs, labels or a platform
        that make no sense.
        """
        image_specs.require_image(spec)
        annotations = image_specs.annotated(spec.annotations, own)
        parts = image_specs.parse_reference(spec)
        await self._own.require_ones_own(caller.org, parts)
        wanted = spec.secret or await self._of_hosts.find(caller.org, parts)
        if wanted is None:
            return await self._submit(caller, spec, annotations, parts, key, None, catalog)
        async with self._secrets.held(caller.org, wanted) as secret:
            return await self._submit(caller, spec, annotations, parts, key, secret.uuid, catalog)

    async def get(self, caller: Principal, uuid: str) -> Image:
        """As `get_living`."""
        return await get_living(self._store, Image, uuid, org=caller.org)

    async def recall(self, caller: Principal, uuid: str) -> Image | None:
        """Also one that was deleted."""
        return await self._store.find_by_id(Image, uuid, org=caller.org)

    async def find(self, caller: Principal, wanted: str) -> Image:
        """By uuid, else by the name somebody chose, else the newest one of that name or reference.

        Of those that share a name or reference, a READY one comes first, and none that was
        superseded: such a one is found by `name@digest`, by `digest` or by uuid, of which the
        beginning is enough. Raises NotFound, and InvalidInput for a beginning that is not clear.
        """
        ways = _ways_to_mean(wanted)
        image = await find_called(self._store, Image, wanted, org=caller.org, named=ways)
        if image is None:
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
        superseded: bool = False,
    ) -> Page[Image]:
        """Newest first. Deleted images appear only when `status` asks for them, and those whose
        name a newer one has when `superseded` does."""
        where = living(ImageStatus.DELETED, status, name=name)
        if not superseded:
            where |= _CURRENT
        return await page(
            self._store, Image, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def search(
        self, caller: Principal, search: ImageSearch, *, limit: int, skip: int
    ) -> tuple[Sequence[Image], int]:
        """A part of what matches, and how many match in all. One whose name a newer one has is
        not among them, and a deleted one only when its status is asked for."""
        where = {**_CURRENT, **search.where(await self._users_called(caller.org, search.creator))}
        total = await self._store.count(Image, org=caller.org, where=where)
        if skip >= total or not limit:
            return [], total
        way = 1 if search.oldest_first else -1
        found = await self._store.find(
            Image,
            org=caller.org,
            where=where,
            sort=(("created_at", way), ("_id", way)),
            limit=limit,
            skip=skip,
        )
        return found, total

    async def delete(self, caller: Principal, uuid: str, *, revision: int | None = None) -> Image:
        """Soft delete. Idempotent.

        Raises NotFound, StaleRevision, and Conflict while a container or deployment uses it.
        """

        async def decide(image: Image, at: datetime) -> Change | None:
            if image.status is ImageStatus.DELETED:
                image.replayed = True
                return None
            if revision is not None and revision != image.revision:
                raise StaleRevision(f"The image is at revision {image.revision}, not {revision}.")
            await self._refuse_while_used(image)
            # No deployment was made of it since it was read.
            guard = {"times_used": image.times_used or {"$in": [0, None]}}
            return Change({}, ImageStatus.DELETED, DELETED, [event("deleted")], guard)

        image = await self._store.get(Image, uuid, org=caller.org)
        return await self._records.amend(image, decide, actor=caller.id)

    async def withdraw(self, caller: Principal, uuid: str) -> Image:
        """Forget one that came to nothing, for good: its name is free at once. Idempotent.

        One that is READY after all, or is used, stays. Raises NotFound.
        """

        def decide(image: Image, at: datetime) -> Change | None:
            if image.status not in WITHDRAWN_FROM:
                return None
            return Change(status=ImageStatus.DELETED, reason=image.reason, send=[event("deleted")])

        image = await self._store.get(Image, uuid, org=caller.org)
        image = await self._records.amend(image, decide, actor=caller.id)
        if image.status is ImageStatus.DELETED:
            await self._records.purge(image)
        return image

    async def supersede(self, org: str, uuid: str) -> None:
        """Let the newest READY image have a name that nobody chose. Idempotent, and right in
        whatever order the images of one name ask for it. Raises NotFound."""
        image = await self._store.get(Image, uuid, org=org)
        if not _is_tagged(image):
            return
        alike = await self._store.find(Image, org=org, where=_rivals(image))
        newest, older = _superseded(alike) or (image, [])

        def decide(rival: Image, at: datetime) -> Change | None:
            if rival.superseded_by is not None or rival.status is ImageStatus.DELETED:
                return None
            return Change(
                {"superseded_by": newest.uuid}, send=[event("superseded", by=newest.uuid)]
            )

        for rival in older:
            await self._records.amend(rival, decide)

    async def _users_called(self, org: str, name: str) -> Sequence[str]:
        if not name:
            return []
        found = await self._store.find(User, org=org, where={"name": _alike(name)})
        return [f"user:{user.uuid}" for user in found]

    async def _submit(
        self,
        caller: Principal,
        spec: ImageSpec,
        annotations: dict[str, str],
        parts: references.Reference,
        key: str | None,
        secret: str | None,
        catalog: int | None,
    ) -> Image:
        if spec.name is not None:
            await self._refuse_pushed(caller.org, spec.name, key)
        image = Image(
            **self._records.initial(caller.org, id_for(caller.org, Image.resource, key)),
            name=spec.name or spec.reference,
            named=spec.name is not None,
            reference=spec.reference,
            parts=ReferenceParts(**parts.asdict()),
            requested_platform=spec.platform,
            requested_needs=spec.needs,
            needs=spec.needs or Needs(),
            secret=secret,
            labels=spec.labels,
            defaults=spec.defaults,
            annotations=annotations,
            catalog=catalog,
            request_hash=fingerprint(spec),
            created_by=caller.id,
        )
        try:
            return await self._records.insert_once(
                image, [event("created"), command("validate")], actor=caller.id
            )
        except AlreadyExists as taken:
            raise await self._name_taken(image, taken) from taken

    async def _name_taken(self, image: Image, taken: AlreadyExists) -> AlreadyExists:
        chosen = living(ImageStatus.DELETED, name=image.name, named=True)
        holder = await self._store.find_one(Image, org=image.org, where=chosen)
        status = f" and is {holder.status}" if holder else ""
        return AlreadyExists(
            f"An image named {image.name} exists already{status}: delete it, which frees the name,"
            " or choose another name.",
            **taken.facts,
        )

    async def _refuse_pushed(self, org: str, name: str, key: str | None) -> None:
        """Raises AlreadyExists for the name of a pushed image, unless the request is a repeat."""
        if await self._store.find_one(Image, org=org, where=_pushed_as(name)) is None:
            return
        own = id_for(org, Image.resource, key)
        if key is None or await self._store.find_by_id(Image, own, org=org) is None:
            raise AlreadyExists(
                f"An image that was pushed is called {name}: delete it or choose another name."
            )

    async def _refuse_while_used(self, image: Image) -> None:
        # Also one that is stopped, and has no containers at the moment; but one that answers calls
        # of a model ends with the image, unless it is called just now.
        made_of_it = living(DeploymentStatus.DELETED) | {"template.spec.image": image.uuid}
        in_use = {"$or": [{"owner": None}, {"replicas": {"$gt": 0}}]}
        keepers = await self._store.find(
            Deployment, org=image.org, where=made_of_it | in_use, limit=10
        )
        if called := sorted(
            f"/api/models/{each.owner.model}/versions/{each.owner.version}"
            for each in keepers
            if each.owner
        ):
            raise Conflict(
                f"Calls of models still use this image: POST shutdown to {', '.join(called)} first."
            )
        users = await self._store.find(
            Container,
            org=image.org,
            where=living(ContainerStatus.DELETED, image=image.uuid),
            limit=10,
        )
        if users:
            names = ", ".join(sorted(user.name for user in users))
            raise Conflict(f"Containers still use this image: {names}. Delete them first.")
        if keepers:
            names = ", ".join(sorted(keeper.name for keeper in keepers))
            raise Conflict(f"Deployments still use this image: {names}. Delete them first.")


@dataclass(frozen=True, slots=True)
class ImageSearch:
    """What images to look for; whatever is empty matches all."""

    statuses: Collection[ImageStatus] = ()
    """Empty: all but deleted ones."""
    name_part: str = ""
    """Case does not count."""
    creator: str = ""
    """Id of who brought it, or name of a user; case does not count."""
    oldest_first: bool = False

    def where(self, creators: Sequence[str]) -> dict[str, Any]:
        """`creators`: ids of the users who are called `creator`."""
        wanted: dict[str, Any] = dict(_ALIVE)
        if self.statuses:
            wanted["status"] = {"$in": [status.value for status in self.statuses]}
        if self.name_part:
            wanted["name"] = {"$regex": _literal(self.name_part), "$options": "i"}
        if self.creator:
            by = [{"created_by": _alike(self.creator)}, {"created_by": {"$in": list(creators)}}]
            wanted["$or"] = by
        return wanted


def _alike(text: str) -> dict[str, str]:
    """Equal but for the case."""
    return {"$regex": f"^{_literal(text)}$", "$options": "i"}


def _literal(text: str) -> str:
    # A NUL would end the pattern.
    return re.escape(text).replace("\0", r"\x00")


# --- How images are called, and who has a name. One that was chosen for an image by reference is
# its own; every other one behaves like a tag: the newest READY image has it.

_CURRENT: Final[Mapping[str, Any]] = {"superseded_by": None}
_ALIVE: Final[Mapping[str, Any]] = living(ImageStatus.DELETED)
_READY: Final[Mapping[str, Any]] = {"status": ImageStatus.READY.value}
_PUSHED: Final[Mapping[str, Any]] = {"source": {"$ne": ImageSource.REFERENCE.value}}
_DIGEST = re.compile(r"sha(256|512):[0-9a-f]{12,128}")


def _ways_to_mean(text: str) -> list[Mapping[str, Any]]:
    """Queries for the image that a text means which is no ID; the first that finds one counts."""
    chosen = {"name": text, "named": True, **_ALIVE}
    called = {**_called(text), **_CURRENT}
    ways: list[Mapping[str, Any]] = [chosen, {**called, **_READY}, {**called, **_ALIVE}]
    name, at, digest = text.rpartition("@")
    if _DIGEST.fullmatch(digest):
        begun = {"digest": {"$gte": digest, "$lt": f"{digest}g"}}
        ways.append({**begun, **_ALIVE, **(_called(name) if at else {})})
    return ways


def _pushed_as(name: str) -> dict[str, Any]:
    """The query for the image that has this name from a push."""
    return {"name": name, "delivery": None, **_PUSHED, **_READY, **_CURRENT}


def _is_tagged(image: Image) -> bool:
    """It has a name now that a newer image takes from it."""
    is_free = not image.named and image.delivery is None and image.superseded_by is None
    return is_free and image.status is ImageStatus.READY


def _rivals(image: Image) -> dict[str, Any]:
    """The query for all that have its name. One reference may be had for several platforms."""
    is_pushed = image.source is not ImageSource.REFERENCE
    alike = {"source": image.source.value, "requested_platform": image.requested_platform}
    settled = [ImageStatus.READY.value, ImageStatus.FAILED.value]
    return {
        "name": image.name,
        "named": False,
        "delivery": None,
        "status": {"$in": settled},
        **_CURRENT,
        **(_PUSHED if is_pushed else alike),
    }


def _superseded(images: Sequence[Image]) -> tuple[Image, list[Image]] | None:
    """Of images of one name: who has it, and who has it no more. None when none is READY."""
    ready = [image for image in images if image.status is ImageStatus.READY]
    if not ready:
        return None
    newest = max(ready, key=_settled_at)
    return newest, [image for image in images if _settled_at(image) < _settled_at(newest)]


def _called(text: str) -> dict[str, Any]:
    return {"$or": [{"name": text}, {"reference": text}]}


def _settled_at(image: Image) -> tuple[datetime, str]:
    return image.status_since or image.updated_at, image.uuid
