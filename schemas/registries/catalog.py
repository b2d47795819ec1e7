"""The catalogue of Docker images: its entries, and the rows of the tables that they refer to
(docs/docker-catalog.md)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field

from schemas.base import Record, Shape
from schemas.image import Finding


class TableName(StrEnum):
    CUDA = "cuda"
    FRAMEWORKS = "frameworks"
    HARDWARE = "hardware"
    DOMAINS = "domains"
    LICENCES = "licences"
    JOB_CONTRACTS = "job-contracts"
    JOB_TYPES = "job-types"


class CatalogRow(Record, collection="catalog_rows", resource="catalog-row"):
    """A row of a table; all organisations share the tables. `uuid` is `<table>-<pk>`.

    One that was deleted stays, so that loading the reference data again does not bring it back.
    """

    facts: ClassVar = ("table", "pk")

    table: TableName
    pk: int
    """Of one counter per table; never used again."""
    values: dict[str, Any]
    """By field: texts, numbers, lists of texts (`pipeline.catalog.tables`)."""
    claims: list[str] = Field(default_factory=list)
    """What no other row that is not deleted may have, as `<table> <field> <value>`."""
    origin: str | None = None
    """Which row of the reference data it was loaded from; None for one that somebody made."""
    edition: int = 1
    """Counts changes of `values`."""
    deleted: bool = False
    times_used: int = 0
    """How often an entry came to refer to it, ever: who deletes it sees whether one came
    meanwhile. Not shown."""


class ValidationStatus(StrEnum):
    PENDING = "PENDING"
    VALIDATING = "VALIDATING"
    READY = "READY"
    FAILED = "FAILED"


class CatalogValidation(Shape):
    """What a worker found out about the image of an entry."""

    status: ValidationStatus = ValidationStatus.PENDING
    code: str | None = None
    """Of a failure, for instance `registry_mismatch`."""
    detail: str | None = None
    digest: str | None = None
    findings: list[Finding] = Field(default_factory=list)
    checked_at: datetime | None = None
    edition: int | None = None
    """The edition of the entry that it is about; None before the first."""


class CatalogEntry(Record, collection="catalog_entries", resource="catalog"):
    """An image and what it requires. `uuid` is the decimal text of `pk`.

    What is deleted is removed as soon as its last event is sent.
    """

    facts: ClassVar = ("pk", "name", "version", "url")

    pk: int
    """Of one counter for all organisations; never used again."""
    name: str
    version: str
    url: str
    registry_url: str
    registry_username: str | None = None
    sealed_password: str | None = Field(default=None, repr=False)
    """Encrypted (`pipeline.secrets.vault`), with the id of the key inside."""
    cuda_version: int
    """This and the next ones: `pk` of a row."""
    framework: int
    domain: int
    tasks: list[int]
    """Job contracts, in ascending order, each once."""
    min_hardware_generation: int | None = None
    cpu: bool = False
    licence: int

    reference: str | None = None
    """`url` as an image reference, whole; None where it is none."""
    edition: int = 1
    """Counts changes of what callers write; `revision` counts every write."""
    changed_at: datetime
    validation: CatalogValidation = Field(default_factory=CatalogValidation)
    image: str | None = None
    """uuid of the Image that stands for it."""
    secret: str | None = None
    """uuid of the secret that its credentials became for the pulls of that image."""
    attempts: int = 0
    """At reaching its registry that came to nothing, of all editions."""
    retry_at: datetime | None = None
    """When the next one is due."""
    key: str | None = None
    """Of the command that made it: one that comes again finds it."""
    deleted: bool = False
    times_used: int = 0
    """How many containers and deployments were made of it, ever. Not shown."""
    created_by: str | None = None
