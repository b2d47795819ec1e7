"""A worker as a process of its own: `python -m …systems.worker_process <NATS address>`.

Its one stage does what the message says and tells on standard output.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from pipeline.adapters.bus.client import Bus
from tests.support.systems.working import TRIAL
from workers.app import build, run
from workers.broker import YardBroker, stage

PLAN = replace(TRIAL, ack_wait_s=0.6, max_deliver=2)
DRAIN_S = 1.5
ROOT = Path(__file__).parents[3]


class Told(BaseModel):
    number: int
    sleep_s: float = 0
    die: bool = False


class WorkerProcess:
    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, line: str) -> None:
        """Wait for a line; the process must not end before it."""
        assert self.process.stdout
        async with asyncio.timeout(20):
            while line not in self.lines:
                told = (await self.process.stdout.readline()).decode()
                assert told, f"it ended without {line!r}: {self.lines}"
                self.lines.append(told.strip())

    async def ended(self) -> int:
        """The exit code; all lines are read then."""
        async with asyncio.timeout(20):
            rest, _ = await self.process.communicate()
        self.lines += rest.decode().splitlines()
        return self.process.returncode or 0


@asynccontextmanager
async def worker_process(nats_url: str) -> AsyncIterator[WorkerProcess]:
    """A running one; killed at the end when it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.systems.worker_process", nats_url,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    worker = WorkerProcess(process)
    try:
        await worker.until("ready")
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def register(broker: YardBroker) -> None:
    @stage(broker, PLAN)
    async def do_as_told(told: Told) -> None:
        print("begun", told.number, flush=True)
        if told.die:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(told.sleep_s)
        print("done", told.number, flush=True)


async def _say_ready() -> None:
    print("ready", flush=True)


async def main(nats_url: str) -> None:
    async with Bus.open(nats_url, name="worker") as bus:
        await bus.prepare()
        await bus.prepare_stage(PLAN)
        app = build(bus, [register], registry=CollectorRegistry(), drain_s=DRAIN_S)
        app.after_startup(_say_ready)
        await run(app)
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
