"""The shapes that every other schema is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from schemas.message import Message

Transitions: TypeAlias = Mapping[StrEnum, frozenset[StrEnum]]

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
]
Title = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=255,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$",
    ),
]
"""A name as people write it: any characters but controls, and no space around it."""
Labels: TypeAlias = dict[str, str]
Annotations: TypeAlias = dict[str, str]
"""Texts that clients keep with a record; the platform does not read them."""


class Mark(Enum):
    """Says of a field what may be shown of it where the whole is hidden (dead letters)."""

    CONCEALED = "concealed"
    """Values may be secrets: an environment, credentials."""
    PLAIN = "plain"
    """A scalar that may be shown although its type says nothing."""


class Shape(BaseModel):
    """A value inside a record or a request: closed, so that a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid")


class Progress(Shape):
    """How far a long step is. Integers that never fall within one attempt."""

    done_bytes: int = Field(default=0, ge=0)
    total_bytes: int | None = None
    percentage: int = Field(default=0, ge=0, le=100)


class Fault(Shape):
    """Why something failed, as callers are told."""

    code: str
    message: str
    technical: str
    """What helps to find the cause; never empty."""


class Record(BaseModel):
    """A document of the store, of the kind that its `collection` and `resource` name.

    `revision` counts every write and is what guarded writes compare. `outbox` holds the messages
    that were decided together with the last writes and are not known to be published yet.
    """

    model_config = ConfigDict(extra="ignore")

    collection: ClassVar[str]
    resource: ClassVar[str]
    transitions: ClassVar[Transitions] = {}
    facts: ClassVar[tuple[str, ...]] = ()
    """Fields that every event about the record tells."""

    uuid: str
    org: str
    revision: int = 1
    created_at: AwareDatetime
    updated_at: AwareDatetime
    reason: str | None = None
    cause: str | None = None
    """Id of the command or request that asked for the newest change; its events name it, also those
    of what nobody asks for anew: a sweep, an observation. Not shown."""
    traceparent: str | None = None
    """Trace of the newest change that was asked for, as far as traces are recorded: what follows
    from it belongs there. Not shown."""
    request_hash: str | None = None
    """Of the request that made it: tells a repeat from a reused key. Not shown."""
    outbox: list[Message] = Field(default_factory=list)
    replayed: bool = Field(default=False, exclude=True)
    """True on the record of an earlier request that answers its repeat. Neither stored nor sent."""

    def __init_subclass__(cls, *, collection: str = "", resource: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if resource:
            cls.collection, cls.resource = collection, resource

    def event_facts(self) -> dict[str, Any]:
        """What every event about this record tells besides its id, organisation and revision."""
        return {name: getattr(self, name) for name in self.facts}


def every_record(root: type[Record] = Record) -> Iterator[type[Record]]:
    """The kinds of records that the program has loaded: what events can be about."""
    for kind in root.__subclasses__():
        if "resource" in vars(kind):
            yield kind
        yield from every_record(kind)


class StatefulRecord(Record):
    """A record whose `status` moves only along the transition table of its resource."""

    status: StrEnum
    status_since: datetime | None = None
