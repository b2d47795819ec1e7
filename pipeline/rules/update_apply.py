"""Applies updates to a document as MongoDB does, without touching the document itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import InvalidInput
from pipeline.rules import filter_order
from pipeline.rules.filter_effort import Effort
from pipeline.rules.filter_literals import refuse
from pipeline.rules.filter_match import Matcher
from pipeline.rules.filter_tree import And
from pipeline.rules.strict_json import INT_MAX, INT_MIN, Json
from pipeline.rules.update_places import MISSING, Place, crosses_array, find, reach
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
)

Document = dict[str, Any]


def apply(update: Update, document: Mapping[str, Json]) -> Document:
    """The changed copy. Takes up to a second of computing for hostile input, so use a thread.

    Raises InvalidInput when a change does not fit the document, or alters a fixed field.
    """
    changed: Document = copy.deepcopy(dict(document))
    matcher = Matcher(Effort())
    for change in update.changes:
        _apply(change, changed, matcher)
    for field in update.fields.fixed:
        if not filter_order.identical(document.get(field), changed.get(field)):
            raise InvalidInput(f"{field} cannot be changed", field=field)
    return changed


def changed_fields(before: Mapping[str, Json], after: Mapping[str, Json]) -> frozenset[str]:
    """Top-level fields whose value is not exactly the same; empty when nothing was changed."""
    return frozenset(
        field
        for field in {*before, *after}
        if not filter_order.identical(before.get(field, MISSING), after.get(field, MISSING))
    )


def _apply(change: Change, document: Document, matcher: Matcher) -> None:
    match change:
        case Set(path, value):
            reach(document, path).put(copy.deepcopy(value))
        case Unset(path):
            if (place := find(document, path)) is not None:
                place.remove()
        case Push(path, values):
            _array(reach(document, path), path).extend(copy.deepcopy(values))
        case AddToSet(path, values):
            _add_to_set(_array(reach(document, path), path), values)
        case Pull(path, test):
            _pull(document, path, test, matcher)
        case Increment(path, amount):
            _increment(reach(document, path), path, amount)
        case Rename(source, path):
            _rename(document, source, path)


def _array(place: Place, path: Path) -> list[Json]:
    value = place.get()
    if value is MISSING:
        value = []
        place.put(value)
    if not isinstance(value, list):
        raise refuse(".".join(path), "there is no array at this place.")
    return value


def _add_to_set(array: list[Json], values: tuple[Json, ...]) -> None:
    present = {filter_order.key(each) for each in array}
    for value in values:
        if (key := filter_order.key(value)) not in present:
            present.add(key)
            array.append(copy.deepcopy(value))


def _pull(document: Document, path: Path, test: EqualTo | Meets | And, matcher: Matcher) -> None:
    place = find(document, path, strict=True)
    array = MISSING if place is None else place.get()
    if array is MISSING:
        return
    if not isinstance(array, list):
        raise refuse(".".join(path), "there is no array at this place.")
    is_pulled = _chooser(test, matcher)
    array[:] = [each for each in array if not is_pulled(each)]


def _chooser(test: EqualTo | Meets | And, matcher: Matcher) -> Callable[[Json], bool]:
    match test:
        case EqualTo(value):
            key = filter_order.key(value)
            return lambda element: filter_order.key(element) == key
        case Meets(conditions):
            return lambda element: matcher.wrapped(conditions, element)
        case And():
            return lambda element: isinstance(element, dict) and matcher.document(test, element)


def _increment(place: Place, path: Path, amount: int | float) -> None:
    value = place.get()
    if value is MISSING:
        return place.put(amount)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(".".join(path), "there is no number at this place.")
    total = value + amount
    fits = math.isfinite(total) if isinstance(total, float) else INT_MIN <= total <= INT_MAX
    if not fits:
        raise refuse(".".join(path), "the number would become too large.")
    return place.put(total)


def _rename(document: Document, source: Path, path: Path) -> None:
    place = find(document, source, strict=True)
    value = MISSING if place is None else place.get()
    if place is None or value is MISSING:
        return
    for each in (source, path):
        if crosses_array(document, each):
            raise refuse(".".join(each), "$rename does not reach into arrays.")
    reach(document, path).put(value)
    place.remove()
