"""What an update makes of an entry of the registry directory: computed, not written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pipeline.errors import InvalidInput
from pipeline.rules import registry_entries, strict_json, updates
from pipeline.rules.registry_entries import CHANGEABLE, FIELDS, ID
from pipeline.rules.strict_json import Json
from pipeline.rules.update_apply import apply
from pipeline.rules.update_tree import Update
from schemas.registry import Registry

DOCUMENT_MAX: Final = 1024 * 1024
"""An entry does not grow beyond what one could have been made with."""


def read(body: Json) -> Update:
    """Raises InvalidInput."""
    with _id_stays():
        return updates.parse(body, CHANGEABLE)


def changed(update: Update, before: Mapping[str, Json]) -> dict[str, Any]:
    """The whole document after it. May compute for a second. Raises InvalidInput."""
    with _id_stays():
        after = apply(update, before)
    document = registry_entries.completed(after)
    strict_json.check(document)
    size = _size(document)
    # One that was made longer, by its defaults or by `1e9` in figures, may stay as it is.
    if size > DOCUMENT_MAX and size > _size(before):
        raise InvalidInput(f"The entry would become larger than {DOCUMENT_MAX} bytes.")
    return document


def document_of(registry: Registry) -> dict[str, Any]:
    """The caller's own fields."""
    return {name: getattr(registry, name) for name in FIELDS}


def fingerprint(document: Mapping[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _size(document: Mapping[str, Json]) -> int:
    """As short as JSON can be."""
    return len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


@contextmanager
def _id_stays() -> Iterator[None]:
    """Whatever an update tries with the id, it is told the same."""
    try:
        yield
    except InvalidInput as error:
        path = str(error.facts.get("path") or error.facts.get("field") or "")
        if path.partition(".")[0] != ID:
            raise
        raise InvalidInput(f"{ID} cannot be changed", field=ID) from error
