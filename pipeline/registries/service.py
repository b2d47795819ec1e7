"""The directory of OCI registries: entries are made, changed, searched and removed.

Looking at the registries themselves: `checks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.adapters.registry.client import RegistryClient
from pipeline.adapters.store.search import Found, Search, Wanted
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.concurrency import KeyedLocks, SharedReads
from pipeline.errors import InvalidInput, ManifestNotFound, NotFound
from pipeline.mongo_language import filters
from pipeline.mongo_language.filters import FilterFields
from pipeline.mongo_language.tree import And
from pipeline.mongo_language.updates import changed_fields
from pipeline.oci import references
from pipeline.oci.references import Reference
from pipeline.records.idempotency import fingerprint, id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from pipeline.records.queries import Page, page
from pipeline.registries import entries, queries, wire
from pipeline.registries.checks import RegistryProbe, check_order, joined, missing, remembered
from pipeline.registries.entries import ID, SECRET, URL
from pipeline.registries.queries import Paging
from pipeline.registries.wire import Edit
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from pipeline.strict_json import Json
from schemas.access import Principal
from schemas.registries.registry import Ask, Registry, RegistryHistory

LOOKED_AT: Final = 100
"""Entries of one host; they differ in their prefixes."""
PAGE_MAX: Final = 32 * 1024 * 1024
TOMBSTONE_AGE: Final = timedelta(hours=1)
PURGED_AT_ONCE: Final = 100
FIRST_CHECK: Final = timedelta(seconds=60)
"""When the sweep looks, should the command to look be lost."""


class Registries:
    """Every call acts for the organisation of its caller and sees nothing of others.

    `id` is the caller's own.
    """

    def __init__(
        self, records: Records, search: Search, secrets: Secrets, settings: Settings
    ) -> None:
        self._records = records
        self._store = records.store
        self._search = search
        self._secrets = secrets
        self._allow_local = settings.allow_private_addresses
        self._own_host = settings.registry.lower()
        self._locks = KeyedLocks()

    async def create(
        self, caller: Principal, draft: Mapping[str, Json], *, key: str | None = None
    ) -> Registry:
        """Idempotent per `key`. The registry itself is not contacted: a worker will look at it.

        Raises InvalidInput, AlreadyExists, and KeyReused for another request with the same key.
        """
        uuid = id_for(caller.org, Registry.resource, key)
        document = entries.completed({ID: uuid, **draft})
        self._refuse_forbidden(document)
        at = self._records.clock()
        ask = Ask(id=f"{uuid}.1", actor=caller.id)
        registry = Registry(
            **self._records.initial(caller.org, uuid, at=at),
            changed_at=at,
            check_at=at + FIRST_CHECK,
            host=entries.host_of(document[URL]),
            created_by=caller.id,
            request_hash=fingerprint(wire.named(document)),
            asked=[ask],
            **document,
        )
        async with AsyncExitStack() as holds:
            await self._hold(holds, caller.org, document[SECRET])
            return await self._records.insert_once(
                registry,
                [event("created"), check_order(registry, ask)],
                actor=caller.id,
                taken=f"There is a registry {registry.id} already.",
            )

    async def get(self, caller: Principal, id: str) -> Registry:
        """Raises NotFound."""
        found = None
        if entries.is_id(id):
            where = {ID: id, "deleted": False}
            found = await self._store.find_one(Registry, org=caller.org, where=where)
        if found is None:
            raise missing(id)
        return found

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Registry]:
        """Newest first. To search: `query`."""
        where = {"deleted": False}
        return await page(
            self._store, Registry, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def update(
        self, caller: Principal, id: str, edit: Edit, *, key: str | None = None
    ) -> Registry:
        """Read, apply, validate and write as one step; what changes nothing writes nothing.

        A command that comes again with its `key` is not applied again. Raises InvalidInput,
        NotFound, and Overloaded when too many others change the entry at the same time.
        """
        async with self._locks.of((caller.org, id)), AsyncExitStack() as holds:

            async def decide(registry: Registry, at: datetime) -> Change | None:
                _require_present(registry)
                if key is not None and key in registry.applied:
                    return None
                before = entries.document_of(registry)
                document = await asyncio.to_thread(edit, before)
                changed = changed_fields(before, document)
                change = self._change(caller, registry, document, changed, at, key)
                if SECRET in changed:
                    await self._hold(holds, caller.org, document[SECRET])
                return change

            registry = await self.get(caller, id)
            return await self._records.amend(registry, decide, actor=caller.id)

    async def delete(self, caller: Principal, id: str, *, key: str | None = None) -> None:
        """Raises NotFound. A command that comes again with its `key` finds its work done."""
        if key is not None and await self._has_deleted(caller.org, id, key):
            return

        def emptied(registry: Registry, at: datetime) -> Change:
            _require_present(registry)
            # The event has to be kept until it is sent, so the record goes later than its content.
            values = entries.defaults() | {"deleted": True, "changed_at": at, "asked": []}
            values |= {"applied": remembered(registry, key), entries.HEALTH: None}
            return Change(values, send=[event("deleted", name=registry.name)])

        registry = await self.get(caller, id)
        deleted = await self._records.amend(registry, emptied, actor=caller.id)
        await self._store.delete(RegistryHistory, deleted.uuid, org=deleted.org)

    async def query(
        self, caller: Principal, filter: And, fields: FilterFields, paging: Paging
    ) -> Found:
        """What is stored in `fields`. Raises InvalidInput, also for what takes too long."""
        guard = {"org": caller.org, "deleted": False}
        wanted = Wanted(
            query=filters.to_query(filter, fields, guard),
            fields=tuple(fields.stored.values()),
            sort=paging.sort,
            limit=paging.limit,
            offset=paging.offset,
        )
        return await self._search.run(
            Registry, wanted, is_cheap=queries.is_cheap(filter, fields, paging), max_bytes=PAGE_MAX
        )

    async def purge(self) -> None:
        """Forget what was deleted and told long ago. Safe to run in several workers at once."""
        where = {
            "deleted": True,
            "changed_at": {"$lt": self._records.clock() - TOMBSTONE_AGE},
            "outbox": [],
        }
        for gone in await self._store.find(
            Registry, org=EVERY_ORG, where=where, sort=(), limit=PURGED_AT_ONCE
        ):
            await self._store.delete(RegistryHistory, gone.uuid, org=gone.org)
            await self._store.delete(Registry, gone.uuid, org=gone.org)

    def _change(
        self,
        caller: Principal,
        registry: Registry,
        document: dict[str, Any],
        changed: frozenset[str],
        at: datetime,
        key: str | None,
    ) -> Change | None:
        """None when nothing changes. Raises InvalidInput."""
        if not changed:
            return None
        values = {name: document[name] for name in changed}
        values |= {"changed_at": at, "applied": remembered(registry, key)}
        send = [event("updated", fields=sorted(wire.named(dict.fromkeys(changed))))]
        if URL in changed:
            self._refuse_forbidden(document)
            values["host"] = entries.host_of(document[URL])
        if changed & {URL, SECRET}:
            ask = Ask(id=f"{registry.uuid}.{registry.revision + 1}", actor=caller.id)
            send.append(check_order(registry, ask))
            values |= {"asked": joined(registry, ask), "failures": 0, "check_at": at + FIRST_CHECK}
        return Change(values, send=send)

    async def _has_deleted(self, org: str, id: str, key: str) -> bool:
        where = {ID: id, "deleted": True, "applied": key}
        return await self._store.find_one(Registry, org=org, where=where) is not None

    async def _hold(self, holds: AsyncExitStack, org: str, secret: str | None) -> None:
        """Until `holds` ends, the secret is not deleted. Raises InvalidInput without such one."""
        if secret is None:
            return
        try:
            held = await holds.enter_async_context(self._secrets.held(org, secret))
        except NotFound:
            held = None
        # Secrets are also found by name, and a name may look like an id.
        if held is None or held.uuid != secret:
            raise InvalidInput(f"{SECRET} names no registry secret of yours.", field=SECRET)

    def _refuse_forbidden(self, document: Mapping[str, Any]) -> None:
        url = document[URL]
        is_ours = entries.host_of(url) == self._own_host
        entries.refuse_forbidden_address(url, allow_local=self._allow_local or is_ours)


def _require_present(registry: Registry) -> None:
    if registry.deleted:
        raise missing(registry.id)


class SecretsOfHosts:
    """Which secret opens a registry, as the entries of an organisation say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads: SharedReads[list[Registry]] = SharedReads()

    async def find(self, org: str, reference: Reference) -> str | None:
        """The secret of the entry for this host; None when no entry names one.

        Of several, the one whose image prefix fits best, then the oldest.
        """
        host = reference.registry
        found = await self._reads.of((org, host), partial(self._entries, org, host))
        best = max(found, key=lambda entry: _fit(entry, reference), default=None)
        return best.secret if best else None

    async def _entries(self, org: str, host: str) -> list[Registry]:
        return await self._store.find(
            Registry,
            org=org,
            where={"host": host, "deleted": False, SECRET: {"$gt": ""}},
            sort=[("created_at", 1), ("_id", 1)],
            limit=LOOKED_AT,
        )


def _fit(entry: Registry, reference: Reference) -> int:
    """Length of the matching prefix; less than none when the entry is for other images."""
    prefix = entry.image_prefix.strip("/")
    image = f"{reference.registry}/{reference.repository}/"
    if not prefix:
        return 0
    return len(prefix) if image.startswith(f"{prefix}/") else -1


# --- What lies in a registry of the directory: repositories and their tags, page by page


class RegistryCatalogue:
    """Asks the registry each time, with the credentials of the entry. Many deny the list of
    repositories and still list the tags of one."""

    def __init__(
        self, registries: Registries, client: RegistryClient, probe: RegistryProbe
    ) -> None:
        self._registries = registries
        self._client = client
        self._probe = probe

    async def repositories(
        self, caller: Principal, id: str, *, limit: int, cursor: str | None
    ) -> Page[str]:
        """Raises NotFound, InvalidInput, and what `RegistryClient` raises."""
        registry = await self._registries.get(caller, id)
        host, how = await self._asked(registry, limit, cursor)
        return _page(await self._client.catalog(host, **how), limit)

    async def tags(
        self, caller: Principal, id: str, repository: str, *, limit: int, cursor: str | None
    ) -> Page[str]:
        """Raises as `repositories` does, and NotFound for an unknown repository."""
        registry = await self._registries.get(caller, id)
        missing = NotFound(f"There is no repository {repository[:255]}.")
        if not references.is_repository(repository):
            raise missing
        host, how = await self._asked(registry, limit, cursor)
        try:
            return _page(await self._client.tags(host, repository, **how), limit)
        except ManifestNotFound as error:
            raise missing from error

    async def _asked(
        self, registry: Registry, limit: int, cursor: str | None
    ) -> tuple[str, dict[str, Any]]:
        """The host of the registry, and how `RegistryClient` is to ask it."""
        parts = urlsplit(entries.address_of(registry.public_url))
        return parts.netloc, {
            "scheme": parts.scheme,
            "prefix": parts.path,
            "credentials": await self._probe.credentials(registry),
            "most": limit + 1,
            "after": cursor,
        }


def _page(found: list[str], limit: int) -> Page[str]:
    more = len(found) > limit
    return Page(found[:limit], found[limit - 1] if more else None)
