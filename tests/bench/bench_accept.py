"""Images accepted per second over HTTP, against the same two driver calls awaited in a loop.

python -m tests.bench.bench_accept

Accepted means: the record is stored and its command is in the stream. The worker is stopped, so
that only the acceptance is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import nats
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern

from tests.bench.rows import Row, keep
from tests.bench.yard import BenchYard, bench_yard

REQUESTS = 3000
CONNECTIONS = 16
ROUNDS = 3


async def posts_per_second(yard: BenchYard) -> float:
    """Over keep-alive connections with as little client as possible: it shares the cores."""
    head = (
        "POST /yard/v1/images HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: {yard.system.http.headers['Authorization']}\r\n"
    )
    left = iter(range(REQUESTS))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", yard.api.port)
        for number in left:
            body = json.dumps({"reference": f"{yard.registry}/bench/none:{number}"})
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 201 " in answer[:20] or b" 202 " in answer[:20], answer
            length = next(
                int(line.split(b":")[1])
                for line in answer.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return REQUESTS / (time.perf_counter() - began)


async def raw_per_second(yard: BenchYard, sample: dict[str, object]) -> float:
    """insert_one with the same durability, then a JetStream publish, one after the other."""
    settings = yard.system.settings
    mongo: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings["MONGO_URL"])
    images = mongo[settings["MONGO_DATABASE"]].get_collection(
        "images", write_concern=WriteConcern("majority", j=True)
    )
    broker = await nats.connect(settings["NATS_URL"])
    stream = broker.jetstream()
    began = time.perf_counter()
    for _ in range(REQUESTS // 3):
        id = str(uuid.uuid4())
        await images.insert_one({**sample, "_id": id})
        await stream.publish(
            "yard.cmd.default.image.validate",
            json.dumps({"id": id}).encode(),
            headers={"Nats-Msg-Id": id},
        )
    rate = REQUESTS // 3 / (time.perf_counter() - began)
    await broker.close()
    mongo.close()
    return rate


async def a_document(yard: BenchYard) -> dict[str, object]:
    await yard.system.image(yard.api, yard.image)
    mongo: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(
        yard.system.settings["MONGO_URL"]
    )
    found = await mongo[yard.system.database]["images"].find_one({})
    mongo.close()
    assert found is not None
    return {**found, "outbox": []}


async def main() -> None:
    async with bench_yard() as yard:
        sample = await a_document(yard)
        await yard.worker.stop()
        await yard.agent.stop()
        await posts_per_second(yard)
        pairs = [
            (await posts_per_second(yard), await raw_per_second(yard, sample))
            for _ in range(ROUNDS)
        ]
    mine, raw = sorted(pairs, key=lambda pair: pair[0] / pair[1])[ROUNDS // 2]
    ratio = mine / raw
    keep(
        "accept",
        [
            Row(
                f"POST accepted per second, {CONNECTIONS} connections",
                f"{mine:.0f}/s",
                f"insert + publish awaited in a loop: {raw:.0f}/s",
                ratio,
                "≥ 0.6",
                ratio >= 0.6,
            )
        ],
    )


if __name__ == "__main__":
    asyncio.run(main())
