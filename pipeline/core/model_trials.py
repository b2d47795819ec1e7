"""One run of a model with files, however they get into its container and out again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from pipeline.adapters.http_guard import Limits, Reply
from pipeline.core.container_files import ContainerFiles
from pipeline.core.model_containers import ModelContainers
from pipeline.core.model_dialects import FileDialect
from pipeline.rules import run_archives
from schemas.container import Container
from schemas.model import ModelFile


class Trial(Protocol):
    """Its calls are made once each, in this order."""

    async def give(self) -> None: ...

    async def run(self, limits: Limits) -> Reply:
        """Raises RegistryUnavailable when there is no answer."""
        ...

    async def take(self, names: Collection[str], *, max_bytes: int) -> Mapping[str, bytes]:
        """Those of the outputs that are called so. Raises TooLarge, InvalidInput."""
        ...


def trial_of(
    containers: ModelContainers,
    copies: ContainerFiles,
    container: Container,
    inputs: Sequence[ModelFile],
) -> Trial:
    """As the model in `container` wants it."""
    dialect = containers.dialect(container)
    if isinstance(dialect, FileDialect):
        return _InMessages(containers, dialect, container, inputs)
    return _InFolders(containers, copies, container, inputs)


class _InFolders:
    """Inputs are laid into the container, and outputs are read from it."""

    def __init__(
        self,
        containers: ModelContainers,
        copies: ContainerFiles,
        container: Container,
        inputs: Sequence[ModelFile],
    ) -> None:
        self._containers = containers
        self._copies = copies
        self._container = container
        self._inputs = [each.uuid for each in inputs]

    async def give(self) -> None:
        await self._copies.put_inputs(self._container, self._inputs)

    async def run(self, limits: Limits) -> Reply:
        folders = {"input": run_archives.INPUT, "output": run_archives.OUTPUT}
        body = json.dumps({"type": "file", **folders}).encode()
        return await self._containers.ask(self._container, body, limits=limits)

    async def take(self, names: Collection[str], *, max_bytes: int) -> Mapping[str, bytes]:
        archive = await self._copies.get_outputs(self._container, max_bytes=max_bytes)
        return run_archives.read_outputs(archive, names)


class _InMessages:
    """Inputs and outputs are parts of request and reply."""

    def __init__(
        self,
        containers: ModelContainers,
        dialect: FileDialect,
        container: Container,
        inputs: Sequence[ModelFile],
    ) -> None:
        self._containers = containers
        self._dialect = dialect
        self._container = container
        self._inputs = {each.name: each.content for each in inputs}
        self._outputs: Mapping[str, bytes] = {}

    async def give(self) -> None:
        """They go with the request."""

    async def run(self, limits: Limits) -> Reply:
        address = await self._containers.address(self._container)
        reply, self._outputs = await self._dialect.exchange(address, self._inputs, limits=limits)
        return reply

    async def take(self, names: Collection[str], *, max_bytes: int) -> Mapping[str, bytes]:
        return {name: content for name, content in self._outputs.items() if name in names}
