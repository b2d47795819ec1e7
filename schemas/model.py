"""Models and their versions: what a caller describes, delivers an image to and has proved."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from pydantic import Field

from schemas.base import Fault, Record, Shape

DEFAULT_REQUIREMENT: Final = 1
DEFAULT_TIMEOUT_MS: Final = 60_000
JSON_TYPE: Final = "application/json"
DEFAULT_INPUT: Final = "input"


class Activation(StrEnum):
    """How far a version has come, as callers see it."""

    PARTIAL = "partial"
    """Never activated."""
    ACTIVE = "active"
    INACTIVE = "inactive"
    """Was active; another image was delivered since, or somebody took it out of use."""


class Phase(StrEnum):
    """Of a load test or a trial run."""

    NONE = "none"
    """Never asked for since the image was delivered."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ModelInput(Shape):
    name: str
    """A file name: under it the input is put into the container."""
    accepted_media_types: str | list[str] = JSON_TYPE
    maximum_size: int = 1_000_000
    """Bytes."""
    description: str = ""


class ModelOutput(Shape):
    name: str
    """A file name: under it the model writes the output."""
    media_type: str = JSON_TYPE
    maximum_size: int = 1_000_000
    """Bytes."""
    description: str = ""


class Timeouts(Shape):
    run_ms: int = DEFAULT_TIMEOUT_MS
    """For one `POST /run`."""
    status_ms: int = DEFAULT_TIMEOUT_MS
    """From the start of the container to a good answer of `GET /status`."""


class Processing(Shape):
    minimum: int = 0
    maximum: int = 1
    """Containers that may run at once."""


class JobState(Shape):
    """How far something is that a worker does with a container of a version."""

    id: str | None = None
    """Its containers are found by that."""
    phase: Phase = Phase.NONE
    asked_by: str | None = None
    image: str | None = None
    """uuid of the image that it is about; with `requirement` and timeout, what it holds for."""
    requirement: int = DEFAULT_REQUIREMENT
    passed: bool | None = None
    """Decided before the container is removed, so that a killed worker's successor knows."""
    fault: Fault | None = None
    alive_at: datetime | None = None
    """Last sign of life of the worker that carries it out."""


class LoadTest(JobState):
    """The proof that a container of the image starts and answers."""

    timeout_ms: int = DEFAULT_TIMEOUT_MS
    step: int = 0
    """1: bringing the image to a node; 2: asking the container."""
    percentage: int = 0


class TrialRun(JobState):
    """One run with the test input."""

    step: int = 0
    """0 until the container answers, then 1 to 4."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    engine: str | None = None
    """Name of the node."""
    input_size: int = 0
    """Bytes of all inputs."""
    elapsed_ms: int = 0
    """Of `POST /run`."""


class Model(Record, collection="models", resource="model"):
    """`uuid` is the identifier: ten lower-case letters and digits."""

    facts: ClassVar = ("name",)

    name: str
    description: str = ""
    tags: list[str] = Field(default_factory=list)
    picture_description: str | None = None
    """Set when there is a picture."""
    created_by: str | None = None


class ModelVersion(Record, collection="model_versions", resource="model-version"):
    """`uuid` follows from model and version, so that a version exists once.

    How far a delivery is stands in the Image that it made; here is only which one counts.
    """

    model: str
    """Identifier of the model."""
    model_name: str
    version: str
    activation: Activation = Activation.PARTIAL
    requirement: int = DEFAULT_REQUIREMENT
    timeouts: Timeouts = Field(default_factory=Timeouts)
    inputs: list[ModelInput] = Field(default_factory=lambda: [ModelInput(name=DEFAULT_INPUT)])
    outputs: list[ModelOutput] = Field(default_factory=lambda: [ModelOutput(name="results.json")])
    statistics: str = "[]"
    """JSON text: whatever the caller finds worth telling."""
    processing: Processing = Field(default_factory=Processing)
    long_description: str = ""
    technical_details: str = ""
    performance_summary: str = ""
    image: str | None = None
    """uuid of the Image that the newest delivery made."""
    load: LoadTest = Field(default_factory=LoadTest)
    run: TrialRun = Field(default_factory=TrialRun)
    serving: str | None = None
    """Key of the deployment that answers calls; None before the first one, and after an image, a
    requirement or a shutdown took it out of use."""
    superseded: list[str] = Field(default_factory=list)
    """uuids of images that counted before and whose credentials may still be kept."""
    sample_input: str | None = None
    """JSON text, as are sample outputs."""
    sample_output: str | None = None
    created_by: str | None = None

    @property
    def is_loaded(self) -> bool:
        """The image that counts has passed its load test."""
        return self.load.phase is Phase.SUCCEEDED and self.load.image == self.image

    def event_facts(self) -> dict[str, Any]:
        return {
            "identifier": self.model,
            "version": self.version,
            "name": self.model_name,
            "status": self.activation.value,
        }


class FileKind(StrEnum):
    TEST_INPUT = "test-input"
    PICTURE = "picture"
    RESULT = "result"
    """What the last trial run gave, as JSON."""


class ModelFile(Record, collection="model_files", resource="model-file"):
    """A small file that belongs to a model or a version; replaced as a whole."""

    owner: str
    """uuid of the model or version."""
    kind: FileKind
    name: str
    media_type: str = "application/octet-stream"
    content: bytes = Field(repr=False)
