"""From a TAR on disk to an image that is READY, against the plainest way into the same registry.

    MIB=256 python -m tests.bench.bench_ingest

The floor is `curl -T` of the same bytes as one blob. Every other way that people have is measured
beside it. `MIB` is the size (1024), `ROUNDS` how often the first comparison is made (3),
`LARGE_MIB` the size of one more archive that only the memory of the server is looked at for (8192).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench.rows import COMPARISON, Row, keep
from tests.bench.yard import BenchYard, bench_yard
from tests.support.archives.large_archives import write_large_archive

MIB = int(os.environ.get("MIB", "1024"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
LARGE_MIB = int(os.environ.get("LARGE_MIB", "8192"))
AT_ONCE = 4
GROWTH_MAX_MIB = 64
READ = 1024 * 1024


class Bench:
    def __init__(self, yard: BenchYard, folder: Path, token: str) -> None:
        self.yard = yard
        self.folder = folder
        self.archive = folder / "large.tar"
        self.token = token
        self.url = f"http://127.0.0.1:{yard.api.port}"

    async def floor(self) -> float:
        """`curl -T` of the archive as one blob."""
        digest = await asyncio.to_thread(sha256, self.archive)
        start = f"http://{self.yard.registry}/v2/floor/blob/blobs/uploads/"
        begun = await self.yard.system.http.post(start)
        where = f"http://{self.yard.registry}{begun.headers['location']}&digest={digest}"
        return await timed(self.curl, self.archive, where, "PUT", "application/octet-stream")

    async def ours(self, archive: Path | None = None) -> float:
        url = f"{self.url}/yard/v1/images"
        return await timed(self.curl, archive or self.archive, url, "POST", "application/x-tar")

    async def together(self) -> float:
        archives = [self.folder / f"part-{number}.tar" for number in range(AT_ONCE)]
        for number, archive in enumerate(archives):
            tag = f"bench/part{number}:1"
            write_large_archive(archive, MIB * 2**20 // AT_ONCE, tag=tag)
        await self.settle()
        began = time.perf_counter()
        await asyncio.gather(*(self.ours(archive) for archive in archives))
        taken = time.perf_counter() - began
        for archive in archives:
            archive.unlink()
        return taken

    async def cli(self) -> float:
        env = os.environ | {
            "MODELYARD_URL": self.url,
            "MODELYARD_TOKEN": self.token,
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        command = (sys.executable, "-m", "cli.main", "images", "push", str(self.archive))
        return await timed(run, *command, env=env)

    async def skopeo(self) -> float:
        to = f"docker://{self.yard.registry}/other/skopeo:1"
        source = f"docker-archive:{self.archive}"
        return await timed(run, "skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, to)

    async def docker(self) -> float:
        host = ("docker", "-H", self.yard.system.docker_host)
        name = f"{self.yard.registry}/other/docker:1"

        async def load_and_push() -> None:
            await run(*host, "load", "--quiet", "-i", str(self.archive))
            await run(*host, "tag", "bench/large:1", name)
            await run(*host, "push", "--quiet", name)

        return await timed(load_and_push)

    async def curl(self, archive: Path, url: str, method: str, content_type: str) -> None:
        await run(
            "curl", "-sS", "--fail-with-body", "-o", os.devnull, "-X", method, "-T", str(archive),
            "-H", f"Content-Type: {content_type}", "-H", f"Authorization: Bearer {self.token}",
            "-H", "Expect:", url,
        )  # fmt: skip

    async def settle(self) -> None:
        """An empty registry, and nothing that waits to be written."""
        registry = self.yard.registry_piece
        # It remembers what it had: to remove files under it is not enough.
        await registry.stop()
        shutil.rmtree(registry.folder / "data")
        await registry.start()
        await asyncio.to_thread(os.sync)

    def reset_peak(self) -> float:
        """MiB that the server has now; its peak counts from here."""
        Path(f"/proc/{self.yard.api.pid}/clear_refs").write_text("5")
        return self.memory("VmRSS")

    def memory(self, name: str) -> float:
        status = Path(f"/proc/{self.yard.api.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith(name)]
        return int(line.split()[1]) / 1024


async def main() -> None:
    async with bench_yard() as yard:
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-ingest-") as folder:
            asked = {"name": "bench", "role": "member"}
            answer = await yard.system.call(yard.api, "POST", "/tokens", json=asked)
            bench = Bench(yard, Path(folder), answer.json()["token"])
            write_large_archive(bench.archive, MIB * 2**20)
            keep("ingest", await measured(bench))


async def measured(bench: Bench) -> list[Row]:
    pairs, growth = [], 0.0
    for _ in range(ROUNDS):
        await bench.settle()
        floor = await bench.floor()
        await bench.settle()
        before = bench.reset_peak()
        pairs.append((await bench.ours(), floor))
        growth = max(growth, bench.memory("VmHWM") - before)
        print(f"  ours {pairs[-1][0]:.2f} s, floor {floor:.2f} s, growth {growth:.0f} MiB")
    ours, floor = sorted(pairs, key=lambda pair: pair[0] / pair[1])[ROUNDS // 2]
    one = statistics.median(pair[0] for pair in pairs)
    together = await bench.together()
    await bench.settle()
    first, again = await bench.cli(), await bench.cli()
    rows = [
        row("TAR → READY", ours, "curl -T as one blob", floor, 1.15),
        row("the same TAR again by the command", again, "the first time", first, 0.1),
        memory_row(MIB, growth),
        Row(
            f"bandwidth of {AT_ONCE} at once",
            f"{MIB / together:.0f} MiB/s",
            f"of one: {MIB / one:.0f} MiB/s",
            one / together,
            "≥ 0.9",
            one / together >= 0.9,
        ),
    ]
    rows += await others(bench, ours, floor)
    return [*rows, memory_row(LARGE_MIB, await large(bench))]


async def large(bench: Bench) -> float:
    """MiB by which the server grows while it takes in the large archive."""
    bench.archive.unlink()
    await bench.settle()
    write_large_archive(bench.archive, LARGE_MIB * 2**20)
    before = bench.reset_peak()
    await bench.ours()
    return bench.memory("VmHWM") - before


async def others(bench: Bench, ours: float, floor: float) -> list[Row]:
    """What people do today, for comparison."""
    await bench.settle()
    rows = []
    began = time.perf_counter()
    await asyncio.to_thread(sha256, bench.archive)
    hashed = time.perf_counter() - began
    rows.append(row("TAR → READY", ours, "reading and hashing once", hashed, None))
    docker = await bench.docker()
    rows.append(row("TAR → READY", ours, "docker load and push", docker, 0.15))
    rows.append(row("curl -T as one blob", floor, "docker load and push", docker, None))
    rows.append(row("TAR → READY", ours, "skopeo copy", await bench.skopeo(), None))
    return rows


def memory_row(mib: int, growth: float) -> Row:
    return Row(
        f"memory of the server for {mib} MiB",
        f"+{growth:.0f} MiB",
        "before",
        growth / GROWTH_MAX_MIB,
        f"≤ {GROWTH_MAX_MIB} MiB",
        growth <= GROWTH_MAX_MIB,
    )


def row(what: str, mine: float, whose: str, theirs: float, most: float | None) -> Row:
    ratio = mine / theirs
    size = f"{what}, {MIB} MiB"
    target = COMPARISON if most is None else f"≤ {most}"
    met = most is None or ratio <= most
    return Row(size, f"{mine:.2f} s", f"{whose}: {theirs:.2f} s", ratio, target, met)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


async def timed(work: Callable[..., Awaitable[None]], *given: object, **named: object) -> float:
    began = time.perf_counter()
    await work(*given, **named)
    return time.perf_counter() - began


async def run(*command: str, env: dict[str, str] | None = None) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, f"{command[:3]}: {said.decode()[-500:]}"


if __name__ == "__main__":
    asyncio.run(main())
