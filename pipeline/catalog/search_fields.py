"""What filter specifications may name: fields of entries, and of the rows that they refer to.

Rows are few and known, so a test of theirs becomes one of the keys in the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pipeline.catalog.snapshot import Snapshot
from pipeline.catalog.tables import TABLES, Table
from pipeline.catalog.tables import Kind as FieldKind
from pipeline.mongo_language import filter_spec, tree
from pipeline.mongo_language.filter_spec import (
    AllOf,
    AnyOf,
    Expression,
    Kind,
    Leaf,
    Order,
    Specification,
    StoredField,
    Test,
)
from pipeline.mongo_language.filters import FilterFields
from pipeline.mongo_language.matcher import Matcher, equality_key, sort_key
from pipeline.mongo_language.tree import Effort, refuse
from schemas.registries.catalog import CatalogRow, TableName

EFFORT: Final = 20_000_000
KEYS: Final = frozenset({"pk", "id"})
OWN: Final[Mapping[str, StoredField]] = {
    **{name: StoredField(name) for name in ("name", "version", "url", "registry_url")},
    "registry_username": StoredField("registry_username"),
    "cpu": StoredField("cpu", Kind.FLAG),
    # `_id` is the key as text.
    **{name: StoredField("pk", Kind.NUMBER, printed="_id") for name in KEYS},
}
RELATIONS: Final[Mapping[str, TableName]] = {
    "cuda_version": TableName.CUDA,
    "framework": TableName.FRAMEWORKS,
    "domain": TableName.DOMAINS,
    "min_hardware_generation": TableName.HARDWARE,
    "licence": TableName.LICENCES,
    "tasks": TableName.JOB_CONTRACTS,
}
TASKS: Final = "tasks"
STORED: Final = FilterFields(
    stored={name: name for name in (*(field.path for field in OWN.values()), *RELATIONS, "_id")},
    internal=frozenset(),
)
"""For the compiler: the trees made here name stored paths already."""
Row = Mapping[str, Any]
NULL_ROW: Final[Row] = {}
"""What stands for a row where an entry refers to none."""


def row_field(table: Table, path: Sequence[str]) -> StoredField:
    """A field of a row. Raises InvalidInput for an unknown one."""
    name = path[0] if path else "pk"
    if name in KEYS and len(path) <= 1:
        return StoredField("pk", Kind.NUMBER, printed="pk#")
    known = table.field(name)
    is_list = known is not None and known.kind is FieldKind.LIST
    if known is None or list(path[1:]) != (["name"] if is_list else []):
        raise _unknown(path)
    if known.is_numeric:
        return StoredField(name, Kind.NUMBER, printed=f"{name}#")
    return StoredField(name, is_list=is_list)


def row_document(row: CatalogRow) -> dict[str, Any]:
    """What tests of a row look at: numbers as such, and as text."""
    document: dict[str, Any] = {"pk": row.pk, "pk#": str(row.pk)}
    for each in TABLES[row.table].fields:
        value = row.values[each.name]
        document[each.name] = float(value) if each.is_numeric else value
        document[f"{each.name}#"] = str(value)
    return document


def _unknown(path: Sequence[str]) -> Exception:
    return refuse(".".join(path), "there is no such field.")


class _Tests:
    """One evaluation of tests on rows."""

    def __init__(self, table: Table, rows: Iterable[CatalogRow]) -> None:
        self._table = table
        self._matcher = Matcher(Effort(EFFORT))
        self._clauses: dict[tuple[Leaf, type], tree.Clause] = {}
        self.documents = [row_document(row) for row in rows]

    def holds(self, leaf: Leaf, row: Row) -> bool:
        """Inverted as the test asks; the first segment of its path leads here. Raises
        InvalidInput."""
        # 1 and true are equal to Python.
        key = leaf, type(leaf.value)
        if key not in self._clauses:
            tested = filter_spec.tested(leaf, row_field(self._table, leaf.path[1:]))
            self._clauses[key] = filter_spec.inverted(tested, leaf)
        return self._matcher.document(self._clauses[key], row)


def matching_rows(
    table: Table, rows: Sequence[CatalogRow], expressions: Iterable[Expression]
) -> list[CatalogRow]:
    """Raises InvalidInput."""
    clause = tree.And(tuple(_row_clause(table, each) for each in expressions))
    matcher = Matcher(Effort(EFFORT))
    return [row for row in rows if matcher.document(clause, row_document(row))]


def _row_clause(table: Table, expression: Expression) -> tree.Clause:
    match expression:
        case AllOf(parts):
            clause: tree.Clause = tree.And(tuple(_row_clause(table, each) for each in parts))
        case AnyOf(parts):
            clause = tree.Or(tuple(_row_clause(table, each) for each in parts))
        case Leaf(path=path):
            clause = filter_spec.tested(expression, row_field(table, path))
    return filter_spec.inverted(clause, expression)


def ordered_rows(
    table: Table, rows: Sequence[CatalogRow], order: Sequence[Order]
) -> list[CatalogRow]:
    """By the order, then by key. Raises InvalidInput."""
    found = sorted(rows, key=lambda row: row.pk)
    for each in reversed(order):
        value = _sorted_by(row_field(table, each.path), each)
        found.sort(key=lambda row: sort_key(value(row_document(row))), reverse=not each.ascending)
        if each.nulls_first is not None:
            last = not each.nulls_first
            found.sort(key=lambda row: (value(row_document(row)) is None) is last)
    return found


def _sorted_by(where: StoredField, order: Order) -> Callable[[Row], Any]:
    """Of a list the smallest value, descending the largest; null for an empty one."""

    def value(row: Row) -> Any:
        found = row.get(where.path)
        if not isinstance(found, list):
            return found
        return (min if order.ascending else max)(found, default=None)

    return value


# --- Entries


@dataclass(frozen=True, slots=True)
class Ordering:
    """How entries are sorted: stored paths or `computed` ones, with their direction."""

    keys: tuple[tuple[str, int], ...]
    computed: Mapping[str, Any] = field(default_factory=dict)
    """Name → aggregation expression."""


class EntrySearch:
    """Compiles specifications for entries against the rows of one moment."""

    def __init__(self, rows: Snapshot) -> None:
        self._rows = rows

    def filter(self, specification: Specification) -> tree.And:
        """Raises InvalidInput."""
        return tree.And(tuple(self._clause(each) for each in specification.expressions))

    def _clause(self, expression: Expression) -> tree.Clause:
        match expression:
            case AllOf(parts):
                clause = self._together(parts)
            case AnyOf(parts):
                clause = tree.Or(tuple(self._clause(each) for each in parts))
            case Leaf():
                clause = self._leaf(expression)
        return filter_spec.inverted(clause, expression)

    def _together(self, parts: Sequence[Leaf]) -> tree.Clause:
        """What is said of `tasks` concerns one contract."""
        concerned = [each for each in parts if each.path[0] == TASKS]
        others = [self._clause(each) for each in parts if each.path[0] != TASKS]
        if not concerned:
            return tree.And(tuple(others))
        tests = self._tests(TASKS)

        def is_meant(row: Row) -> bool:
            return all(tests.holds(leaf, row) for leaf in concerned)

        keys = tuple(row["pk"] for row in tests.documents if is_meant(row))
        clause: tree.Clause = tree.At(TASKS, (tree.Compare(tree.Operator.IN, keys),))
        if is_meant(NULL_ROW):
            clause = tree.Or((clause, _no_tasks()))
        return tree.And((*others, clause))

    def _leaf(self, leaf: Leaf) -> tree.Clause:
        """Not inverted."""
        first = leaf.path[0]
        if first in OWN and len(leaf.path) == 1:
            return filter_spec.tested(leaf, OWN[first])
        if first not in RELATIONS:
            raise _unknown(leaf.path)
        tests, plain = self._tests(first), replace(leaf, inverted=False)
        found = [row["pk"] for row in tests.documents if tests.holds(plain, row)]
        # Once in any case, so that unknown fields and unsuitable values are told.
        is_null_meant = tests.holds(plain, NULL_ROW) or leaf.test is Test.IS_NULL
        if first == TASKS:
            clause: tree.Clause = tree.At(TASKS, (tree.Compare(tree.Operator.IN, tuple(found)),))
            return tree.Or((clause, _no_tasks())) if is_null_meant else clause
        keys: tuple[Any, ...] = (*found, None) if is_null_meant else tuple(found)
        return tree.At(first, (tree.Compare(tree.Operator.IN, keys),))

    def _tests(self, relation: str) -> _Tests:
        table = RELATIONS[relation]
        return _Tests(TABLES[table], self._rows.rows(table))

    # --- order

    def ordering(self, order: Sequence[Order]) -> Ordering:
        """By the order, then by key. Raises InvalidInput."""
        keys: dict[str, int] = {}
        computed: dict[str, Any] = {}
        for number, each in enumerate(order):
            path, expression = self._sort_key(each, number)
            if expression is not None:
                computed[path] = expression
            if each.nulls_first is not None:
                nulls = f"nulls{number}"
                is_null = {"$eq": [{"$ifNull": [expression or f"${path}", None]}, None]}
                computed[nulls] = {"$cond": [is_null, 0, 1]}
                keys[nulls] = 1 if each.nulls_first else -1
            keys.setdefault(path, 1 if each.ascending else -1)
        keys.setdefault("pk", 1)
        return Ordering(tuple(keys.items()), computed)

    def _sort_key(self, order: Order, number: int) -> tuple[str, Any]:
        """The path to sort by, and what makes it where it is not stored."""
        first, *rest = order.path
        if first in OWN and not rest:
            return OWN[first].path, None
        if first not in RELATIONS:
            raise _unknown(order.path)
        table = TABLES[RELATIONS[first]]
        where = row_field(table, rest)
        if where.path == "pk" and first != TASKS:
            return first, None
        ranks = self._ranks(table, _sorted_by(where, order))
        if first != TASKS:
            return f"sort{number}", _rank_of("$" + first, ranks)
        each = {"$map": {"input": "$tasks", "as": "task", "in": _rank_of("$$task", ranks)}}
        return f"sort{number}", {("$min" if order.ascending else "$max"): each}

    def _ranks(self, table: Table, value: Callable[[Row], Any]) -> dict[int, int]:
        """By key of the row, the place of its value among all; none for those that have none."""
        found = {row.pk: value(row_document(row)) for row in self._rows.rows(table.name)}
        known = {pk: each for pk, each in found.items() if each is not None}
        ordered = sorted(
            {equality_key(each): each for each in known.values()}.values(), key=sort_key
        )
        places = {equality_key(each): place for place, each in enumerate(ordered)}
        return {pk: places[equality_key(each)] for pk, each in known.items()}


def _no_tasks() -> tree.Clause:
    return tree.At(TASKS, (tree.Compare(tree.Operator.SIZE, 0),))


def _rank_of(key: str, ranks: Mapping[int, int]) -> dict[str, Any]:
    """The rank of the row with this key, as an aggregation expression; null without one."""
    place = {"$indexOfArray": [list(ranks), key]}
    rank = {"$arrayElemAt": [list(ranks.values()), "$$place"]}
    known = {"$cond": [{"$lt": ["$$place", 0]}, None, rank]}
    return {"$let": {"vars": {"place": place}, "in": known}}


def is_narrow(specification: Specification) -> bool:
    """Whether it can be expected to take little time: an index narrows it down and serves its
    order, or it asks for everything in the order of the keys."""
    if any(len(each.path) > 1 or each.nulls_first is not None for each in specification.order):
        return False
    expressions = specification.expressions
    return not expressions or any(_is_exact(each) for each in expressions)


def _is_exact(expression: Expression) -> bool:
    if isinstance(expression, AllOf):
        return not expression.inverted and any(map(_is_exact, expression.parts))
    if isinstance(expression, AnyOf) or expression.inverted or expression.ignores_case:
        return False
    return expression.test is Test.EXACT and expression.path[0] not in ("cpu",)
