"""What API, worker and agent cost while nothing happens.

python -m tests.bench.bench_idle
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.bench.rows import Row, keep
from tests.bench.yard import bench_yard

SETTLE_S = 10
WATCH_S = 30
MEMORY_MIB = 250
CPU_SHARE = 0.02


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no resident memory")


async def main() -> None:
    async with bench_yard() as yard:
        pids = [piece.pid for piece in (yard.api, yard.worker, yard.agent)]
        assert all(pids)
        await asyncio.sleep(SETTLE_S)
        before = sum(cpu_s(pid) for pid in pids if pid)
        await asyncio.sleep(WATCH_S)
        share = (sum(cpu_s(pid) for pid in pids if pid) - before) / WATCH_S
        memory = sum(resident_mib(pid) for pid in pids if pid)
    keep(
        "idle",
        [
            Row(
                "API + worker + agent, resident",
                f"{memory:.0f} MiB",
                f"{MEMORY_MIB} MiB",
                memory / MEMORY_MIB,
                "≤ 1",
                memory <= MEMORY_MIB,
            ),
            Row(
                "API + worker + agent, share of a core",
                f"{share:.2%}",
                f"{CPU_SHARE:.0%}",
                share / CPU_SHARE,
                "< 1",
                share < CPU_SHARE,
            ),
        ],
    )


if __name__ == "__main__":
    asyncio.run(main())
