"""Chunks that agents send, checked and kept by workers, in the order in which they were sent."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from cachetools import TTLCache

from pipeline.adapters.store.documents import Document
from pipeline.adapters.store.log_chunks import LogChunks
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.logs.chunks import (
    SECOND_NS,
    LogBatch,
    LogOpened,
    LogOpening,
    LogPosition,
    SentChunk,
    StreamName,
)
from pipeline.records.kernel import Clock
from pipeline.settings import Settings
from schemas.container import Container

log = logging.getLogger(__name__)

KNOWN_S: Final = 10
"""How long what was read of a container is good for: of its organisation and node."""
STREAMS: Final[tuple[StreamName, ...]] = ("stdout", "stderr")


class _Run(NamedTuple):
    node: str
    container: str
    engine_id: str


class LogIntake:
    """What an agent sends of a container counts while that is on its node, and of a run of which
    something came while it was."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._chunks = LogChunks(store)
        self._settings = settings
        self._clock = clock
        self._owners: TTLCache[_Run, str] = TTLCache(10_000, KNOWN_S)
        """Organisations by run."""

    async def open(self, node: str, opening: LogOpening) -> LogOpened:
        """Idempotent. Raises StoreUnavailable."""
        await self._chunks.open_session(node, opening.session)
        positions: dict[str, dict[StreamName, LogPosition]] = {}
        for engine_id in opening.engine_ids:
            positions[engine_id] = {}
            for stream in STREAMS:
                if end := await self._chunks.end(engine_id, stream):
                    place = LogPosition(time_ns=end[0], offset=end[1])
                    positions[engine_id][stream] = place
        return LogOpened(positions=positions)

    async def take(self, node: str, batch: LogBatch, *, message: str) -> None:
        """Keep them. `message` names the message; idempotent. Raises StoreUnavailable."""
        if await self._chunks.session(node) != batch.session:
            log.warning("output of node %s from an agent that was succeeded is dropped", node)
            return
        documents = await self._documents(node, batch.chunks)
        if documents:
            first = await self._chunks.numbers(message, len(documents))
            for number, document in enumerate(documents, first):
                document["number"] = number
            await self._chunks.add(documents)

    async def _documents(self, node: str, chunks: list[SentChunk]) -> list[Document]:
        runs = {_Run(node, chunk.container, chunk.engine_id) for chunk in chunks}
        owners = {run: await self._owner(run) for run in runs}
        oldest = (self._clock().timestamp() - self._settings.log_max_age_s) * SECOND_NS
        documents = []
        for chunk in chunks:
            org = owners[_Run(node, chunk.container, chunk.engine_id)]
            if org is not None and chunk.begin.time_ns >= oldest:
                documents.append(_document(node, org, chunk))
        return documents

    async def _owner(self, run: _Run) -> str | None:
        """None of one that is not, and was not, on its node."""
        if org := self._owners.get(run):
            return org
        container = await self._store.find_by_id(Container, run.container, org=EVERY_ORG)
        if container is None or (
            container.node != run.node
            and not await self._chunks.is_known(run.node, run.container, run.engine_id)
        ):
            log.warning("output of %s is dropped: it is not on node %s", run.container, run.node)
            return None
        self._owners[run] = container.org
        return container.org


def _document(node: str, org: str, chunk: SentChunk) -> Document:
    return {
        "_id": chunk.id,
        "org": org,
        "container": chunk.container,
        "engine_id": chunk.engine_id,
        "node": node,
        "stream": chunk.stream,
        "time_ns": chunk.begin.time_ns,
        "offset": chunk.begin.offset,
        "end_ns": chunk.end.time_ns,
        "end_offset": chunk.end.offset,
        "text": chunk.text,
        "size": len(chunk.text.encode()),
    }
