"""What others may ask of an agent while it runs: output of its containers, commands, files of runs.

The asking side is `pipeline.containers.agent_requests`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.agent.exec import Exec
from pipeline.agent.reconciler import EngineReconciler
from pipeline.containers import file_archives
from pipeline.containers.agent_requests import (
    EXEC,
    GET,
    HELD,
    LOGS,
    PUT,
    GetOutputs,
    HeldRequest,
    LogRequest,
    PutInputs,
    too_large,
)
from pipeline.errors import ContainerMissing
from pipeline.ports import EngineContainer, LogLine
from schemas.model import ModelFile

PIECE_BYTES: Final = 256 * 1024


class ContainerIO:
    """Only containers of this node and installation are touched."""

    def __init__(self, reconciler: EngineReconciler, store: Store) -> None:
        self._reconciler = reconciler
        self._engine = reconciler.engine
        self._store = store

    @property
    def services(self) -> dict[str, Callable[[bytes], AsyncIterator[bytes]]]:
        """What answers one request, by the name under which it is asked for."""
        return {
            LOGS: self.logs,
            EXEC: Exec(self._reconciler).run,
            HELD: self.held,
            PUT: self.put_inputs,
            GET: self.get_outputs,
        }

    async def logs(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `LogRequest`."""
        request = LogRequest.model_validate_json(payload)
        seen = await self._find(request.container)
        lines = self._engine.logs(
            seen.id, tail=request.tail, since=request.since, follow=request.follow
        )
        async with aclosing(lines):
            async for line in lines:
                yield _encode(line)

    async def held(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `HeldRequest`: `true` or `false`."""
        request = HeldRequest.model_validate_json(payload)
        yield b"false" if await self._engine.inspect(request.name) is None else b"true"

    async def put_inputs(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `PutInputs`: nothing but its end."""
        request = PutInputs.model_validate_json(payload)
        seen = await self._find(request.container)
        files = {}
        for uuid in request.files:
            file = await self._store.get(ModelFile, uuid, org=EVERY_ORG)
            files[file.name] = file.content
        archive = file_archives.input_archive(files)
        await self._engine.copy_in(seen.id, "/", _pieces(archive))
        yield b""

    async def get_outputs(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `GetOutputs`."""
        request = GetOutputs.model_validate_json(payload)
        seen = await self._find(request.container)
        sent = 0
        async with aclosing(self._engine.copy_out(seen.id, file_archives.OUTPUT)) as pieces:
            async for piece in pieces:
                sent += len(piece)
                if sent > request.max_bytes:
                    raise too_large(request.max_bytes)
                for start in range(0, len(piece), PIECE_BYTES):
                    yield piece[start : start + PIECE_BYTES]

    async def _find(self, uuid: str) -> EngineContainer:
        """Raises ForeignContainer."""
        seen = await self._reconciler.inspect(uuid)
        if seen is None:
            raise ContainerMissing(f"The container {uuid} is not on this engine.")
        return seen


async def _pieces(archive: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(archive), PIECE_BYTES):
        yield archive[start : start + PIECE_BYTES]


def _encode(line: LogLine) -> bytes:
    return json.dumps(
        {"stream": line.stream, "time": line.time.isoformat(), "text": line.text}
    ).encode()
