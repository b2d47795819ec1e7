"""Placements per second, and how long one takes, with many simulated nodes and two workers.

python -m tests.bench.bench_placement [NODES ...] [--containers N] [--seconds S] [--budget S]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.documents import to_document
from pipeline.adapters.store.store import Store
from pipeline.errors import YardError
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox, command, event
from pipeline.stack.pieces.app import AppPiece
from schemas.container import Container, ContainerSpec
from schemas.image import Image
from schemas.node import Node
from schemas.states import ContainerStatus, ImageStatus
from tests.bench import simulated_nodes
from tests.bench.bench_idle import resident_mib
from tests.bench.rows import Row, keep
from tests.bench.yard import PRODUCTION
from tests.support import records as made
from tests.support.systems.services import Services
from tests.support.systems.system import KEY

ORG = "acme"
HOME = "default"
DATABASE = "bench"
DIGEST = f"sha256:{'a' * 64}"
WORKERS = 2
SIZES = (1,) * 16 + (2,) * 3 + (4,)
"""GPUs of the containers: 1.3 on average."""
AT_ONCE = 64
RATE = 100
SETTLE_S = 4.0
BUDGET_S = 170.0
"""Of the whole run, however slow the machine is: each number of nodes has its share of what is
left. What is not done by then does not count, and the rows say what was."""
ASKED, PLACED, CALLED = 0.3, 0.65, 0.9
"""Parts of a share by whose end all is asked for, placed, and placed at `RATE`."""


@dataclass
class Yard:
    store: Store
    records: Records
    bus: Bus
    image: Image
    workers: list[AppPiece]
    where: dict[str, str]
    mongo_url: str


@asynccontextmanager
async def a_yard(count: int) -> AsyncIterator[Yard]:
    """Store, broker and nodes that beat; no worker yet."""
    services = Services()
    nats, mongod = services.nats(), services.mongod()
    try:
        await nats.start()
        await mongod.start()
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
            async with (
                Store.open(mongod.url, DATABASE) as store,
                Bus.open(nats.url, name="bench") as bus,
                Outbox(store, bus) as outbox,
            ):
                await store.prepare()
                await bus.prepare()
                image = await store.insert(_image())
                await _insert(store, simulated_nodes.nodes(count, DIGEST, HOME))
                where = {
                    "MODELYARD_NATS_URL": nats.url,
                    "MODELYARD_MONGO_URL": mongod.url,
                    "MODELYARD_MONGO_DATABASE": DATABASE,
                    "MODELYARD_SIGNING_KEY": "s" * 40,
                    "MODELYARD_ENCRYPTION_KEYS": f"k1:{KEY}",
                    "MODELYARD_STATE": folder,
                    **{f"MODELYARD_{name}": value for name, value in PRODUCTION.items()},
                }
                yard = Yard(store, Records(store, outbox), bus, image, [], where, mongod.url)
                async with beating(mongod.url):
                    try:
                        yield yard
                    finally:
                        for piece in yard.workers:
                            await piece.stop()
    finally:
        await services.stop()


@asynccontextmanager
async def beating(url: str) -> AsyncIterator[None]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.simulated_nodes", url, DATABASE,
        PRODUCTION["HEARTBEAT_INTERVAL_S"],
    )  # fmt: skip
    try:
        yield
    finally:
        child.kill()
        await child.wait()


async def begin_work(yard: Yard) -> None:
    for number in range(WORKERS):
        folder = Path(yard.where["MODELYARD_STATE"], f"worker-{number}")
        piece = AppPiece("worker", "workers", folder, env=yard.where, log=folder / "log")
        yard.workers.append(piece)
        await piece.start()


def _image() -> Image:
    return made.image(
        org=ORG,
        status=ImageStatus.READY,
        digest=DIGEST,
        pinned=f"registry.test/model@{DIGEST}",
        platform=made.AMD64,
    )


async def _insert(store: Store, nodes: list[Node]) -> None:
    for start in range(0, len(nodes), 500):
        documents = [to_document(node) for node in nodes[start : start + 500]]
        await store.beside(Node.collection).insert_many(documents)


async def request(yard: Yard, gpus: int) -> Container:
    """As a creation through the API leaves it."""
    uuid = new_id()
    container = Container(
        **yard.records.initial(ORG, uuid),
        name=f"c-{uuid}",
        spec=ContainerSpec(image=yard.image.uuid, gpus=gpus),
        spec_hash="0" * 64,
        image=yard.image.uuid,
        pull=str(yard.image.pinned),
    )
    return await yard.records.insert(container, [event("requested"), command("place")])


class Share:
    """Of the time of the run: what one number of nodes may take."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds

    def left_s(self, part: float) -> float:
        """Until so much of it is over; never negative."""
        return max(self._began + part * self._seconds - time.monotonic(), 0.0)


async def throughput(yard: Yard, count: int, share: Share) -> tuple[float, float]:
    """Placements per second of a backlog, first to last; MiB of the larger worker."""
    rng = random.Random(1)
    asked = 0
    while asked < count and share.left_s(ASKED):
        sizes = [rng.choice(SIZES) for _ in range(min(AT_ONCE, count - asked))]
        asked += sum(
            made is not None for made in await asyncio.gather(*(_asked(yard, s) for s in sizes))
        )
    await begin_work(yard)
    began, is_cut_off = time.monotonic(), True
    with suppress(TimeoutError):
        async with asyncio.timeout(share.left_s(PLACED)):
            while await _placed(yard) < asked:  # noqa: ASYNC110 - a bench looks
                await asyncio.sleep(0.5)
            is_cut_off = False
    took_s = time.monotonic() - began
    times = [each for _, each in await _times(yard)]
    print(f"{len(times)} of {asked} placed within {took_s:.0f} s", flush=True)
    memory = max(resident_mib(piece.pid or 0) for piece in yard.workers)
    # A batch has one time: with only one placed there is nothing between first and last.
    if times and not is_cut_off:
        took_s = (times[-1] - times[0]).total_seconds()
    return max(len(times) - 1, 0) / max(took_s, 0.001), memory


async def latency(yard: Yard, seconds: float, share: Share) -> list[float]:
    """Milliseconds from request to placement, sorted, at `RATE` a second."""
    seconds = max(min(seconds, share.left_s(CALLED) - SETTLE_S), 1)
    since = yard.records.clock()
    await asyncio.sleep(SETTLE_S)
    asked = []
    began = time.monotonic()
    for number in range(int(RATE * seconds)):
        await asyncio.sleep(max(began + number / RATE - time.monotonic(), 0))
        asked.append(asyncio.create_task(_asked(yard, 1)))
    made_ = [each for each in await asyncio.gather(*asked) if each is not None]
    mine = {each.uuid for each in made_}
    found: list[tuple[str, datetime]] = []
    while len(found) < len(mine) and share.left_s(CALLED):
        await asyncio.sleep(0.5)
        found = [each for each in await _times(yard, since) if each[0] in mine]
    created = {each.uuid: each.created_at for each in made_}
    took = [(at - created[uuid]).total_seconds() * 1000 for uuid, at in found]
    # What could not even be asked for was not placed in time, either.
    return sorted(took) + [float("inf")] * (len(asked) - len(found))


async def _asked(yard: Yard, gpus: int) -> Container | None:
    """None when a store or broker that is overloaded did not take it."""
    try:
        return await request(yard, gpus)
    except YardError as error:
        print(error.message, flush=True)
        return None


async def _placed(yard: Yard) -> int:
    where = {"status": ContainerStatus.PLACED.value}
    return await yard.store._collection(Container).count_documents(where)


async def _times(yard: Yard, since: datetime | None = None) -> list[tuple[str, datetime]]:
    where: dict[str, Any] = {"status": ContainerStatus.PLACED.value}
    if since:
        where["status_since"] = {"$gte": since}
    found = yard.store._collection(Container).find(where, {"status_since": 1})
    return sorted([(each["_id"], each["status_since"]) async for each in found], key=lambda e: e[1])


async def require_sound(yard: Yard) -> None:
    """No GPU twice, and nodes and containers say the same."""
    held: dict[str, str] = {}
    async for node in yard.store._collection(Node).find({}, {"held": 1}):
        assert not held.keys() & node["held"].keys()
        held |= node["held"]
    claimed: dict[str, str] = {}
    where = {"status": ContainerStatus.PLACED.value}
    async for each in yard.store._collection(Container).find(where, {"gpus": 1}):
        for gpu in each["gpus"]:
            assert claimed.setdefault(gpu, each["_id"]) == each["_id"], f"{gpu} is given twice"
    assert held == claimed, "what is leased is not what containers have"


async def measure(
    count: int, containers: int, seconds: float, budget_s: float
) -> tuple[float, float, float]:
    share = Share(budget_s)
    async with a_yard(count) as yard:
        rate, memory = await throughput(yard, containers, share)
        took = await latency(yard, seconds, share)
        for piece in yard.workers:
            await piece.stop()  # finishes what it began, so that nothing is leased and not placed
        await require_sound(yard)
    p99 = took[int(len(took) * 0.99)]
    print(f"{count} nodes: {rate:.0f}/s, p50 {took[len(took) // 2]:.0f} ms, p99 {p99:.0f} ms,"
          f" worker {memory:.0f} MiB", flush=True)  # fmt: skip
    return rate, p99, memory


async def main(sizes: list[int], containers: int, seconds: float, budget_s: float) -> None:
    rows: list[Row] = []
    first, end = 0.0, time.monotonic() + budget_s
    for number, size in enumerate(sizes):
        share_s = (end - time.monotonic()) / (len(sizes) - number)
        rate, p99, memory = await measure(size, containers, seconds, share_s)
        if not number:
            first = rate
            rows.append(_least(f"{size} nodes, {containers} containers, placements/s", rate, 500))
        else:
            rows.append(_least(f"{size} nodes, placements/s", rate, max(0.7 * first, 1)))
        rows.append(_most(f"{size} nodes, {RATE} requests/s, p99 of one, ms", p99, 100))
        rows.append(_most(f"{size} nodes, memory of a worker, MiB", memory, 600))
    keep("placement", rows)


def _least(what: str, got: float, wanted: float) -> Row:
    return Row(what, f"{got:.0f}", f"{wanted:.0f}", got / wanted, "≥ 1", got >= wanted)


def _most(what: str, got: float, allowed: float) -> Row:
    return Row(what, f"{got:.0f}", f"{allowed:.0f}", got / allowed, "≤ 1", got <= allowed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("nodes", nargs="*", type=int, default=[1000, 10_000])
    parser.add_argument("--containers", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--budget", type=float, default=BUDGET_S)
    given = parser.parse_args()
    sizes = given.nodes or [1000, 10_000]
    asyncio.run(main(sizes, given.containers, given.seconds, given.budget))
