"""Organisation: whose records, tokens, subjects and broker users something is."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from schemas.base import Shape, StatefulRecord, Transitions
from schemas.states import ORGANISATION_TRANSITIONS, OrganisationStatus

Slug = Annotated[
    str, StringConstraints(min_length=2, max_length=40, pattern=r"^[a-z][a-z0-9-]*[a-z0-9]$")
]
"""Of a new organisation. Earlier versions allowed whatever can stand in a subject."""
Title = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Quotas(Shape):
    """What an organisation may have at most; None is as much as there is."""

    gpus: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """Of containers that have not ended, whether they have a node yet or not."""
    containers: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """That have not ended."""
    archive_bytes: int | None = Field(default=None, ge=0, le=2**53)
    """Of archives as they were sent, of images that are not deleted."""


class Amounts(Shape):
    """Of what quotas limit."""

    gpus: int = 0
    containers: int = 0
    archive_bytes: int = 0


class QuotaHold(Shape):
    """Somebody makes a record that counts, unless `until` has passed: then his process died."""

    id: str
    record: str
    """uuid of the record that is being made."""
    until: AwareDatetime
    amounts: Amounts


class Closing(Shape):
    """Somebody who deletes it counts what it holds, unless `until` has passed."""

    id: str
    until: AwareDatetime


class OrganisationSpec(Shape):
    """What an administrator of the installation asks for."""

    slug: Slug
    """Names it in tokens, subjects and commands, for ever: nobody gets it after a deletion."""
    name: Title | None = None
    """None: its slug."""
    quotas: Quotas = Field(default_factory=Quotas)


class OrganisationEdit(Shape):
    """What is given is changed; quotas as a whole."""

    name: Title | None = None
    quotas: Quotas | None = None


class Organisation(StatefulRecord, collection="organisations", resource="organisation"):
    """ACTIVE → DELETED. Its record belongs to the organisation of the installation (`org`)."""

    transitions: ClassVar[Transitions] = ORGANISATION_TRANSITIONS
    facts: ClassVar = ("slug", "name", "status", "reason")

    status: OrganisationStatus = OrganisationStatus.ACTIVE
    slug: str
    """The `org` of all that is its own."""
    name: str
    quotas: Quotas = Field(default_factory=Quotas)
    holds: list[QuotaHold] = Field(default_factory=list)
    """Of its quotas. Not shown."""
    times_held: int = 0
    """Counts the holds there ever were. Not shown."""
    closing: Closing | None = None
    """Not shown."""
    created_by: str | None = None
