"""Searches of the registry directory: what callers may name, how they page, what it may cost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.errors import InvalidInput
from pipeline.rules.filter_compile import FilterFields, sort_path
from pipeline.rules.filter_literals import segments
from pipeline.rules.filter_tree import (
    AllElements,
    Among,
    And,
    AnyElement,
    At,
    Clause,
    Compare,
    Comparison,
    Condition,
    HasAll,
    MatchesText,
    Nor,
    Not,
    Or,
)
from pipeline.rules.registry_entries import FIELDS, HEALTH, ID, PREFIX
from pipeline.rules.strict_json import Json
from schemas.registry import Registry

LIMIT: Final = 100
LIMIT_MAX: Final = 1000
OFFSET_MAX: Final = 2**53
SORTS_MAX: Final = 3

_SHOWN: Final = {name: name for name in (*FIELDS, HEALTH, "created_at")}
SEARCHED: Final = FilterFields(
    stored=_SHOWN | {"updated_at": "changed_at"},
    internal=frozenset({"_id", *Registry.model_fields}) - set(_SHOWN) - {"updated_at"},
    times=frozenset({"created_at", "updated_at", f"{HEALTH}.checked_at"}),
)

_INDEXED: Final = frozenset(f"{PREFIX}{name}" for name in ("id", "name", "tags", "secret"))
_INDEXED_BELOW: Final = f"{PREFIX}metadata."

_WHOLE = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Paging:
    limit: int = LIMIT
    offset: int = 0
    sort: tuple[tuple[str, int], ...] = (("created_at", 1), (ID, 1))
    """Stored paths with their direction; the id comes last, so that the order is total."""


def paging(query: Mapping[str, str]) -> Paging:
    """From the query string. Raises InvalidInput."""
    return Paging(
        limit=min(_whole(query, "limit", LIMIT), LIMIT_MAX),
        offset=min(_whole(query, "offset", 0), OFFSET_MAX),
        sort=_sort(query.get("sort", "created_at")),
    )


def is_cheap(filter: And, paging: Paging) -> bool:
    """Whether an index narrows it down and no regular expression runs: it then cannot take long
    at the cost of others. So is a page of everything in the order of an index."""
    if not filter.clauses:
        return paging.sort[0][0] == "created_at"
    return not _has_pattern(filter) and _is_narrowed(filter)


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text):
        raise InvalidInput(f"{name} must be a whole number of at least 0.", field=name)
    # Longer ones are clamped anyway, and Python refuses to read them.
    return int(text.lstrip("0")[:20] or "0")


def _sort(text: str) -> tuple[tuple[str, int], ...]:
    wanted = text.split(",")
    if len(wanted) > SORTS_MAX:
        raise InvalidInput(f"sort takes at most {SORTS_MAX} paths.", field="sort")
    paths = dict(_sort_key(each) for each in wanted)
    if len(paths) < len(wanted):
        raise InvalidInput("sort names a path twice.", field="sort")
    paths.setdefault(ID, 1)
    return tuple(paths.items())


def _sort_key(text: str) -> tuple[str, int]:
    path = text.removeprefix("-")
    segments(path)
    return sort_path(path, SEARCHED), -1 if text.startswith("-") else 1


def _is_narrowed(clause: Clause) -> bool:
    match clause:
        case And(clauses):
            return any(map(_is_narrowed, clauses))
        case Or(clauses):
            return all(map(_is_narrowed, clauses))
        case At(path, conditions):
            is_indexed = path in _INDEXED or path.startswith(_INDEXED_BELOW)
            return is_indexed and any(map(_is_exact, conditions))
        case Nor():
            return False


def _is_exact(condition: Condition) -> bool:
    """Picks plain values; null is what most entries may have."""
    match condition:
        case Compare(Comparison.EQ, value):
            return _is_plain(value)
        case Among(values, False) | HasAll(values):
            return all(map(_is_plain, values))
        case _:
            return False


def _is_plain(value: Json) -> bool:
    return isinstance(value, str | int | float)


def _has_pattern(clause: Clause) -> bool:
    match clause:
        case At(_, conditions):
            return _any_pattern(conditions)
        case And(clauses) | Or(clauses) | Nor(clauses):
            return any(map(_has_pattern, clauses))


def _any_pattern(conditions: Iterable[Condition]) -> bool:
    return any(map(_is_pattern, conditions))


def _is_pattern(condition: Condition) -> bool:
    match condition:
        case MatchesText():
            return True
        case Not(conditions):
            return _any_pattern(conditions)
        case AnyElement(And() as inner):
            return _has_pattern(inner)
        case AnyElement(tuple(conditions)):
            return _any_pattern(conditions)
        case AllElements(tests):
            return _any_pattern(tests)
        case _:
            return False
