"""Rows of the tables of the catalogue: loaded, made, changed, deleted.

Who writes is alone at it, so that rules about several rows hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from importlib import resources
from typing import Any, Final

from pipeline import strict_json
from pipeline.adapters.store import bulk, numbering
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.catalog import tables
from pipeline.catalog.snapshot import Snapshot
from pipeline.catalog.tables import TABLES, Table
from pipeline.errors import AlreadyExists, Conflict, NotFound, PermissionDenied, StaleRevision
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from schemas.access import Principal
from schemas.registries.catalog import CatalogEntry, CatalogRow, TableName

STORED_AGE: Final = timedelta(seconds=10)
"""After which rows are read again even if nobody said that they changed: a writer may have died
before he could say so."""
CHANGES: Final = "catalog-changes"
LOADER: Final = "system:reference-data"
NAMED: Final = 10
Values = Mapping[str, Any]

REFERRING: Final[Mapping[TableName, str]] = {
    TableName.CUDA: "cuda_version",
    TableName.FRAMEWORKS: "framework",
    TableName.HARDWARE: "min_hardware_generation",
    TableName.DOMAINS: "domain",
    TableName.LICENCES: "licence",
    TableName.JOB_CONTRACTS: "tasks",
}
"""The field of an entry that names rows of a table."""


class CatalogRows:
    """All organisations share the rows; they belong to the installation's own, `home`."""

    def __init__(self, records: Records, *, home: str) -> None:
        self._records = records
        self._store = records.store
        self._home = home
        self._known: tuple[int, datetime, Snapshot] | None = None
        self._reading = asyncio.Lock()

    async def snapshot(self) -> Snapshot:
        """At least as new as every write that was answered before this call."""
        changes = await numbering.last_number(self._store, CHANGES)
        if (snapshot := self._fresh(changes)) is not None:
            return snapshot
        # Of many calls that find it old, one reads and the others wait for that.
        async with self._reading:
            if (snapshot := self._fresh(changes)) is not None:
                return snapshot
            changes = await numbering.last_number(self._store, CHANGES)
            at = self._records.clock()
            snapshot = Snapshot(await self._all())
            self._known = changes, at, snapshot
            return snapshot

    def _fresh(self, changes: int) -> Snapshot | None:
        """What is known, when it is at least of that many changes."""
        if self._known is None:
            return None
        known, since, snapshot = self._known
        age = self._records.clock() - since
        return snapshot if known >= changes and timedelta(0) <= age < STORED_AGE else None

    async def load(self) -> None:
        """The reference data. Idempotent: what was loaded before is left as it is now, also
        deleted. Safe to run in several processes at once."""
        given = _reference_data()
        if not _lacking(given, await self._all()):
            return
        async with numbering.alone(self._store, CHANGES):
            for table, rows in _lacking(given, await self._all()).items():
                counter = _counter(TABLES[table])
                first = await numbering.next_number(self._store, counter, count=len(rows))
                numbered = enumerate(rows, first)
                await asyncio.gather(*(self._load(TABLES[table], pk, row) for pk, row in numbered))
            await self._changed()

    async def get(self, table: Table, pk: int) -> CatalogRow:
        """Raises NotFound."""
        row = (await self.snapshot()).get(table.name, pk)
        if row is None:
            raise _missing(table)
        return row

    async def create(self, caller: Principal, table: Table, body: Values) -> CatalogRow:
        """Raises InvalidInput, PermissionDenied."""
        _require_writable(table)
        values = tables.read_row(table, body, None, partial=False)
        async with numbering.alone(self._store, CHANGES):
            tables.require_rule(table, values, await self._others(table))
            pk = await numbering.next_number(self._store, _counter(table))
            row = self._row(table, pk, values)
            row = await self._records.insert(row, [event("created")], actor=caller.id)
            await self._changed()
        return row

    async def update(
        self,
        caller: Principal,
        table: Table,
        pk: int,
        body: Values,
        *,
        partial: bool,
        edition: int | None = None,
    ) -> CatalogRow:
        """Raises NotFound, StaleRevision, InvalidInput, PermissionDenied."""
        _require_writable(table)

        def changed(row: CatalogRow) -> Values:
            return tables.read_row(table, body, row.values, partial=partial)

        return await self._edit(caller, table, pk, changed, edition)

    async def relist(
        self,
        caller: Principal,
        table: Table,
        pk: int,
        name: str,
        method: str,
        items: Sequence[str],
        *,
        edition: int | None = None,
    ) -> CatalogRow:
        """Add items to a list of a row, or remove them. Idempotent. Raises as `update`."""
        _require_writable(table)

        def changed(row: CatalogRow) -> Values:
            return {**row.values, name: tables.relisted(row.values, method, name, items)}

        return await self._edit(caller, table, pk, changed, edition)

    async def delete(
        self, caller: Principal, table: Table, pk: int, *, edition: int | None = None
    ) -> None:
        """Raises NotFound, StaleRevision, PermissionDenied, and Conflict while an entry uses it."""
        _require_writable(table)

        async def decide(row: CatalogRow, at: datetime) -> Change:
            _require_there(table, row, edition)
            await self._refuse_while_used(table, row)
            gone = {"deleted": True, "claims": []}
            guard = {"times_used": row.times_used}
            return Change(gone, send=[event("deleted")], guard=guard)

        async with numbering.alone(self._store, CHANGES):
            row = await self._stored(table, pk)
            await self._records.amend(row, decide, actor=caller.id)
            await self._changed()

    async def use(self, rows: Mapping[TableName, Sequence[int]]) -> bool:
        """Mark rows as used, after an entry that refers to them was written: who deletes one of
        them has either found the entry or fails by the mark. False when one was deleted before
        that: then nobody may refer to it."""
        ids = [f"{table}-{pk}" for table, pks in rows.items() for pk in pks]
        guard, used = {"deleted": False}, {"$inc": {"times_used": 1}}
        writes = [bulk.Write(id, guard, used) for id in ids]
        return await bulk.update_all(self._store, CatalogRow, writes)

    async def _edit(
        self,
        caller: Principal,
        table: Table,
        pk: int,
        changed: Callable[[CatalogRow], Values],
        edition: int | None,
    ) -> CatalogRow:
        async def decide(row: CatalogRow, at: datetime) -> Change | None:
            _require_there(table, row, edition)
            values = changed(row)
            tables.require_rule(table, values, await self._others(table, row))
            if values == row.values:
                return None
            after = {"values": values, "claims": table.claims(values), "edition": row.edition + 1}
            return Change(after, send=[event("updated")])

        async with numbering.alone(self._store, CHANGES):
            row = await self._stored(table, pk)
            row = await self._records.amend(row, decide, actor=caller.id)
            await self._changed()
        return row

    async def _load(self, table: Table, pk: int, values: Values) -> None:
        lists: dict[str, list[str]] = {name: [] for name in table.lists}
        row = self._row(table, pk, {**lists, **values})
        row.origin = row.claims[0]
        with suppress(AlreadyExists):
            # Else somebody entered the same one before the reference data had it.
            await self._records.insert(row, [], actor=LOADER)

    def _row(self, table: Table, pk: int, values: Values) -> CatalogRow:
        return CatalogRow(
            **self._records.initial(self._home, f"{table.name}-{pk}"),
            table=table.name,
            pk=pk,
            values=dict(values),
            claims=table.claims(values),
        )

    async def _refuse_while_used(self, table: Table, row: CatalogRow) -> None:
        field = REFERRING.get(table.name)
        if field is None:
            return
        where = {field: row.pk, "deleted": False}
        users = await self._store.find(CatalogEntry, org=EVERY_ORG, where=where, limit=NAMED)
        if users:
            named = ", ".join(str(each.pk) for each in users)
            raise Conflict(f"Docker images use this {table.what}: {named}. Change them first.")

    async def _stored(self, table: Table, pk: int) -> CatalogRow:
        row = await self._store.find_by_id(CatalogRow, f"{table.name}-{pk}", org=EVERY_ORG)
        if row is None:
            raise _missing(table)
        return row

    async def _others(self, table: Table, row: CatalogRow | None = None) -> list[Values]:
        where = {"table": table.name.value, "deleted": False}
        found = await self._store.find(CatalogRow, org=EVERY_ORG, where=where, sort=())
        return [each.values for each in found if row is None or each.pk != row.pk]

    async def _all(self) -> list[CatalogRow]:
        return await self._store.find(CatalogRow, org=EVERY_ORG, sort=())

    async def _changed(self) -> None:
        await numbering.next_number(self._store, CHANGES)


def _counter(table: Table) -> str:
    return f"catalog-{table.name}"


def _lacking(
    given: Mapping[str, Sequence[Values]], known: Sequence[CatalogRow]
) -> dict[TableName, list[Values]]:
    """Rows of the reference data that were never loaded, by table."""
    origins = {row.origin for row in known}
    lacking = {
        table.name: [row for row in given[table.name] if table.claims(row)[0] not in origins]
        for table in TABLES.values()
    }
    return {name: rows for name, rows in lacking.items() if rows}


def _reference_data() -> dict[str, list[dict[str, Any]]]:
    content = resources.files("pipeline.catalog").joinpath("reference_data.json").read_bytes()
    data: dict[str, list[dict[str, Any]]] = strict_json.read(content, max_bytes=len(content))
    return data


def _require_writable(table: Table) -> None:
    if table.is_fixed:
        raise PermissionDenied(f"A {table.what} cannot be changed.")


def _require_there(table: Table, row: CatalogRow, edition: int | None) -> None:
    """Raises NotFound, StaleRevision."""
    if row.deleted:
        raise _missing(table)
    if edition is not None and edition != row.edition:
        raise StaleRevision("It has changed: read it again and use its new ETag.")


def _missing(table: Table) -> NotFound:
    return NotFound(f"There is no such {table.what}.")
