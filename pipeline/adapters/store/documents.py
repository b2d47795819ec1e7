"""How a record becomes a document and back, and what a guarded change writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import IllegalTransition, InvalidInput, StoreUnavailable
from schemas.base import Record, StatefulRecord
from schemas.message import Message

R = TypeVar("R", bound=Record)
Document: TypeAlias = dict[str, Any]
Update: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Scope(Enum):
    EVERY_ORG = "every organisation"


EVERY_ORG: Final = Scope.EVERY_ORG
Org: TypeAlias = str | Scope

Sort: TypeAlias = Sequence[tuple[str, int]]
NEWEST_FIRST: Final = (("created_at", -1), ("_id", -1))


class Keep(Enum):
    KEEP = "the reason stays as it is"


KEEP: Final = Keep.KEEP

CHANGES_PIPELINE: Final = (
    {"$match": {"operationType": {"$in": ["insert", "replace", "update"]}}},
    # The names are enough: documents may be large.
    {
        "$project": {
            "documentKey": 1,
            "made": {"$map": {"input": {"$objectToArray": "$fullDocument"}, "in": "$$this.k"}},
            "set": {
                "$map": {
                    "input": {"$objectToArray": "$updateDescription.updatedFields"},
                    "in": "$$this.k",
                }
            },
            "removed": "$updateDescription.removedFields",
        }
    },
)
"""What a change stream tells: which fields a write set and which it removed."""

_OURS = frozenset(
    {"_id", "uuid", "org", "revision", "created_at", "updated_at", "outbox"}
    | {"status", "status_since", "reason"}
)


def scoped(org: Org, where: Mapping[str, Any] | None) -> Document:
    query = dict(where or {})
    if org is not EVERY_ORG:
        query["org"] = org
    return query


def identified(uuid: str, org: Org, guard: Mapping[str, Any] | None = None) -> Document:
    """Raises InvalidInput for an id that is no text: it would be read as a query."""
    if not isinstance(uuid, str):
        raise InvalidInput("An id is text.")
    return scoped(org, {**(guard or {}), "_id": uuid})


def to_document(record: Record) -> Document:
    document = record.model_dump()
    document["_id"] = document.pop("uuid")
    return document


def to_record(kind: type[R], document: Document) -> R:
    """Takes the document over.

    Raises StoreUnavailable for one that this version cannot read: a newer version, which wrote it,
    can. The message names fields, never their values.
    """
    document["uuid"] = document.pop("_id")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise StoreUnavailable(
            f"This version cannot read {kind.resource} {document['uuid']}: {fields}."
        ) from None


def planned_update(
    record: Record,
    values: Mapping[str, Any],
    at: datetime,
    status: StrEnum | None,
    reason: str | Keep | None,
    messages: Iterable[Message],
) -> Document:
    """The one update of a guarded change.

    Raises IllegalTransition, and ValueError for a field that the kind does not have or that only
    the store writes.
    """
    _refuse_foreign_fields(type(record), values)
    written: Document = {name: _plain(value) for name, value in values.items()}
    written["updated_at"] = at
    if reason is not KEEP:
        written["reason"] = reason
    if status is not None and moves(record, status):
        written |= {"status": status.value, "status_since": at}
    update: Document = {"$set": written, "$inc": {"revision": 1}}
    if outbox := [message.model_dump() for message in messages]:
        update["$push"] = {"outbox": {"$each": outbox}}
    return update


def moves(record: Record, status: StrEnum) -> bool:
    """False when it is there already. Raises IllegalTransition when the table has no such move."""
    current = record.status if isinstance(record, StatefulRecord) else None
    if status == current:
        return False
    if current is None or status not in record.transitions.get(current, frozenset()):
        raise IllegalTransition(
            f"A {record.resource} that is {current} cannot become {status}.",
            status=current,
            wanted=status,
        )
    return True


def refuse_status(update: Update) -> None:
    """Raises ValueError when a raw update would move a record past its transition table."""
    for stage in [update] if isinstance(update, Mapping) else update:
        for operator, fields in stage.items():
            if any(name.split(".")[0] == "status" for name in fields):
                raise ValueError(f"{operator} of status: use Store.change.")


def _refuse_foreign_fields(kind: type[Record], values: Mapping[str, Any]) -> None:
    for path in values:
        name = path.partition(".")[0]
        if name in _OURS or name not in kind.model_fields:
            raise ValueError(f"{path} is not a field of {kind.__name__} that a change may set.")


def _plain(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump()
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case set() | frozenset():
            return sorted(_plain(each) for each in value)
        case _:
            return value


def unless_only(kind: type[Record], field: str) -> Document:
    """Of a change stream: what changes more than this field. MongoDB reads it off its log."""
    told = "updateDescription.updatedFields"
    others = [name for name in kind.model_fields if name != field]
    return {
        "$match": {
            "$or": [
                {"operationType": {"$ne": "update"}},
                {f"{told}.{field}": {"$exists": False}},
                *({f"{told}.{name}": {"$exists": True}} for name in others),
            ]
        }
    }


@dataclass(frozen=True, slots=True)
class ChangedFields:
    """Dotted paths, as short as MongoDB tells them: `leases.c1` for one lease, `leases` for all."""

    set: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    uuid: str = ""
    """Of the record; empty for what is told first."""


@dataclass(slots=True)
class Place:
    """Where in the changes of a kind a follower is, to go on there when it is cut off."""

    token: Mapping[str, Any] | None = None
    is_resumed: bool = False
    """Nothing was missed since the last time."""


def changed_fields(told: Mapping[str, Any]) -> ChangedFields:
    """From what `CHANGES_PIPELINE` lets through; of a new record all fields are set."""
    written = [*(told.get("made") or ()), *(told.get("set") or ())]
    removed = frozenset(told.get("removed") or ())
    return ChangedFields(frozenset(written), removed, told["documentKey"]["_id"])
