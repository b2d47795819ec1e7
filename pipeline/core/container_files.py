"""Files in and out of containers, by the agent of the node that runs them.

A request names what lies in the store, so that it stays small; outputs come back piece by piece.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from pydantic import Field

from pipeline.adapters.store import EVERY_ORG
from pipeline.errors import ContainerMissing, ForeignContainer, TooLarge
from pipeline.ports import Engine, EngineContainer
from pipeline.rules import launching, run_archives, topology
from pipeline.rules.launching import Site
from schemas.base import Shape
from schemas.container import Container
from schemas.model import ModelFile

if TYPE_CHECKING:
    from pipeline.adapters.bus import Bus
    from pipeline.adapters.store import Store

PUT: Final = "put-inputs"
GET: Final = "get-outputs"
IDLE_S: Final = 30
PIECE_BYTES: Final = 256 * 1024


class PutInputs(Shape):
    """Lay the files of a run into a container, and make the folder for its outputs."""

    container: str
    files: list[str] = Field(max_length=100)
    """uuids of ModelFile records."""


class GetOutputs(Shape):
    """Read the folder of a run's outputs."""

    container: str
    max_bytes: int = Field(ge=1)
    """Of the archive; more is an error."""


class ContainerFiles:
    """The asking side. Raises BusUnavailable when the agent does not answer, and EngineErrors."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put_inputs(self, container: Container, files: list[str]) -> None:
        request = PutInputs(container=container.uuid, files=files)
        async with aclosing(self._ask(container, PUT, request)) as pieces:
            async for _ in pieces:
                continue

    async def get_outputs(self, container: Container, *, max_bytes: int) -> bytes:
        """A TAR of the output folder. Raises TooLarge, PathMissing."""
        request = GetOutputs(container=container.uuid, max_bytes=max_bytes)
        archive = bytearray()
        async with aclosing(self._ask(container, GET, request)) as pieces:
            async for piece in pieces:
                archive += piece
                if len(archive) > max_bytes:
                    raise _too_large(max_bytes)
        return bytes(archive)

    async def _ask(
        self, container: Container, service: str, request: Shape
    ) -> AsyncGenerator[bytes]:
        if container.node is None:
            raise ContainerMissing(f"The container {container.name} is on no node.")
        pieces = self._bus.request_stream(
            topology.agent_service(container.node, service),
            request.model_dump_json().encode(),
            idle_s=IDLE_S,
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece


class FileService:
    """The agent's side: only containers of this node and installation are touched."""

    def __init__(self, engine: Engine, store: Store, site: Site) -> None:
        self._engine = engine
        self._store = store
        self._site = site

    async def put_inputs(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `PutInputs`: nothing but its end."""
        request = PutInputs.model_validate_json(payload)
        seen = await self._find(request.container)
        files = {}
        for uuid in request.files:
            file = await self._store.get(ModelFile, uuid, org=EVERY_ORG)
            files[file.name] = file.content
        archive = run_archives.input_archive(files)
        await self._engine.copy_in(seen.id, "/", _pieces(archive))
        yield b""

    async def get_outputs(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `GetOutputs`."""
        request = GetOutputs.model_validate_json(payload)
        seen = await self._find(request.container)
        sent = 0
        async with aclosing(self._engine.copy_out(seen.id, run_archives.OUTPUT)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                sent += len(piece)
                if sent > request.max_bytes:
                    raise _too_large(request.max_bytes)
                for start in range(0, len(piece), PIECE_BYTES):
                    yield piece[start : start + PIECE_BYTES]

    async def _find(self, uuid: str) -> EngineContainer:
        seen = await self._engine.inspect(launching.name_of(uuid, self._site.node))
        if seen is None:
            raise ContainerMissing(f"The container {uuid} is not on this engine.")
        if not self._site.owns(seen):
            raise ForeignContainer(f"The name {seen.name} is held by a container of somebody else.")
        return seen


async def _pieces(archive: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(archive), PIECE_BYTES):
        yield archive[start : start + PIECE_BYTES]


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The outputs have more than {max_bytes} bytes.")
