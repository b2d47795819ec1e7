"""What is asked of an engine that builds images, beside what `pipeline.ports` asks of every one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.ports import Credentials, Engine


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """An image to be made of a folder of this machine."""

    tag: str
    context: Path
    """Its `.dockerignore` counts. No link in it leads out of it."""
    dockerfile: str
    """The text, whatever the context holds."""
    scratch: Path
    """A folder for the packed context."""
    args: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str | None = None
    logins: Sequence[Credentials] = ()
    """For the registries of the base images."""
    memory_bytes: int = 0
    """Of one step; 0 is no limit, as for `cpus`."""
    cpus: float = 0
    context_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Remnant:
    """An image without a name, that nothing was made of."""

    id: str
    labels: Mapping[str, str]


class Builder(Protocol):
    """Raises EngineErrors."""

    def build(self, plan: BuildPlan) -> AsyncGenerator[str, None]:
        """What it says while it builds; at the end the image has its tag.

        Base images are asked for anew, and no step is taken from an earlier build: what others
        built is nobody's to use. Closing it ends the build and removes the containers of its steps;
        images of finished steps stay (`remnants`). Raises BuildFailed, TooLarge, DiskFull.
        """
        ...

    def save(self, reference: str) -> AsyncGenerator[bytes, None]:
        """An image as a TAR. Raises ImageMissing."""
        ...

    async def tags(self, repository: str) -> Sequence[str]:
        """Of the images on this engine that are called `repository:…`."""
        ...

    async def remnants(self, label: str) -> Sequence[Remnant]:
        """Those that carry the label; what came from a registry is none."""
        ...

    async def remove_image(self, reference: str) -> None:
        """The name, and with the last one the image and what it alone was made of. No-op when gone.

        Raises EngineError while a container has it.
        """
        ...


class BuildingEngine(Engine, Builder, Protocol):
    """One that runs containers and builds images."""
