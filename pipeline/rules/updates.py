"""Updates that callers write: MongoDB's operators read against an allow-list.

A plain partial document is the same as `$set` of it. `update_apply` does what is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pipeline.errors import InvalidInput
from pipeline.rules import filters, strict_json
from pipeline.rules.filter_literals import Limits, literal, refuse, segments
from pipeline.rules.strict_json import Json
from pipeline.rules.update_tree import (
    AddToSet,
    Change,
    EqualTo,
    Increment,
    Meets,
    Path,
    Pull,
    Push,
    Rename,
    Set,
    Unset,
    Update,
    UpdateFields,
)

PATH_SEGMENTS: Final = 40
"""Objects are made on the way: with the deepest value at its end it stays far below what can be
computed with. How deep the document may be in the end, its owner decides."""


def parse(body: Json, fields: UpdateFields) -> Update:
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
    return Update(tuple(sorted(changes, key=lambda change: _order(change.path))), fields)


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
    if len(parts) > PATH_SEGMENTS:
        raise refuse(text, f"a path has at most {PATH_SEGMENTS} segments.")
    return parts


def _value(value: Json, path: Path) -> Json:
    strict_json.check(value)
    check_keys(value, ".".join(path))
    return value


def _set(path: Path, operand: Json) -> Change:
    return Set(path, _value(operand, path))


def _unset(path: Path, operand: Json) -> Change:
    return Unset(path)


def _push(path: Path, operand: Json) -> Change:
    return Push(path, _each(path, operand))


def _add_to_set(path: Path, operand: Json) -> Change:
    return AddToSet(path, _each(path, operand))


def _each(path: Path, operand: Json) -> tuple[Json, ...]:
    """One value, or those of `$each`."""
    if not isinstance(operand, dict) or "$each" not in operand:
        return (_value(operand, path),)
    if len(operand) > 1:
        raise refuse(".".join(path), "beside $each nothing is allowed.")
    if not isinstance(operand["$each"], list):
        raise refuse(".".join(path), "$each takes an array.")
    return tuple(_value(each, path) for each in operand["$each"])


def _pull(path: Path, operand: Json) -> Change:
    where = ".".join(path)
    if filters.is_operators(operand):
        return Pull(path, Meets(filters.parse_conditions(operand, where)))
    if isinstance(operand, dict):
        return Pull(path, filters.parse(operand))
    return Pull(path, EqualTo(literal(operand, where, 0, Limits(depth=strict_json.MAX_DEPTH))))


def _increment(path: Path, operand: Json) -> Change:
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise refuse(".".join(path), "$inc takes a number.")
    strict_json.check(operand)
    return Increment(path, operand)


def _rename(path: Path, operand: Json) -> Change:
    if not isinstance(operand, str) or not operand:
        raise refuse(".".join(path), "$rename takes the new name.")
    return Rename(path, _path(operand))


_OPERATORS: Final[dict[str, Callable[[Path, Json], Change]]] = {
    "$set": _set,
    "$unset": _unset,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
    "$inc": _increment,
    "$rename": _rename,
}


def _places(change: Change) -> tuple[Path, ...]:
    return (change.source, change.path) if isinstance(change, Rename) else (change.path,)


def _check_allowed(path: Path, fields: UpdateFields) -> None:
    field, *rest = path
    if field not in fields.writable:
        raise refuse(".".join(path), "there is no such field that can be changed.")
    if rest and field not in fields.deep:
        raise refuse(".".join(path), f"{field} has no fields of its own.")


def _refuse_conflicts(changes: list[Change]) -> None:
    """No two places may be the same or inside one another."""
    taken: set[Path] = set()
    for path in sorted(place for change in changes for place in _places(change)):
        for length in range(1, len(path) + 1):
            if path[:length] in taken:
                raise refuse(".".join(path), f"conflicts with {'.'.join(path[:length])}.")
        taken.add(path)


def _order(path: Path) -> list[tuple[bool, int, str]]:
    """As MongoDB applies them: numbers by value, names by letter."""
    return [(not _is_index(part), int(part) if _is_index(part) else 0, part) for part in path]


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 19
