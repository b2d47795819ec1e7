"""From POST to RUNNING, against `docker run -d` of the same image on the same engine.

python -m tests.bench.bench_launch
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from tests.bench.rows import Row, keep
from tests.bench.yard import BenchYard, bench_yard

SINGLES = 25
AT_ONCE = 20
ROUNDS = 3


async def ours(yard: BenchYard) -> None:
    container = await yard.system.run(yard.api, yard.image, wait=60)
    assert container["status"] == "RUNNING", container


async def theirs(yard: BenchYard, image: str) -> None:
    command = ["docker", "-H", yard.system.docker_host, "run", "-d", "--label", "bench=1"]
    child = await asyncio.create_subprocess_exec(
        *command, "-p", "127.0.0.1::8080", image, stdout=asyncio.subprocess.PIPE
    )
    await child.communicate()
    assert child.returncode == 0


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def clear(yard: BenchYard) -> None:
    page = await yard.system.get(yard.api, "/containers?limit=100")
    paths = [f"/containers/{item['uuid']}" for item in page["items"]]
    for path in paths:
        await yard.system.call(yard.api, "DELETE", path, params={"wait": 30})
    script = (
        f"docker -H {yard.system.docker_host} ps -aq --filter label=bench=1"
        f" | xargs -r docker -H {yard.system.docker_host} rm -f >/dev/null"
    )
    await (await asyncio.create_subprocess_shell(script)).wait()


async def main() -> None:
    async with bench_yard() as yard:
        pulled = (await yard.system.image(yard.api, yard.image))["pinned"]
        await ours(yard)
        await theirs(yard, pulled)
        await clear(yard)
        single: tuple[list[float], list[float]] = ([], [])
        for _ in range(SINGLES):
            single[0].append(await timed(lambda: ours(yard)))
            single[1].append(await timed(lambda: theirs(yard, pulled)))
        await clear(yard)
        many: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            work = [lambda: ours(yard), lambda: theirs(yard, pulled)]
            for times, one in zip(many, work, strict=True):
                times.append(
                    await timed(lambda one=one: asyncio.gather(*(one() for _ in range(AT_ONCE))))
                )
                await clear(yard)
    keep("launch", [_single(*map(statistics.median, single)), _many(*map(statistics.median, many))])


def _single(mine: float, docker: float) -> Row:
    ratio = mine / docker
    return Row(
        "POST of a present image → RUNNING, median",
        f"{mine * 1000:.0f} ms",
        f"docker run -d: {docker * 1000:.0f} ms",
        ratio,
        "≤ 1.25",
        ratio <= 1.25,
    )


def _many(mine: float, docker: float) -> Row:
    ratio = mine / docker
    return Row(
        f"{AT_ONCE} at once, total",
        f"{mine:.2f} s",
        f"{AT_ONCE} docker run -d in parallel: {docker:.2f} s",
        ratio,
        "≤ 1.15",
        ratio <= 1.15,
    )


if __name__ == "__main__":
    asyncio.run(main())
