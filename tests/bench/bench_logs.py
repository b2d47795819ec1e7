"""10,000 lines a second from one container, and 50 containers that write: how soon all of it is
kept, against `docker logs -f` that reads the same.

python -m tests.bench.bench_logs
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from pipeline.adapters.store.log_chunks import CHUNKS
from pipeline.adapters.store.store import Store, asked
from tests.bench.rows import Row, keep
from tests.bench.yard import BenchYard, bench_yard

LINES: Final = 200_000
MANY: Final = 50
OF_MANY: Final = 2_000
BATCHES_S: Final = 20
"""Batches of 500 lines a second: 10,000 lines."""


def talks(lines: int) -> list[str]:
    """Each line 100 bytes, at 10,000 a second."""
    text = "x" * 91
    script = (
        f"i=0; while [ $i -lt {lines} ]; do i=$((i+1)); printf '%08d {text}\\n' $i;"
        f" [ $((i%500)) = 0 ] && usleep {10**6 // BATCHES_S}; done; sleep 3600"
    )
    return ["sh", "-c", script]


async def kept_bytes(store: Store, uuids: list[str]) -> int:
    stages = [
        {"$match": {"container": {"$in": uuids}}},
        {"$group": {"_id": None, "bytes": {"$sum": "$size"}}},
    ]
    found = await asked(store.beside(CHUNKS).aggregate(stages).to_list(None))
    return int(found[0]["bytes"]) if found else 0


async def docker_reads(yard: BenchYard, id: str, size: int) -> float:
    """Seconds until `docker logs -f` has told so many bytes."""
    began = time.perf_counter()
    command = ["docker", "-H", yard.system.docker_host, "logs", "-f", id]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    left = size
    while left > 0:
        piece = await child.stdout.read(65_536)
        assert piece, "it ended early"
        left -= len(piece)
    child.kill()
    await child.wait()
    return time.perf_counter() - began


async def until_kept(store: Store, uuids: list[str], size: int) -> float:
    began = time.perf_counter()
    while await kept_bytes(store, uuids) < size:  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.2)
    assert await kept_bytes(store, uuids) == size, "nothing twice"
    return time.perf_counter() - began


def memory_mib(pid: int) -> float:
    """The most that the process had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def measured(yard: BenchYard, store: Store, containers: int, lines: int) -> list[float]:
    """Seconds of ours and of docker's, from the start of the first container."""
    spec = {"entrypoint": talks(lines), "restart": "no"}
    runs = (yard.system.run(yard.api, yard.image, wait=120, **spec) for _ in range(containers))
    started = await asyncio.gather(*runs)
    uuids = [each["uuid"] for each in started]
    ids = [(await yard.system.engine_containers(uuid))[0].id for uuid in uuids]
    theirs = (docker_reads(yard, id, lines * 101) for id in ids)
    ours = until_kept(store, uuids, containers * lines * 101)
    ours_s, *theirs_s = await asyncio.gather(ours, *theirs)
    for uuid in uuids:
        await yard.system.call(yard.api, "DELETE", f"/containers/{uuid}", params={"wait": 30})
    return [ours_s, max(theirs_s)]


async def main() -> None:
    async with bench_yard() as yard:
        await yard.system.image(yard.api, yard.image)
        async with Store.open(yard.system.settings["MONGO_URL"], yard.system.database) as store:
            one = await measured(yard, store, 1, LINES)
            many = await measured(yard, store, MANY, OF_MANY)
        pid = yard.agent.pid
        assert pid is not None
        most = memory_mib(pid)
    keep(
        "logs",
        [
            _row("one container", LINES, one),
            _row(f"{MANY} containers", MANY * OF_MANY, many),
            _memory(most),
        ],
    )


def _row(who: str, lines: int, seconds: list[float]) -> Row:
    ours_s, docker_s = seconds
    ratio = ours_s / docker_s
    return Row(
        f"{lines:,} lines of {who} are kept",
        f"{lines / ours_s:,.0f} lines/s",
        f"docker logs -f: {lines / docker_s:,.0f} lines/s",
        ratio,
        "≤ 1.25",
        ratio <= 1.25,
    )


def _memory(most: float) -> Row:
    return Row(
        "memory of the agent, at most", f"{most:.0f} MiB", "150 MiB", most / 150, "≤ 1", most <= 150
    )


if __name__ == "__main__":
    asyncio.run(main())
