"""Organisations: what everything else carries as `org`, with a UUID and quotas."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Final

from pipeline.access.roles import require
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.adapters.store.totals import orgs
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from pipeline.records.closing import closing, kept
from pipeline.records.idempotency import fingerprint, id_for
from pipeline.records.kernel import Change, Records, living, require_revision
from pipeline.records.messages import event
from pipeline.records.queries import Page, page
from schemas.access import Permission, Principal
from schemas.base import Record
from schemas.container import Container, Volume
from schemas.deployment import Deployment
from schemas.image import Image, Upload
from schemas.organisation import Organisation, OrganisationEdit, OrganisationSpec
from schemas.registries.registry import Registry
from schemas.registries.secret import Secret
from schemas.states import OrganisationStatus, UploadStatus, VolumeStatus
from schemas.webhook import Webhook

log = logging.getLogger(__name__)

FOUNDER: Final = "system:bootstrap"
_NOT_DELETED: Final = {"status": {"$ne": "DELETED"}}
HELD: Final[Mapping[type[Record], Mapping[str, Any]]] = {
    Container: _NOT_DELETED,
    # What answers calls of a model holds nothing of its own: its replica counts as a container.
    Deployment: {**_NOT_DELETED, "owner": None},
    Image: _NOT_DELETED,
    Registry: {"deleted": False},
    Secret: {"deleted_at": None},
    Volume: {"status": VolumeStatus.READY.value},
    Webhook: _NOT_DELETED,
    Upload: {"status": {"$in": [UploadStatus.RECEIVING.value, UploadStatus.INGESTING.value]}},
}
"""What keeps an organisation from being deleted. Users and tokens go with it."""
_ALIVE: Final = living(OrganisationStatus.DELETED)

Prepare = Callable[[str], Awaitable[None]]


class Organisations:
    """Administrators of the installation's own organisation see and change all; others see theirs.

    An organisation is named by its uuid or its slug.
    """

    def __init__(self, records: Records, *, home: str, prepare: Prepare) -> None:
        """`prepare` makes what a new one needs on the broker; it must be idempotent."""
        self._records = records
        self._store = records.store
        self._home = home
        self._prepare = prepare
        self._uuids: dict[str, str] = {}

    async def ensure(self) -> list[str]:
        """Records for the installation's own organisation and every one that has records of
        whatever kind, as an earlier version left them; what each needs on the broker.

        Idempotent, safe to run concurrently. Returns the slugs of those that are not deleted.
        """
        known = await self._known()
        for slug in sorted({self._home, *await orgs(self._store)} - known.keys()):
            await self._found(slug)
        slugs = sorted(slug for slug, is_alive in (await self._known()).items() if is_alive)
        for slug in slugs:
            await self._prepare(slug)
        return slugs

    async def create(
        self, caller: Principal, spec: OrganisationSpec, *, key: str | None = None
    ) -> Organisation:
        """Idempotent per `key`. Raises PermissionDenied, AlreadyExists, KeyReused, InvalidInput,
        and BusUnavailable when only its streams are still missing: then repeat it."""
        require(caller, Permission.ORGANISATION_WRITE)
        if _is_uuid(spec.slug):
            raise InvalidInput("A slug must not look like a UUID.", field="slug")
        organisation = Organisation(
            **self._records.initial(self._home, id_for(self._home, Organisation.resource, key)),
            slug=spec.slug,
            name=spec.name or spec.slug,
            quotas=spec.quotas,
            request_hash=fingerprint(spec),
            created_by=caller.id,
        )
        taken = f"The slug {spec.slug} is taken, or was before: choose another one."
        made = await self._records.insert_once(
            organisation, [event("created")], actor=caller.id, taken=taken
        )
        await self._prepare(spec.slug)
        return made

    async def find(self, caller: Principal, wanted: str) -> Organisation:
        """Raises NotFound, also for one that is not the caller's to see."""
        named = {"_id": wanted.lower()} if _is_uuid(wanted) else {"slug": wanted}
        found = await self._store.find_one(Organisation, org=EVERY_ORG, where=named | _ALIVE)
        if found is None or not _may_see(caller, found.slug):
            raise NotFound(f"There is no organisation {wanted[:255]}.")
        return found

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Organisation]:
        """Newest first; deleted ones are not listed."""
        own = {} if Permission.ORGANISATION_WRITE in caller.permissions else {"slug": caller.org}
        return await page(
            self._store, Organisation, org=EVERY_ORG, where=_ALIVE | own, limit=limit, cursor=cursor
        )

    async def edit(
        self, caller: Principal, wanted: str, edit: OrganisationEdit, *, revision: int | None = None
    ) -> Organisation:
        """Change name and quotas; whatever was accepted before goes on.

        Idempotent. Raises NotFound, PermissionDenied, StaleRevision.
        """
        given = edit.model_dump(exclude_none=True, exclude={"quotas"})
        if edit.quotas is not None:
            given["quotas"] = edit.quotas.model_dump()

        def decide(organisation: Organisation, at: datetime) -> Change | None:
            require_revision(organisation, revision)
            if organisation.model_dump(include=set(given)) == given:
                return None
            return Change(given, send=[event("edited", **given)])

        require(caller, Permission.ORGANISATION_WRITE)
        organisation = await self.find(caller, wanted)
        return await self._records.amend(organisation, decide, actor=caller.id)

    async def delete(
        self, caller: Principal, wanted: str, *, revision: int | None = None
    ) -> Organisation:
        """Its tokens open nothing from then on. Idempotent by uuid.

        Raises NotFound, PermissionDenied, StaleRevision, and Conflict while it holds anything, or
        when it is the installation's own. Nothing is made in it meanwhile (`closing`).
        """
        require(caller, Permission.ORGANISATION_WRITE)
        gone = {"_id": wanted, "status": OrganisationStatus.DELETED.value}
        organisation = await self._store.find_one(Organisation, org=EVERY_ORG, where=gone)
        organisation = organisation or await self.find(caller, wanted)

        async with AsyncExitStack() as marks:

            async def decide(organisation: Organisation, at: datetime) -> Change | None:
                if organisation.status is OrganisationStatus.DELETED:
                    return None
                require_revision(organisation, revision)
                mark = await marks.enter_async_context(closing(self._store, organisation, at))
                await self._require_empty(organisation.slug)
                values, reason = {"closing": None}, f"deleted by {caller.id}"
                deleted = OrganisationStatus.DELETED
                return Change(values, deleted, reason, [event("deleted")], kept(mark))

            return await self._records.amend(organisation, decide, actor=caller.id)

    async def uuid_of(self, slug: str) -> str:
        """What clients call the organisation that tokens and records name by its slug; it never
        changes. Raises NotFound."""
        if slug not in self._uuids:
            self._uuids[slug] = await uuid_of(self._store, slug)
        return self._uuids[slug]

    async def known(self, text: str) -> str | None:
        """The slug of the organisation whose slug or UUID this is; None of any other text."""
        where = {"$or": [{"slug": text}, {"_id": text.lower()}]}
        found = await self._store.find_one(Organisation, org=EVERY_ORG, where=where)
        return None if found is None else found.slug

    async def slug_of(self, uuid: str) -> str:
        """The reverse. Raises NotFound."""
        return (await self._store.get(Organisation, uuid.lower(), org=EVERY_ORG)).slug

    async def _known(self) -> dict[str, bool]:
        found = await self._store.find(Organisation, org=EVERY_ORG, sort=())
        return {each.slug: each.status is not OrganisationStatus.DELETED for each in found}

    async def _found(self, slug: str) -> None:
        """Several processes may do it at once: they make the same one."""
        organisation = Organisation(
            **self._records.initial(self._home, organisation_id(slug)),
            slug=slug,
            name=slug,
            created_by=FOUNDER,
        )
        try:
            made = await self._records.insert_once(
                organisation, [event("created")], actor=FOUNDER, is_same=lambda _: True
            )
        except AlreadyExists:
            return
        if not made.replayed:
            log.info("organisation %s has the ID %s", slug, made.uuid)

    async def _require_empty(self, slug: str) -> None:
        if slug == self._home:
            raise Conflict("The installation belongs to this organisation: it cannot be deleted.")
        counted = []
        for kind, where in HELD.items():
            if count := await self._store.count(kind, org=slug, where=where):
                counted.append(_counted(count, kind.resource))
        if counted:
            raise Conflict(f"{slug} still has {', '.join(counted)}: delete these first.")


async def uuid_of(store: Store, slug: str) -> str:
    """Raises NotFound."""
    found = await store.find_one(Organisation, org=EVERY_ORG, where={"slug": slug})
    if found is None:
        raise NotFound(f"There is no organisation {slug}.")
    return found.uuid


def organisation_id(slug: str) -> str:
    """The UUID of an organisation that nobody asked for: the installation's own, and those that
    were there before organisations had records. It follows from the slug."""
    return id_for("", Organisation.resource, slug)


def _counted(count: int, noun: str) -> str:
    if count > 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun}"


def _may_see(caller: Principal, slug: str) -> bool:
    return slug == caller.org or Permission.ORGANISATION_WRITE in caller.permissions


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
