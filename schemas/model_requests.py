"""What callers send about models. Unknown members are ignored; null means unchanged."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic.alias_generators import to_camel

from schemas.model import Activation

LONGEST_TIMEOUT_MS = 24 * 3600 * 1000
MOST = 2**31 - 1

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
FileName = Annotated[
    str, StringConstraints(max_length=120, pattern=r"^[^/\\\x00-\x1f\x7f]+$", strict=True)
]
Milliseconds = Annotated[int, Field(ge=1, le=LONGEST_TIMEOUT_MS)]
Count = Annotated[int, Field(ge=0, le=MOST)]


class Request(BaseModel):
    model_config = ConfigDict(
        extra="ignore", strict=True, alias_generator=to_camel, populate_by_name=True
    )


class NewModel(Request):
    name: Text
    version: str


class NewVersion(Request):
    version: str


class ModelPatch(Request):
    description: str | None = None
    tags: list[Text] | None = Field(default=None, max_length=1000)


class RequirementPatch(Request):
    requirement_id: int | None = None


class TimeoutPatch(Request):
    run: Milliseconds | None = None
    status: Milliseconds | None = None


class InputPatch(Request):
    name: FileName
    accepted_media_types: str | list[str] | None = None
    maximum_size: Count | None = None
    description: str | None = None


class OutputPatch(Request):
    name: FileName
    media_type: str | None = None
    maximum_size: Count | None = None
    description: str | None = None


class ProcessingPatch(Request):
    minimum_parallel_capacity: Count | None = None
    maximum_parallel_capacity: Count | None = None


class VersionPatch(Request):
    requirement: RequirementPatch | None = None
    timeout: TimeoutPatch | None = None
    inputs: list[InputPatch] | None = Field(default=None, max_length=100)
    outputs: list[OutputPatch] | None = Field(default=None, max_length=100)
    statistics: list[Any] | None = None
    processing: ProcessingPatch | None = None
    long_description: str | None = None
    technical_details: str | None = None
    performance_summary: str | None = None
    status: Annotated[Activation | None, Field(strict=False)] = None


class RegistryLink(Request):
    """Where an image lies. Without a user name it is asked for anonymously."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    username: Annotated[str, StringConstraints(max_length=1024)] | None = None
    password: SecretStr | None = None


class LinkDelivery(Request):
    registry: RegistryLink
