"""A registry directory of a million entries, and the processes that serve it."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from pipeline.adapters.store.documents import to_document
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.bootstrap.control_plane import open_services
from pipeline.settings import Settings
from pipeline.stack.pieces.app import ApiPiece, AppPiece
from schemas.registries.registry import Registry, RegistryHealth
from tests.support.http.api_process import environment, settings
from tests.support.systems.services import Services

ORG = "bench"
P = "container_registry_"
KINDS, MODELS, TEAMS = 10, 5_000, 1_000
"""Values of a tag that many entries have, of tags that few have, and of `metadata.team`."""
BATCH = 5_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NOT_NOW = timedelta(days=3650)


@dataclass
class Directory:
    entries: int
    settings: Settings
    yard: Yard
    """The product in this process."""
    api: ApiPiece
    folder: Path
    seeding_s: float
    indexing_s: float

    def worker(self) -> AppPiece:
        """Not started yet."""
        folder = self.folder / "worker"
        return AppPiece(
            "worker", "workers", folder, env=environment(self.settings), log=folder / "log"
        )


@asynccontextmanager
async def large_directory(entries: int) -> AsyncIterator[Directory]:
    """An API over it; no worker yet. The indexes are built by the product, after the entries."""
    services = Services()
    try:
        nats, mongod = services.nats(), services.mongod()
        await nats.start()
        await mongod.start()
        chosen = settings(nats.url, mongod.url, org=ORG)
        seeding_s = await asyncio.to_thread(_seed, chosen, entries)
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as name:
            async with open_services(chosen, name="bench") as yard:
                began = time.perf_counter()
                await yard.records.store.prepare()
                indexing_s = time.perf_counter() - began
                folder = Path(name)
                env = environment(chosen)
                api = ApiPiece(
                    folder / "api", port=chosen.api_port, env=env, log=folder / "api-log"
                )
                await api.start()
                try:
                    yield Directory(entries, chosen, yard, api, folder, seeding_s, indexing_s)
                finally:
                    await api.stop()
    finally:
        await services.stop()


def id_of(number: int) -> str:
    return f"r{number:07}"


def tags_of(number: int) -> list[str]:
    """Spread evenly, and each in no relation to the others and to the age."""
    return [kind(number % KINDS), model(number * 7919), model(number * 104_729 + 1)]


def kind(number: int) -> str:
    return f"kind-{number % KINDS}"


def model(number: int) -> str:
    return f"model-{number % MODELS}"


def team(number: int) -> str:
    return f"team-{number % TEAMS}"


def _seed(chosen: Settings, entries: int) -> float:
    began = time.perf_counter()
    with MongoClient[dict[str, Any]](chosen.mongo_url) as client:
        collection = client[chosen.mongo_database][Registry.collection]
        documents = _documents(entries)
        while batch := list(islice(documents, BATCH)):
            collection.insert_many(batch, ordered=False)
    return time.perf_counter() - began


def _documents(entries: int) -> Iterator[dict[str, Any]]:
    template = to_document(_registry())
    rng = random.Random(1)
    for number in range(entries):
        at = FIRST + timedelta(milliseconds=number)
        yield template | {
            "_id": f"00000000-0000-4000-8000-{number:012}",
            "created_at": at,
            "updated_at": at,
            "changed_at": at,
            "check_at": at + NOT_NOW,
            "id": id_of(number),
            "name": f"registry {number}",
            "tags": tags_of(number),
            "metadata": {
                "environment": rng.choice(("production", "staging", "test")),
                "team": team(rng.randrange(TEAMS)),
                "region": f"region-{rng.randrange(8)}",
            },
        }


def _registry() -> Registry:
    url = "http://10.13.21.22:32633"
    health = RegistryHealth(
        reachable=True, status_code=200, reason="OK", url=url, oci=True, checked_at=FIRST
    )
    return Registry(
        uuid="",
        org=ORG,
        created_at=FIRST,
        updated_at=FIRST,
        changed_at=FIRST,
        check_at=FIRST,
        host="10.13.21.22:32633",
        id="",
        public_url=url,
        image_prefix="10.13.21.22:32633",
        config={"auth_required": True, "storage_backend": "s3"},
        storage_info={"storage_type": "s3", "storage_size": -1},
        health=health,
    )
