"""A whole system of its own for a benchmark, gone when it ends."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.stack.pieces.app import ApiPiece, AppPiece
from pipeline.stack.pieces.registry import RegistryPiece
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.systems.services import Services
from tests.support.systems.system import System, a_system

PRODUCTION = {
    "SWEEP_INTERVAL_S": "5",
    "SWEEP_AGE_S": "5",
    "STUCK_AFTER_S": "60",
    "HEARTBEAT_INTERVAL_S": "5",
    "NODE_GRACE_S": "20",
    "RECONCILE_INTERVAL_S": "30",
}


@dataclass
class BenchYard:
    system: System
    api: ApiPiece
    worker: AppPiece
    agent: AppPiece
    registry: str
    registry_piece: RegistryPiece
    image: str
    """Reference of a tiny image in the registry that serves HTTP on 8080."""


@asynccontextmanager
async def bench_yard() -> AsyncIterator[BenchYard]:
    """Everything started and idle, with the waits of production."""
    services = Services()
    try:
        nats, mongod = services.nats(), services.mongod()
        registry, engine = services.registry(), services.dockerd()
        for piece in (nats, mongod, registry, engine):
            await piece.start()
        push(busybox_image(), registry.host, "bench/serves", "1")
        where = {
            "NATS_URL": nats.url,
            "MONGO_URL": mongod.url,
            "REGISTRY": registry.host,
            "DOCKER_HOST": engine.host,
        }
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
            async with a_system(Path(folder), random.Random(), **where, **PRODUCTION) as system:
                api = await system.api()
                worker, agent = await system.worker(), await system.agent()
                await system.login(api)
                await system.nodes(api)
                image = f"{registry.host}/bench/serves:1"
                yield BenchYard(system, api, worker, agent, registry.host, registry, image)
    finally:
        await services.stop()
