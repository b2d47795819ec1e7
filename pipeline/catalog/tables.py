"""The tables that entries of the catalogue refer to: which fields each one has, and what must hold
of its rows. All of them are read, checked and shown by the same few functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pipeline.catalog import fields
from pipeline.catalog.fields import NULL, REQUIRED, Wrong, refused, refused_whole
from schemas.registries.catalog import CatalogRow, TableName

ITEM_MAX: Final = 100


class Kind(Enum):
    TEXT = "text"
    VERSION = "version"
    """A decimal with one place, shown as text and compared as a number."""
    NUMBER = "number"
    URL = "url"
    LIST = "list"
    """Texts; callers change them by operations of their own."""


@dataclass(frozen=True, slots=True)
class Field:
    """`most` characters at most, where it is text."""

    name: str
    kind: Kind = Kind.TEXT
    most: int = 64

    @property
    def is_numeric(self) -> bool:
        return self.kind in (Kind.VERSION, Kind.NUMBER)

    def read(self, value: Any) -> Any:
        """As it is stored. Raises Wrong."""
        match self.kind:
            case Kind.VERSION:
                return fields.version(value)
            case Kind.NUMBER:
                return fields.number(value)
            case Kind.URL:
                return fields.url(value, self.most)
        return fields.text(value, self.most)


Rule = Callable[[Mapping[str, Any], Iterable[Mapping[str, Any]]], str | None]
"""What is wrong with the values of a row beside those of all others; None when nothing is."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is peculiar to one table; everything else is the same for all."""

    name: TableName
    what: str
    """How a row is called, in the singular."""
    fields: tuple[Field, ...]
    unique: tuple[tuple[str, ...], ...]
    """Fields that no two rows share; those that stand together are unique together."""
    is_fixed: bool = False
    """Nobody may write it."""
    rule: Rule | None = None

    @property
    def own(self) -> tuple[Field, ...]:
        """What callers write."""
        return tuple(field for field in self.fields if field.kind is not Kind.LIST)

    @property
    def lists(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.kind is Kind.LIST)

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)

    def claims(self, values: Mapping[str, Any]) -> list[str]:
        """`CatalogRow.claims`. Equal texts are equal by their very characters."""
        return [
            " ".join([self.name, "+".join(names), *(repr(values[name]) for name in names)])
            for names in self.unique
        ]


def _range_rule(row: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str | None:
    low, high = row["min_compute_capability"], row["max_compute_capability"]
    if not low < high:
        return "max_compute_capability must be greater than min_compute_capability."
    for other in others:
        if low < other["max_compute_capability"] and other["min_compute_capability"] < high:
            return f"The range overlaps that of {other['generation']}."
    return None


_LISTS: Final = ("permissions", "conditions", "limitations", "domains")
TABLES: Final[Mapping[TableName, Table]] = {
    table.name: table
    for table in (
        Table(
            TableName.CUDA,
            "CUDA version",
            (
                Field("version", Kind.VERSION),
                Field("full_version", most=16),
                Field("min_driver_version", most=16),
            ),
            unique=(("version",), ("full_version",)),
        ),
        Table(
            TableName.FRAMEWORKS,
            "framework",
            (Field("name", most=32), Field("version", most=32)),
            unique=(("name", "version"),),
        ),
        Table(
            TableName.HARDWARE,
            "hardware generation",
            (
                Field("generation", most=32),
                Field("min_compute_capability", Kind.NUMBER),
                Field("max_compute_capability", Kind.NUMBER),
            ),
            unique=(("generation",),),
            rule=_range_rule,
        ),
        Table(
            TableName.DOMAINS,
            "domain",
            (Field("name"), Field("description")),
            unique=(("name",), ("description",)),
            is_fixed=True,
        ),
        Table(
            TableName.LICENCES,
            "licence",
            (
                Field("name", most=100),
                Field("url", Kind.URL, most=200),
                *(Field(name, Kind.LIST) for name in _LISTS),
            ),
            unique=(("name",),),
        ),
        *(
            Table(
                name,
                what,
                (Field("name"), Field("pkg"), Field("cls", most=256)),
                unique=(("name",), ("cls",)),
            )
            for name, what in (
                (TableName.JOB_CONTRACTS, "job contract"),
                (TableName.JOB_TYPES, "job type"),
            )
        ),
    )
}


def read_row(
    table: Table, body: Mapping[str, Any], before: Mapping[str, Any] | None, *, partial: bool
) -> dict[str, Any]:
    """The values of a row as a body makes them of those `before`. Raises InvalidInput.

    Without `partial` every field must be there. Lists are left as they are; other keys are ignored.
    """
    values = dict(before or {name: [] for name in table.lists})
    wrong: dict[str, list[str]] = {}
    for field in table.own:
        if field.name not in body:
            if not partial:
                wrong[field.name] = [REQUIRED]
            continue
        try:
            if body[field.name] is None:
                raise Wrong(NULL)
            values[field.name] = field.read(body[field.name])
        except Wrong as error:
            wrong[field.name] = [str(error)]
    if wrong:
        raise refused(wrong)
    return values


def require_rule(
    table: Table, values: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> None:
    """Raises InvalidInput for values that do not go with each other or with other rows."""
    others = list(others)
    told = table.rule(values, others) if table.rule else None
    for names in table.unique:
        if any(all(values[name] == other[name] for name in names) for other in others):
            known = f"There is another {table.what} with this {' and '.join(names)}."
            raise refused({names[0]: [known]}) if len(names) == 1 else refused_whole(known)
    if told:
        raise refused_whole(told)


def shown(row: CatalogRow) -> dict[str, Any]:
    """As callers see it."""
    table = TABLES[row.table]
    return {"pk": row.pk} | {field.name: row.values[field.name] for field in table.fields}


def relisted(values: Mapping[str, Any], method: str, name: str, items: Iterable[str]) -> list[str]:
    """A list with items added at its end, or without them. Repeats collapse."""
    known: list[str] = values[name]
    if method == "add":
        return list(dict.fromkeys([*known, *items]))
    dropped = set(items)
    return [item for item in known if item not in dropped]
