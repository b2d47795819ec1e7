"""What a body makes of an entry of the catalogue, and how an entry is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.catalog import fields
from pipeline.catalog.fields import NULL, REQUIRED, Wrong, refused
from pipeline.catalog.snapshot import Snapshot
from pipeline.errors import InvalidReference
from pipeline.oci import references
from schemas.registries.catalog import CatalogEntry, TableName

PASSWORD: Final = "registry_password"
HARDWARE: Final = "min_hardware_generation"
NO_HARDWARE: Final = "An image that needs a GPU names its least hardware generation; or set cpu."
TAKEN: Final = "There is another image with this name and version."

Reading = Callable[[Any, Snapshot], Any]


@dataclass(frozen=True, slots=True)
class EntryField:
    """How one field is read. Raises Wrong."""

    name: str
    read: Reading
    is_required: bool = True
    default: Any = None
    is_nullable: bool = False


def _text(most: int, *, trimmed: bool = True) -> Reading:
    return lambda value, rows: fields.text(value, most, trimmed=trimmed)


FIELDS: Final = (
    EntryField("name", _text(64)),
    EntryField("version", _text(32)),
    EntryField("url", _text(200)),
    EntryField("registry_url", _text(200)),
    EntryField("registry_username", _text(64), is_required=False, is_nullable=True),
    # Spaces at its ends may belong to it.
    EntryField(PASSWORD, _text(64, trimmed=False), is_required=False, is_nullable=True),
    EntryField("cuda_version", lambda value, rows: rows.cuda_version(value)),
    EntryField("framework", lambda value, rows: rows.framework(value)),
    EntryField("domain", lambda value, rows: rows.domain(value)),
    EntryField("tasks", lambda value, rows: rows.tasks(value)),
    EntryField(
        HARDWARE, lambda value, rows: rows.hardware(value), is_required=False, is_nullable=True
    ),
    EntryField("cpu", lambda value, rows: fields.boolean(value), is_required=False, default=False),
    EntryField("licence", lambda value, rows: rows.licence(value)),
)
"""In the order in which they are shown."""
NAMES: Final = tuple(field.name for field in FIELDS)
ADDRESS: Final = frozenset({"url", "registry_url", "registry_username", PASSWORD})
"""What decides which image it is, and how it is reached."""


def read_entry(
    body: Mapping[str, Any], rows: Snapshot, before: Mapping[str, Any] | None, *, partial: bool
) -> dict[str, Any]:
    """The fields of an entry as a body makes them of those `before`; relations by key.

    Without `partial` what is required must be there. Other keys are ignored. Raises InvalidInput
    (`fields.refused`).
    """
    values = dict(before or {field.name: field.default for field in FIELDS})
    wrong: dict[str, list[str]] = {}
    for field in FIELDS:
        if field.name not in body:
            if field.is_required and not partial:
                wrong[field.name] = [REQUIRED]
            continue
        try:
            values[field.name] = _value(field, body[field.name], rows)
        except Wrong as error:
            wrong[field.name] = [str(error)]
    if not wrong.keys() & {HARDWARE, "cpu"} and values[HARDWARE] is None and not values["cpu"]:
        wrong[HARDWARE] = [NO_HARDWARE]
    if wrong:
        raise refused(wrong)
    return values


def _value(field: EntryField, value: Any, rows: Snapshot) -> Any:
    if value is not None:
        return field.read(value, rows)
    if field.is_nullable:
        return None
    raise Wrong(NULL)


def values_of(entry: CatalogEntry, password: str | None) -> dict[str, Any]:
    """The fields of an entry, with its password in the clear."""
    return {name: password if name == PASSWORD else getattr(entry, name) for name in NAMES}


def referred(values: Mapping[str, Any]) -> dict[TableName, list[int]]:
    """The rows that an entry refers to."""
    hardware = values[HARDWARE]
    return {
        TableName.CUDA: [values["cuda_version"]],
        TableName.FRAMEWORKS: [values["framework"]],
        TableName.DOMAINS: [values["domain"]],
        TableName.LICENCES: [values["licence"]],
        TableName.JOB_CONTRACTS: values["tasks"],
        TableName.HARDWARE: [] if hardware is None else [hardware],
    }


def reference_of(url: str) -> str | None:
    """`url` as a whole image reference; None when it is none."""
    try:
        return str(references.parse(url))
    except InvalidReference:
        return None


def shown(entry: Mapping[str, Any], rows: Snapshot, password: str | None) -> dict[str, Any]:
    """An entry (or what the store keeps of it) as callers see it."""
    hardware = entry.get(HARDWARE)
    cuda = rows.values(TableName.CUDA, entry["cuda_version"])
    framework = rows.values(TableName.FRAMEWORKS, entry["framework"])
    contracts = (rows.values(TableName.JOB_CONTRACTS, task) for task in entry["tasks"])
    return {
        "pk": entry["pk"],
        **{name: entry[name] for name in ("name", "version", "url", "registry_url")},
        "registry_username": entry.get("registry_username"),
        PASSWORD: password,
        "cuda_version": dict(cuda),
        "framework": dict(framework),
        "domain": rows.values(TableName.DOMAINS, entry["domain"])["description"],
        "tasks": [contract["name"] for contract in contracts],
        HARDWARE: None if hardware is None else dict(rows.values(TableName.HARDWARE, hardware)),
        "cpu": entry["cpu"],
        "licence": rows.values(TableName.LICENCES, entry["licence"])["name"],
    }
