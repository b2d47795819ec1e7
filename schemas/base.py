"""The shapes that every other schema is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from schemas.message import Message

Transitions: TypeAlias = Mapping[StrEnum, frozenset[StrEnum]]

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
]
Labels: TypeAlias = dict[str, str]


class Shape(BaseModel):
    """A value inside a record or a request: closed, so that a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid")


class Record(BaseModel):
    """A document of the store.

    `revision` counts every write and is what guarded writes compare. `outbox` holds the messages
    that were decided together with the last writes and are not known to be published yet.
    """

    model_config = ConfigDict(extra="ignore")

    collection: ClassVar[str]
    resource: ClassVar[str]
    transitions: ClassVar[Transitions] = {}

    uuid: str
    org: str
    revision: int = 1
    created_at: AwareDatetime
    updated_at: AwareDatetime
    reason: str | None = None
    outbox: list[Message] = Field(default_factory=list)
    replayed: bool = Field(default=False, exclude=True)
    """True on the record of an earlier request that answers its repeat. Neither stored nor sent."""


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
