"""The catalogue of Docker images: entries are made, changed, searched and removed.

Validating their images: `catalog.validation`. What they require of nodes: `gates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.adapters.store import numbering
from pipeline.adapters.store.search import Found, Search, Wanted
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.catalog import drafts, fields
from pipeline.catalog.drafts import PASSWORD
from pipeline.catalog.gates import users_of
from pipeline.catalog.rows import CatalogRows
from pipeline.catalog.search_fields import STORED, EntrySearch, is_narrow
from pipeline.catalog.snapshot import Snapshot
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, NotFound, StaleRevision
from pipeline.mongo_language import filters
from pipeline.mongo_language.filter_spec import Specification
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.secrets.rotation import Sealed
from pipeline.secrets.vault import Vault
from pipeline.settings import Settings
from schemas.access import Permission, Principal, Role
from schemas.registries.catalog import CatalogEntry, CatalogValidation

COUNTER: Final = "catalog-entries"
PURGED_AT_ONCE: Final = 100
TOMBSTONE_AGE: Final = timedelta(seconds=30)
PAGE_MAX: Final = 64 * 1024 * 1024
STORED_FIELDS: Final = (
    "pk",
    *(name for name in drafts.NAMES if name != PASSWORD),
    "sealed_password",
)
"""What a search reads."""
Values = Mapping[str, Any]


def _sealed(entry: CatalogEntry) -> Mapping[str, str]:
    return {"sealed_password": entry.sealed_password} if entry.sealed_password else {}


def _sealed_for(pk: int) -> str:
    return f"catalog-{pk}"


SEALED: Final = Sealed(
    CatalogEntry,
    _sealed,
    "sealed_password",
    record=lambda entry: _sealed_for(entry.pk),
    name=lambda entry: f"docker/{entry.pk}",
)


class Catalog:
    """Every call acts for the organisation of its caller and sees nothing of others.

    Entries are named by their `pk`. `edition` is the one that the caller has seen (`If-Match`);
    None is any.
    """

    def __init__(
        self, records: Records, search: Search, rows: CatalogRows, settings: Settings
    ) -> None:
        self._records = records
        self._store = records.store
        self._search = search
        self.rows = rows
        self._vault = Vault.from_setting(settings.encryption_keys.get_secret_value())

    async def get(self, caller: Principal, pk: int) -> CatalogEntry:
        """Raises NotFound."""
        entry = await self._store.find_by_id(CatalogEntry, str(pk), org=caller.org)
        if entry is None or entry.deleted:
            raise _missing()
        return entry

    async def called(self, caller: Principal, text: str) -> CatalogEntry:
        """By the digits of its key. Raises NotFound."""
        pk = fields.key(text) if text.isdigit() else None
        if pk is None:
            raise _missing()
        return await self.get(caller, pk)

    async def create(
        self, caller: Principal, body: Values, *, key: str | None = None
    ) -> CatalogEntry:
        """Have a new one validated, too. Idempotent per `key`. Raises InvalidInput
        (`fields.refused`)."""
        used = key and id_for(caller.org, CatalogEntry.resource, key)
        if used and (earlier := await self._made_by(caller, used)):
            return earlier
        values = drafts.read_entry(body, await self.rows.snapshot(), None, partial=False)
        await self._refuse_taken(caller, values)
        pk = await numbering.next_number(self._store, COUNTER)
        at = self._records.clock()
        entry = CatalogEntry(
            **self._records.initial(caller.org, str(pk), at=at),
            **self._stored(caller.org, pk, values),
            pk=pk,
            changed_at=at,
            created_by=caller.id,
            key=used,
        )
        send = [event("created"), command("validate", edition=1)]
        try:
            made = await self._records.insert(entry, send, actor=caller.id)
        except AlreadyExists as error:
            if used and (earlier := await self._made_by(caller, used)):
                return earlier
            raise fields.refused_whole(drafts.TAKEN) from error
        if not await self._use(made):
            await self._records.purge(made)
            raise _row_is_gone()
        return made

    async def update(
        self, caller: Principal, pk: int, body: Values, *, partial: bool, edition: int | None = None
    ) -> CatalogEntry:
        """What changes nothing writes nothing. Raises InvalidInput (`fields.refused`), NotFound,
        StaleRevision."""
        rows = await self.rows.snapshot()
        replaced: list[CatalogEntry] = []

        async def decide(entry: CatalogEntry, at: datetime) -> Change | None:
            _require_there(entry, edition)
            before = drafts.values_of(entry, self.password_of(entry))
            values = drafts.read_entry(body, rows, before, partial=partial)
            changed = {name for name in drafts.NAMES if values[name] != before[name]}
            if not changed:
                return None
            if changed & {"name", "version"}:
                await self._refuse_taken(caller, values, pk)
            replaced[:] = [entry]
            return self._change(entry, values, changed, at)

        entry = await self.get(caller, pk)
        try:
            after = await self._records.amend(entry, decide, actor=caller.id)
        except AlreadyExists as error:
            raise fields.refused_whole(drafts.TAKEN) from error
        if replaced and not await self._use(after):
            await self._put_back(caller, after, replaced[0])
            raise _row_is_gone()
        return after

    async def delete(self, caller: Principal, pk: int, *, edition: int | None = None) -> None:
        """Removes it for good. Raises NotFound, StaleRevision, and Conflict while a container or
        deployment uses its image."""

        async def decide(entry: CatalogEntry, at: datetime) -> Change:
            _require_there(entry, edition)
            if users := await users_of(self._store, entry):
                raise Conflict(f"It is in use: delete or stop first {', '.join(users)}.")
            gone = {"deleted": True, "changed_at": at, "sealed_password": None}
            # Nothing was made of it since its users were looked for.
            guard = {"times_used": entry.times_used}
            forget = command("forget", image=entry.image, secret=entry.secret)
            return Change(gone, send=[event("deleted"), forget], guard=guard)

        entry = await self._records.amend(await self.get(caller, pk), decide, actor=caller.id)
        await self._records.purge(entry)

    async def delete_called(self, caller: Principal, text: str) -> None:
        """As `delete`; of one that was there once and is no more there is nothing to do."""
        pk = fields.key(text)
        if pk is None or pk > await numbering.last_number(self._store, COUNTER):
            raise _missing()
        with suppress(NotFound):
            await self.delete(caller, pk)

    async def _made_by(self, caller: Principal, key: str) -> CatalogEntry | None:
        where = {"key": key, "deleted": False}
        return await self._store.find_one(CatalogEntry, org=caller.org, where=where)

    async def _use(self, entry: CatalogEntry) -> bool:
        return await self.rows.use(drafts.referred(dict(entry)))

    async def _put_back(self, caller: Principal, after: CatalogEntry, before: CatalogEntry) -> None:
        """Undo a change that refers to a row which was deleted in the same moment."""
        values = drafts.values_of(before, self.password_of(before))

        def decide(entry: CatalogEntry, at: datetime) -> Change | None:
            if entry.edition != after.edition or entry.deleted:
                return None
            return self._change(entry, values, {PASSWORD, "url"}, at)

        await self._records.amend(after, decide, actor=caller.id)

    async def query(
        self, caller: Principal, specification: Specification, *, limit: int, offset: int
    ) -> tuple[Found, Snapshot]:
        """What is stored of the entries that match, in order, and the rows that they refer to.

        Raises InvalidInput, also for what takes too long, and Overloaded.
        """
        rows = await self.rows.snapshot()
        search = EntrySearch(rows)
        ordering = search.ordering(specification.order)
        guard = {"org": caller.org, "deleted": False}
        wanted = Wanted(
            query=filters.to_query(search.filter(specification), STORED, guard),
            fields=STORED_FIELDS,
            sort=ordering.keys,
            limit=limit,
            offset=offset,
            computed=ordering.computed,
        )
        is_cheap = is_narrow(specification)
        found = await self._search.run(CatalogEntry, wanted, is_cheap=is_cheap, max_bytes=PAGE_MAX)
        return found, rows

    def password_of(self, entry: CatalogEntry) -> str | None:
        """In the clear. Raises Misconfigured when no key opens it."""
        return self.opened(entry.org, entry.pk, entry.sealed_password)

    def opened(self, org: str, pk: int, sealed: str | None) -> str | None:
        """As `password_of`, of what the store keeps."""
        return None if sealed is None else self._vault.open(sealed, org=org, record=_sealed_for(pk))

    def shown_password(self, caller: Principal, entry: CatalogEntry) -> str | None:
        return self.password_of(entry) if may_see_passwords(caller) else None

    def shown(self, caller: Principal, entry: CatalogEntry, rows: Snapshot) -> dict[str, Any]:
        """With the password only for those who may see it."""
        return drafts.shown(dict(entry), rows, self.shown_password(caller, entry))

    async def purge(self) -> None:
        """Remove what was deleted and could not be told at once. Safe to run in several workers."""
        old = self._records.clock() - TOMBSTONE_AGE
        where = {"deleted": True, "changed_at": {"$lt": old}}
        for gone in await self._store.find(
            CatalogEntry, org=EVERY_ORG, where=where, sort=(), limit=PURGED_AT_ONCE
        ):
            await self._records.purge(gone)

    def _stored(self, org: str, pk: int, values: Values) -> dict[str, Any]:
        password = values[PASSWORD]
        sealed = password and self._vault.seal(password, org=org, record=_sealed_for(pk))
        plain = {name: value for name, value in values.items() if name != PASSWORD}
        return {**plain, "sealed_password": sealed, "reference": drafts.reference_of(values["url"])}

    def _change(
        self, entry: CatalogEntry, values: Values, changed: set[str], at: datetime
    ) -> Change:
        edition = entry.edition + 1
        stored = self._stored(entry.org, entry.pk, values)
        if PASSWORD not in changed:
            # It may be sealed anew meanwhile.
            del stored["sealed_password"]
        pending = entry.validation.model_copy(update={"status": CatalogValidation().status})
        after = stored | {"edition": edition, "changed_at": at, "validation": pending}
        after["retry_at"] = None
        told = event("updated", fields=sorted(changed))
        return Change(after, send=[told, command("validate", edition=edition)])

    async def _refuse_taken(self, caller: Principal, values: Values, pk: int | None = None) -> None:
        """Raises InvalidInput. The index decides between those who come at the same time."""
        where = {name: values[name] for name in ("name", "version")} | {"deleted": False}
        holder = await self._store.find_one(CatalogEntry, org=caller.org, where=where)
        if holder is not None and holder.pk != pk:
            raise fields.refused_whole(drafts.TAKEN)


def may_see_passwords(caller: Principal) -> bool:
    """Staff, and the tokens of nodes."""
    return Permission.CATALOG_WRITE in caller.permissions or Role.NODE in caller.roles


def _require_there(entry: CatalogEntry, edition: int | None) -> None:
    """Raises NotFound, StaleRevision."""
    if entry.deleted:
        raise _missing()
    if edition is not None and edition != entry.edition:
        raise StaleRevision("It has changed: read it again and use its new ETag.")


def _missing() -> NotFound:
    return NotFound("There is no such image in the catalogue.")


def _row_is_gone() -> InvalidInput:
    return fields.refused_whole("Something that it refers to was deleted just now: try again.")
