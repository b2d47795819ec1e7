"""Entries as they cross the wire, over HTTP and in commands: one prefix before every field.

Inside, fields go without it; whatever an error says about a field names it as its sender does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from pipeline import strict_json
from pipeline.errors import AlreadyExists, InvalidInput
from pipeline.mongo_language import updates
from pipeline.mongo_language.tree import UpdateFields
from pipeline.mongo_language.updates import apply
from pipeline.registries import entries
from pipeline.registries.entries import FIELDS, ID
from pipeline.strict_json import Json

PREFIX: Final = "container_registry_"
DOCUMENT_MAX: Final = 1024 * 1024
"""An entry does not grow beyond what one could have been made with."""

CHANGEABLE: Final = UpdateFields(
    writable=frozenset(PREFIX + name for name in FIELDS),
    deep=frozenset(PREFIX + name for name in ("metadata", "config", "storage_info", "tags")),
    fixed=frozenset({PREFIX + ID}),
)
"""What an update may name."""

Edit: TypeAlias = Callable[[Mapping[str, Json]], dict[str, Any]]
"""The whole document after a change. May compute for a second. Raises InvalidInput."""


@contextmanager
def errors() -> Iterator[None]:
    """Says of the fields of an entry what concerns them in their names on the wire."""
    try:
        yield
    except InvalidInput as error:
        field = error.facts.get("field")
        if field not in FIELDS:
            raise
        facts = error.facts | {"field": f"{PREFIX}{field}"}
        raise InvalidInput(PREFIX + error.message, **facts) from error
    except AlreadyExists as error:
        raise AlreadyExists("Container registry already exists", **error.facts) from error


def read(body: Json) -> dict[str, Json]:
    """What a new entry was asked to be: known fields only, unchecked. Raises InvalidInput."""
    if not isinstance(body, dict):
        raise InvalidInput("The request body must be a JSON object.")
    return {name: body[PREFIX + name] for name in FIELDS if PREFIX + name in body}


def named(document: Mapping[str, Any]) -> dict[str, Any]:
    return {PREFIX + name: value for name, value in document.items()}


def read_update(body: Json) -> Edit:
    """May take a moment: a body may name tens of thousands of places. Raises InvalidInput."""
    with _id_stays():
        update = updates.parse(body, CHANGEABLE)

    def edit(before: Mapping[str, Json]) -> dict[str, Any]:
        with _id_stays():
            after = apply(update, named(before))
        document = entries.completed(read(after))
        strict_json.check(document)
        # One that was made longer, by its defaults or by `1e9` in figures, may stay as it is.
        size = _size(document)
        if size > DOCUMENT_MAX and size > _size(before):
            raise InvalidInput(f"The entry would become larger than {DOCUMENT_MAX} bytes.")
        return document

    return edit


def _size(document: Mapping[str, Json]) -> int:
    """As short as JSON can be."""
    return len(json.dumps(named(document), ensure_ascii=False, separators=(",", ":")).encode())


@contextmanager
def _id_stays() -> Iterator[None]:
    """Whatever an update tries with the id, it is told the same."""
    try:
        yield
    except InvalidInput as error:
        path = str(error.facts.get("path") or error.facts.get("field") or "")
        if path.partition(".")[0] != PREFIX + ID:
            raise
        raise InvalidInput(f"{PREFIX}{ID} cannot be changed", field=PREFIX + ID) from error
