"""Nodes that exist only in the store, and heartbeats of theirs as their agents would write them.

python -m tests.bench.simulated_nodes MONGO_URL DATABASE INTERVAL_S
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from pipeline.agent.registration import node_id
from pipeline.records.kernel import now
from schemas.image import Platform
from schemas.node import Gpu, Inventory, Node

GPUS = 8
IMAGES = 20
THREADS = 4
STEP_S = 0.1
WHOLE = 6
"""Of so many heartbeats one writes all that the agent knows: once in a reconcile interval."""
GIB = 2**30


def nodes(count: int, image: str, org: str) -> list[Node]:
    """Half of them have the image `image` (a digest)."""
    return [_node(number, image, org) for number in range(count)]


def _node(number: int, image: str, org: str) -> Node:
    at, name = now(), f"node-{number:05}"
    others = [f"sha256:{other:064x}" for other in range(IMAGES)]
    return Node(
        uuid=node_id("bench", name),
        org=org,
        created_at=at,
        updated_at=at,
        status_since=at,
        name=name,
        address="127.0.0.1",
        inventory=_inventory(name),
        images=[*others, image] if number % 2 else others,
        last_heartbeat=at,
        agent_started_at=at,
    )


def _inventory(name: str) -> Inventory:
    return Inventory(
        engine_version="26.1.5",
        api_version="1.45",
        engine_id=name,
        platform=Platform(architecture="amd64"),
        cpus=128,
        memory_bytes=2048 * GIB,
        gpus=[
            Gpu(
                uuid=f"GPU-{name}-{index}-8f0e-4d0f-9d0e-5f1d3c2b1a09",
                index=index,
                model="NVIDIA H100 80GB HBM3",
                memory_bytes=80 * GIB,
                compute_capability="9.0",
                brand="nvidia",
                simulated=True,
            )
            for index in range(GPUS)
        ],
        driver="570.133.20",
        cuda="12.8",
        simulated=True,
    )


def beat(url: str, database: str, interval_s: float) -> None:
    """Until killed: each node once in the interval, spread evenly, read and written as by
    `pipeline.agent.registration`."""
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(url, w="majority", journal=True)
    codec: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
    found = client[database].get_collection("nodes", codec_options=codec)
    everyone = [(each["_id"], _kept(each)) for each in found.find()]
    for part in range(THREADS):
        mine = everyone[part::THREADS]
        threading.Thread(target=_beat, args=(found, mine, interval_s), daemon=True).start()
    threading.Event().wait()


def _kept(node: Mapping[str, Any]) -> dict[str, Any]:
    same = {
        name: node[name]
        for name in ("inventory", "images", "agent_started_at", "address", "labels")
    }
    return same | {"had": None}


def _beat(
    collection: Collection[Any], mine: Sequence[tuple[str, dict[str, Any]]], interval_s: float
) -> None:
    """Those that are due within `STEP_S` together: what many agents cost themselves is not
    measured, and would leave the machine no time for anything else."""
    began, beaten = time.monotonic(), 0
    while mine:
        time.sleep(STEP_S)
        due = int((time.monotonic() - began) * len(mine) / interval_s)
        turns = [divmod(turn, len(mine)) for turn in range(beaten, due)]
        beaten = due
        light = [mine[at] for round_, at in turns if (round_ + at) % WHOLE]
        whole = [mine[at] for round_, at in turns if not (round_ + at) % WHOLE]
        if whole:
            list(collection.find({"_id": {"$in": [uuid for uuid, _ in whole]}}))
        beats = [*(_light(*each) for each in light), *(_whole(*each) for each in whole)]
        if beats:
            collection.bulk_write(beats, ordered=False)


def _light(uuid: str, kept: Mapping[str, Any]) -> pymongo.UpdateOne:
    own = {"status": "READY", "agent_started_at": kept["agent_started_at"], "had": None}
    return pymongo.UpdateOne({"_id": uuid, **own}, {"$set": {"last_heartbeat": datetime.now(UTC)}})


def _whole(uuid: str, kept: dict[str, Any]) -> pymongo.UpdateOne:
    now = {"last_heartbeat": datetime.now(UTC)}
    return pymongo.UpdateOne({"_id": uuid, "status": "READY"}, {"$set": kept | now})


if __name__ == "__main__":
    beat(sys.argv[1], sys.argv[2], float(sys.argv[3]))
