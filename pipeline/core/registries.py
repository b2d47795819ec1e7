"""The directory of OCI registries: entries are made, changed, searched and removed.

Looking at the registries themselves: `registry_checks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pipeline.adapters.store import EVERY_ORG
from pipeline.adapters.store_search import Found, Search, Wanted
from pipeline.core import records, registry_changes, registry_messages
from pipeline.core.turns import Turns
from pipeline.errors import AlreadyExists, InvalidInput, LostRace, NotFound, Overloaded
from pipeline.rules import filter_compile, registry_entries, registry_queries
from pipeline.rules.filter_tree import And
from pipeline.rules.registry_entries import ID, SECRET, URL
from pipeline.rules.registry_queries import SEARCHED, Paging
from pipeline.rules.strict_json import Json
from pipeline.rules.update_apply import changed_fields
from pipeline.rules.update_tree import Update
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.registry import Registry, RegistryHistory

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.secrets import Secrets

RACES: Final = 100
"""Attempts at a change while others change the same entry."""
REMEMBERED: Final = 64
"""Commands that an entry knows again."""
PAGE_MAX: Final = 32 * 1024 * 1024
TOMBSTONE_AGE: Final = timedelta(hours=1)
PURGED_AT_ONCE: Final = 100
FIRST_CHECK: Final = timedelta(seconds=60)
"""When the sweep looks, should the command to look be lost."""


class Registries:
    """Every call acts for the organisation of its caller and sees nothing of others.

    `id` is the caller's own, `container_registry_id`.
    """

    def __init__(
        self,
        store: Store,
        search: Search,
        outbox: Outbox,
        secrets: Secrets,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._search = search
        self._outbox = outbox
        self._secrets = secrets
        self._allow_local = settings.allow_private_addresses
        self._own_host = settings.registry.lower()
        self._clock = clock
        self._turns = Turns()

    async def create(self, caller: Principal, body: Json, *, key: str | None = None) -> Registry:
        """Idempotent per `key`. The registry itself is not contacted: a worker will look at it.

        Raises InvalidInput, AlreadyExists, and KeyReused for another request with the same key.
        """
        uuid = records.id_for(caller.org, Registry.resource, key)
        document = registry_entries.document_of(body, default_id=uuid)
        self._refuse_forbidden(document)
        at = self._clock()
        registry = Registry(
            uuid=uuid,
            org=caller.org,
            created_at=at,
            updated_at=at,
            changed_at=at,
            check_at=at + FIRST_CHECK,
            host=registry_entries.host_of(document[URL]),
            created_by=caller.id,
            request_hash=registry_changes.fingerprint(document),
            **document,
        )
        ask, command = registry_messages.check(registry, at=at, actor=caller.id, revision=1)
        registry.asked = [ask]
        registry.outbox = [
            registry_messages.announce(registry, "created", at=at, actor=caller.id, revision=1),
            command,
        ]
        async with self._referring(caller, registry.container_registry_secret):
            return await self._insert(registry)

    async def get(self, caller: Principal, id: str) -> Registry:
        """Raises NotFound."""
        return await self._find(caller.org, id)

    async def update(
        self, caller: Principal, id: str, body: Json, *, key: str | None = None
    ) -> Registry:
        """Read, apply, validate and write as one step; what changes nothing writes nothing.

        A command that comes again with its `key` is not applied again. Raises InvalidInput,
        NotFound, and Overloaded when too many others change the entry at the same time.
        """
        # In a thread: a body of a mebibyte may name tens of thousands of places.
        update = await asyncio.to_thread(registry_changes.read, body)
        async with self._turns.of((caller.org, id)):
            return await self._update(caller, id, update, key)

    async def delete(self, caller: Principal, id: str, *, key: str | None = None) -> None:
        """Raises NotFound. A command that comes again with its `key` finds its work done."""
        if key is not None and await self._has_deleted(caller.org, id, key):
            return
        for _ in range(RACES):
            registry = await self._find(caller.org, id)
            try:
                await self._bury(caller, registry, key)
            except LostRace:
                continue
            await self._store.delete(RegistryHistory, registry.uuid, org=registry.org)
            return
        raise Overloaded("Too many change this entry at the same time: try again.")

    async def query(self, caller: Principal, filter: And, paging: Paging) -> Found:
        """Documents as callers see them. Raises InvalidInput, also for what takes too long."""
        guard = {"org": caller.org, "deleted": False}
        wanted = Wanted(
            query=filter_compile.to_query(filter, SEARCHED, guard),
            fields=tuple(SEARCHED.stored.values()),
            sort=paging.sort,
            limit=paging.limit,
            offset=paging.offset,
        )
        found = await self._search.run(
            Registry,
            wanted,
            is_cheap=registry_queries.is_cheap(filter, paging),
            max_bytes=PAGE_MAX,
        )
        return replace(found, documents=[registry_entries.shown(each) for each in found.documents])

    async def purge(self) -> None:
        """Forget what was deleted and told long ago. Safe to run in several workers at once."""
        where = {
            "deleted": True,
            "changed_at": {"$lt": self._clock() - TOMBSTONE_AGE},
            "outbox": [],
        }
        for gone in await self._store.find(
            Registry, org=EVERY_ORG, where=where, sort=(), limit=PURGED_AT_ONCE
        ):
            await self._store.delete(RegistryHistory, gone.uuid, org=gone.org)
            await self._store.delete(Registry, gone.uuid, org=gone.org)

    async def _update(
        self, caller: Principal, id: str, update: Update, key: str | None
    ) -> Registry:
        for _ in range(RACES):
            registry = await self._find(caller.org, id)
            if key is not None and key in registry.applied:
                return registry
            before = registry_changes.document_of(registry)
            document = await asyncio.to_thread(registry_changes.changed, update, before)
            changed = changed_fields(before, document)
            if not changed:
                return registry
            try:
                return await self._write(caller, registry, document, changed, key)
            except LostRace:
                continue
        raise Overloaded("Too many change this entry at the same time: try again.")

    async def _find(self, org: str, id: str) -> Registry:
        found = None
        if registry_entries.is_id(id):
            where = {ID: id, "deleted": False}
            found = await self._store.find_one(Registry, org=org, where=where)
        if found is None:
            raise NotFound(f"There is no registry {id[:128]}.")
        return found

    async def _insert(self, registry: Registry) -> Registry:
        try:
            registry = await self._store.insert(registry)
        except AlreadyExists as taken:
            return await self._replayed(registry, taken)
        await self._outbox.send(registry)
        return registry

    async def _replayed(self, registry: Registry, taken: AlreadyExists) -> Registry:
        """The entry of an earlier request with the same key, or the refusal."""
        try:
            earlier = await self._store.get(Registry, registry.uuid, org=registry.org)
        except NotFound:
            raise AlreadyExists("Container registry already exists", **taken.facts) from taken
        is_same = earlier.request_hash == registry.request_hash
        return records.replayed(earlier, is_same=is_same)

    async def _write(
        self,
        caller: Principal,
        registry: Registry,
        document: dict[str, Any],
        changed: frozenset[str],
        key: str | None,
    ) -> Registry:
        at, revision = self._clock(), registry.revision + 1
        values = {name: document[name] for name in changed}
        values |= {"changed_at": at, "applied": _remembered(registry, key)}
        after = registry.model_copy(update=document)
        message = registry_messages.announce(
            after, "updated", at=at, actor=caller.id, revision=revision, fields=sorted(changed)
        )
        messages = [message]
        if URL in changed:
            self._refuse_forbidden(document)
            values["host"] = registry_entries.host_of(document[URL])
        if changed & {URL, SECRET}:
            ask, command = registry_messages.check(
                registry, at=at, actor=caller.id, revision=revision
            )
            messages.append(command)
            values |= {"asked": registry_messages.joined(registry, ask), "failures": 0}
            values["check_at"] = at + FIRST_CHECK
        async with self._referring(caller, values.get(SECRET)):
            written = await self._store.change(registry, values, at=at, messages=messages)
        await self._outbox.send(written)
        return written

    async def _bury(self, caller: Principal, registry: Registry, key: str | None) -> None:
        at, revision = self._clock(), registry.revision + 1
        message = registry_messages.announce(
            registry, "deleted", at=at, actor=caller.id, revision=revision
        )
        # The event has to be kept until it is sent, so the record goes later than its content.
        emptied = registry_entries.defaults() | {
            "deleted": True,
            "changed_at": at,
            "asked": [],
            "applied": _remembered(registry, key),
            registry_entries.HEALTH: None,
        }
        buried = await self._store.change(registry, emptied, at=at, messages=[message])
        await self._outbox.send(buried)

    async def _has_deleted(self, org: str, id: str, key: str) -> bool:
        where = {ID: id, "deleted": True, "applied": key}
        return await self._store.find_one(Registry, org=org, where=where) is not None

    @asynccontextmanager
    async def _referring(self, caller: Principal, secret: str | None) -> AsyncIterator[None]:
        """Inside, the secret is not deleted. Raises InvalidInput when there is no such secret."""
        async with AsyncExitStack() as stack:
            if secret is not None:
                await self._hold(stack, caller.org, secret)
            yield

    async def _hold(self, stack: AsyncExitStack, org: str, secret: str) -> None:
        try:
            held = await stack.enter_async_context(self._secrets.held(org, secret))
        except NotFound:
            held = None
        # Secrets are also found by name, and a name may look like an id.
        if held is None or held.uuid != secret:
            raise InvalidInput(f"{SECRET} names no registry secret of yours.", field=SECRET)

    def _refuse_forbidden(self, document: Mapping[str, Any]) -> None:
        url = document[URL]
        is_ours = registry_entries.host_of(url) == self._own_host
        registry_entries.refuse_forbidden_address(url, allow_local=self._allow_local or is_ours)


def _remembered(registry: Registry, key: str | None) -> list[str]:
    return [*registry.applied, *([key] if key else [])][-REMEMBERED:]
