"""Places in a JSON document that dotted paths lead to, found or made as MongoDB does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pipeline.rules.filter_literals import refuse
from pipeline.rules.update_tree import Path

PADDING_MAX: Final = 1000
"""Nulls that one change may put before a new element."""


class _Missing:
    """Nothing is there; null is something."""


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Place:
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
            raise refuse(".".join(self.path), f"the array has only {length} elements.")
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


def find(document: dict[str, Any], path: Path, *, strict: bool = False) -> Place | None:
    """None when the way to it ends early.

    Raises InvalidInput, if `strict`, when it ends at something that has no such parts.
    """
    value: Any = document
    for depth, part in enumerate(path):
        if not _can_hold(value, part):
            if strict and value is not MISSING:
                raise _blocked(path[: depth + 1])
            return None
        if depth < len(path) - 1:
            value = _child(value, part)
    return Place(value, path)


def reach(document: dict[str, Any], path: Path) -> Place:
    """Makes the objects on the way that are missing. Raises InvalidInput when it is blocked."""
    value: Any = document
    for depth, part in enumerate(path):
        if not _can_hold(value, part):
            raise _blocked(path[: depth + 1])
        if depth < len(path) - 1:
            place = Place(value, path[: depth + 1])
            value = place.get()
            if value is MISSING:
                value = {}
                place.put(value)
    return Place(value, path)


def crosses_array(document: dict[str, Any], path: Path) -> bool:
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


def _blocked(path: Path) -> Exception:
    return refuse(".".join(path), "the value before it has no such part.")
