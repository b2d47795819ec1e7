"""Registry credentials of an organisation. Values are ciphertext here and nowhere plain at rest."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime, Field
from pydantic.json_schema import SkipJsonSchema

from schemas.base import Record, Shape
from schemas.image import Finding

LOGIN_REFUSED = "login_refused"
"""The code of the finding that a server did not take the credentials."""


class SecretType(StrEnum):
    DOCKER_HUB = "docker_hub"
    DEPOT = "depot"
    NVIDIA = "nvidiadockersecret"
    REGISTRY = "registry"


class Hold(Shape):
    """Somebody is about to refer to the secret: until then it is not deleted."""

    id: str
    until: AwareDatetime


class Secret(Record, collection="secrets", resource="secret"):
    """`name` is unique within the organisation; a deleted one has given up its name and values."""

    facts: ClassVar = ("name",)

    name: str
    secret_type: SecretType
    server: str
    """`host[:port]` that the credentials are for; they go nowhere else."""
    sealed: str = Field(repr=False)
    """The values, encrypted (`pipeline.secrets.vault`), with the id of the key inside."""
    is_listed: bool = True
    """False for what came with one delivery of an image and is of no use to anything else."""
    created_by: str | None = None
    login: Finding | None = None
    """What a first try of the credentials found; None before it."""
    holds: list[Hold] = Field(default_factory=list)
    times_held: int = 0
    """Counts holds, so that a deletion notices one that came and went."""
    deleted_at: datetime | None = None


class SecretSummary(Shape):
    """What may be shown of a secret."""

    uuid: str
    name: str
    secret_type: SecretType
    server: str
    org: str
    reference_count: int
    """Undeleted images and registry entries that use it."""
    login: Finding | None = None
    """Whether its server took the credentials when they were new."""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    replayed: SkipJsonSchema[bool] = Field(default=False, exclude=True)
    """True in the answer to a repeat. Not sent."""
