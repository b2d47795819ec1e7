"""Updates that callers write: MongoDB's operators, read against an allow-list, applied.

A plain partial document is the same as `$set` of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pipeline import strict_json
from pipeline.errors import InvalidInput
from pipeline.mongo_language import filters, tree
from pipeline.mongo_language.matcher import Matcher, equality_key, identical
from pipeline.mongo_language.tree import (
    MISSING,
    Change,
    Effort,
    Limits,
    Path,
    literal,
    refuse,
    segments,
)
from pipeline.strict_json import INT_MAX, INT_MIN, Json

MADE_SEGMENTS: Final = 40
"""Objects are made on the way: with the deepest value at its end it stays far below what can be
computed with. How deep the document may be in the end, its owner decides."""
_BLOCKED: Final = "the value before it has no such part."
PADDING_MAX: Final = 1000
"""Nulls that one change may put before a new element."""
Document = dict[str, Any]
Test: TypeAlias = tree.EqualTo | tuple[tree.Condition, ...] | tree.And


def parse(body: Json, fields: tree.UpdateFields) -> tree.Update:
    """From JSON. Raises InvalidInput that names the path or operator."""
    if not isinstance(body, dict) or not body:
        raise InvalidInput("The update must be an object that names what to change.")
    operators = [key.startswith("$") for key in body]
    if any(operators) and not all(operators):
        raise InvalidInput("Update operators and fields cannot be mixed.")
    if not all(operators):
        body = {"$set": body}
    changes = [change for name, argument in body.items() for change in _read(name, argument)]
    for change in changes:
        for path in _places(change):
            _check_allowed(path, fields)
    _refuse_conflicts(changes)
    return tree.Update(
        tuple(sorted(changes, key=lambda change: _applied_order(change.path))), fields
    )


def apply(update: tree.Update, document: Mapping[str, Json]) -> Document:
    """The changed copy. Takes up to a second of computing for hostile input, so use a thread.

    Raises InvalidInput when a change does not fit the document, or alters a fixed field.
    """
    changed: Document = copy.deepcopy(dict(document))
    matcher = Matcher(Effort())
    for change in update.changes:
        _apply(change, changed, matcher)
    for field in update.fields.fixed:
        if not identical(document.get(field), changed.get(field)):
            raise InvalidInput(f"{field} cannot be changed", field=field)
    return changed


def changed_fields(before: Mapping[str, Json], after: Mapping[str, Json]) -> frozenset[str]:
    """Top-level fields whose value is not exactly the same; empty when nothing was changed."""
    return frozenset(
        field
        for field in {*before, *after}
        if not identical(before.get(field, MISSING), after.get(field, MISSING))
    )


def check_keys(value: Json, where: str) -> None:
    """Raises InvalidInput for keys that a stored object may not have."""
    if isinstance(value, dict):
        for key in value:
            if not key or key.startswith("$") or "." in key:
                raise refuse(where, "keys may not be empty, begin with $ or contain a dot.")
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            check_keys(each, where)


def _read(name: str, argument: Json) -> Iterator[Change]:
    if name not in _OPERATORS:
        raise refuse(name, "this update operator is not allowed.")
    if not isinstance(argument, dict) or not argument:
        raise refuse(name, "it takes an object that names at least one field.")
    for path, operand in argument.items():
        yield _OPERATORS[name](_path(path), operand)


def _path(text: str) -> Path:
    parts = tuple(segments(text))
    if len(parts) > MADE_SEGMENTS:
        raise refuse(text, f"a path has at most {MADE_SEGMENTS} segments.")
    return parts


def _value(value: Json, path: Path) -> Json:
    strict_json.check(value)
    check_keys(value, ".".join(path))
    return value


def _each(path: Path, operand: Json) -> tuple[Json, ...]:
    """One value, or those of `$each`."""
    if not isinstance(operand, dict) or "$each" not in operand:
        return (_value(operand, path),)
    if len(operand) > 1:
        raise refuse(path, "beside $each nothing is allowed.")
    if not isinstance(operand["$each"], list):
        raise refuse(path, "$each takes an array.")
    return tuple(_value(each, path) for each in operand["$each"])


def _read_pull(path: Path, operand: Json) -> Change:
    where = ".".join(path)
    if filters.is_operators(operand):
        return tree.Pull(path, filters.parse_conditions(operand, where))
    if isinstance(operand, dict):
        return tree.Pull(path, filters.parse(operand))
    limits = Limits(depth=strict_json.MAX_DEPTH)
    return tree.Pull(path, tree.EqualTo(literal(operand, where, 0, limits)))


def _read_increment(path: Path, operand: Json) -> Change:
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise refuse(path, "$inc takes a number.")
    strict_json.check(operand)
    return tree.Increment(path, operand)


def _read_rename(path: Path, operand: Json) -> Change:
    if not isinstance(operand, str) or not operand:
        raise refuse(path, "$rename takes the new name.")
    return tree.Rename(path, _path(operand))


_OPERATORS: Final[dict[str, Callable[[Path, Json], Change]]] = {
    "$set": lambda path, operand: tree.Set(path, _value(operand, path)),
    "$unset": lambda path, operand: tree.Unset(path),
    "$push": lambda path, operand: tree.Push(path, _each(path, operand)),
    "$addToSet": lambda path, operand: tree.AddToSet(path, _each(path, operand)),
    "$pull": _read_pull,
    "$inc": _read_increment,
    "$rename": _read_rename,
}


def _places(change: Change) -> tuple[Path, ...]:
    return (change.source, change.path) if isinstance(change, tree.Rename) else (change.path,)


def _check_allowed(path: Path, fields: tree.UpdateFields) -> None:
    field, *rest = path
    if field not in fields.writable:
        raise refuse(path, "there is no such field that can be changed.")
    if rest and field not in fields.deep:
        raise refuse(path, f"{field} has no fields of its own.")


def _refuse_conflicts(changes: list[Change]) -> None:
    """No two places may be the same or inside one another."""
    taken: set[Path] = set()
    for path in sorted(place for change in changes for place in _places(change)):
        for length in range(1, len(path) + 1):
            if path[:length] in taken:
                raise refuse(path, f"conflicts with {'.'.join(path[:length])}.")
        taken.add(path)


def _applied_order(path: Path) -> list[tuple[bool, int, str]]:
    """As MongoDB applies them: numbers by value, names by letter."""
    return [(not _is_number(part), int(part) if _is_number(part) else 0, part) for part in path]


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 19


def _apply(change: Change, document: Document, matcher: Matcher) -> None:
    match change:
        case tree.Set(path, value):
            _reach(document, path).put(copy.deepcopy(value))
        case tree.Unset(path):
            if (place := _find(document, path)) is not None:
                place.remove()
        case tree.Push(path, values):
            _array(_reach(document, path)).extend(copy.deepcopy(values))
        case tree.AddToSet(path, values):
            _add_to_set(_array(_reach(document, path)), values)
        case tree.Pull(path, test):
            _pull(document, path, test, matcher)
        case tree.Increment(path, amount):
            _increment(_reach(document, path), amount)
        case tree.Rename(source, path):
            _rename(document, source, path)


def _array(place: _Place) -> list[Json]:
    value = place.get()
    if value is MISSING:
        value = []
        place.put(value)
    if not isinstance(value, list):
        raise refuse(place.path, "there is no array at this place.")
    return value


def _add_to_set(array: list[Json], values: tuple[Json, ...]) -> None:
    present = {equality_key(each) for each in array}
    for value in values:
        if (key := equality_key(value)) not in present:
            present.add(key)
            array.append(copy.deepcopy(value))


def _pull(document: Document, path: Path, test: Test, matcher: Matcher) -> None:
    place = _find(document, path, strict=True)
    if place is None or place.get() is MISSING:
        return
    array, is_pulled = _array(place), _chooser(test, matcher)
    array[:] = [each for each in array if not is_pulled(each)]


def _chooser(test: Test, matcher: Matcher) -> Callable[[Json], bool]:
    match test:
        case tree.EqualTo(value):
            key = equality_key(value)
            return lambda element: equality_key(element) == key
        case tuple(conditions):
            return lambda element: matcher.wrapped(conditions, element)
        case tree.And():
            return lambda element: isinstance(element, dict) and matcher.document(test, element)


def _increment(place: _Place, amount: int | float) -> None:
    value = place.get()
    if value is MISSING:
        return place.put(amount)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(place.path, "there is no number at this place.")
    total = value + amount
    fits = math.isfinite(total) if isinstance(total, float) else INT_MIN <= total <= INT_MAX
    if not fits:
        raise refuse(place.path, "the number would become too large.")
    return place.put(total)


def _rename(document: Document, source: Path, path: Path) -> None:
    place = _find(document, source, strict=True)
    value = MISSING if place is None else place.get()
    if place is None or value is MISSING:
        return
    for each in (source, path):
        if _crosses_array(document, each):
            raise refuse(each, "$rename does not reach into arrays.")
    _reach(document, path).put(value)
    place.remove()


@dataclass(frozen=True, slots=True)
class _Place:
    """A key of an object or an index of an array, there or not."""

    holder: dict[str, Any] | list[Any]
    path: Path

    def get(self) -> Any:
        return _child(self.holder, self.path[-1])

    def put(self, value: Any) -> None:
        """Raises InvalidInput when an array would have to be filled up too far."""
        if isinstance(self.holder, dict):
            self.holder[self.path[-1]] = value
            return
        index, length = int(self.path[-1]), len(self.holder)
        if index - length > PADDING_MAX:
            raise refuse(self.path, f"the array has only {length} elements.")
        if index < length:
            self.holder[index] = value
        else:
            self.holder.extend([*([None] * (index - length)), value])

    def remove(self) -> None:
        """An element of an array becomes null, so that the others keep their place."""
        if isinstance(self.holder, dict):
            self.holder.pop(self.path[-1], None)
        elif int(self.path[-1]) < len(self.holder):
            self.holder[int(self.path[-1])] = None


def _find(document: dict[str, Any], path: Path, *, strict: bool = False) -> _Place | None:
    """None when the way to it ends early.

    Raises InvalidInput, if `strict`, when it ends at something that has no such parts.
    """
    value: Any = document
    for depth, part in enumerate(path):
        if not _can_hold(value, part):
            if strict and value is not MISSING:
                raise refuse(path[: depth + 1], _BLOCKED)
            return None
        if depth < len(path) - 1:
            value = _child(value, part)
    return _Place(value, path)


def _reach(document: dict[str, Any], path: Path) -> _Place:
    """Makes the objects on the way that are missing. Raises InvalidInput when it is blocked."""
    value: Any = document
    for depth, part in enumerate(path):
        if not _can_hold(value, part):
            raise refuse(path[: depth + 1], _BLOCKED)
        if depth < len(path) - 1:
            place = _Place(value, path[: depth + 1])
            value = place.get()
            if value is MISSING:
                value = {}
                place.put(value)
    return _Place(value, path)


def _crosses_array(document: dict[str, Any], path: Path) -> bool:
    value: Any = document
    for part in path:
        if isinstance(value, list):
            return True
        value = _child(value, part)
    return False


def _child(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, MISSING)
    if isinstance(value, list) and _is_index(part) and int(part) < len(value):
        return value[int(part)]
    return MISSING


def _can_hold(value: Any, part: str) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and _is_index(part))


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10 and str(int(part)) == part
