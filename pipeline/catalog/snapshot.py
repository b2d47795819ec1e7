"""All rows of all tables as they are at one moment: they are few, and every answer needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from pipeline.catalog import fields
from pipeline.catalog.fields import Wrong
from pipeline.catalog.tables import TABLES
from schemas.registries.catalog import CatalogRow, TableName

NO_OBJECT: Final = "There is no such {}."


class Snapshot:
    """Deleted rows are not found any more; entries that still name one show it as it was."""

    def __init__(self, rows: Iterable[CatalogRow]) -> None:
        self._rows: dict[TableName, dict[int, CatalogRow]] = {name: {} for name in TableName}
        for row in sorted(rows, key=lambda row: row.pk):
            self._rows[row.table][row.pk] = row

    def get(self, table: TableName, pk: int) -> CatalogRow | None:
        row = self._rows[table].get(pk)
        return None if row is None or row.deleted else row

    def rows(self, table: TableName) -> list[CatalogRow]:
        """In the order of their keys."""
        return [row for row in self._rows[table].values() if not row.deleted]

    def values(self, table: TableName, pk: int) -> Mapping[str, Any]:
        """With `pk`; of deleted rows, too. Raises KeyError."""
        row = self._rows[table][pk]
        return {"pk": row.pk, **row.values}

    # --- How entries name a row. All raise Wrong.

    def cuda_version(self, value: Any) -> int:
        """By its short version, compared as a decimal, or by an object."""
        if isinstance(value, Mapping):
            return self._by_object(TableName.CUDA, value)
        try:
            wanted = fields.decimal(value)
        except Wrong:
            raise self._missing(TableName.CUDA) from None
        for row in self.rows(TableName.CUDA):
            if Decimal(row.values["version"]) == wanted:
                return row.pk
        raise self._missing(TableName.CUDA)

    def framework(self, value: Any) -> int:
        """By its key or by an object."""
        if isinstance(value, Mapping):
            return self._by_object(TableName.FRAMEWORKS, value)
        return self._by_key(TableName.FRAMEWORKS, value)

    def domain(self, value: Any) -> int:
        return self._named(TableName.DOMAINS, value, "name", "description")

    def licence(self, value: Any) -> int:
        return self._named(TableName.LICENCES, value, "name")

    def hardware(self, value: Any) -> int:
        return self._named(TableName.HARDWARE, value, "generation")

    def tasks(self, value: Any) -> list[int]:
        """In the order of their keys, each once."""
        if not isinstance(value, list):
            raise Wrong(fields.NO_LIST)
        return sorted({self._named(TableName.JOB_CONTRACTS, each, "name") for each in value})

    def _named(self, table: TableName, value: Any, *names: str) -> int:
        """By the text of one of these fields, else by the key."""
        if isinstance(value, Mapping):
            return self._by_object(table, value)
        if isinstance(value, str):
            wanted = value.strip()
            for name in names:
                for row in self.rows(table):
                    if row.values[name] == wanted:
                        return row.pk
        return self._by_key(table, value)

    def _by_object(self, table: TableName, value: Mapping[str, Any]) -> int:
        """By its `pk` alone."""
        if "pk" not in value:
            raise Wrong("An object names its row by pk.")
        return self._by_key(table, value["pk"])

    def _by_key(self, table: TableName, value: Any) -> int:
        pk = fields.key(value)
        if pk is None or self.get(table, pk) is None:
            raise self._missing(table)
        return pk

    def _missing(self, table: TableName) -> Wrong:
        return Wrong(NO_OBJECT.format(TABLES[table].what))
