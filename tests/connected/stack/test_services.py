"""The services that all connected tests stand on."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from pipeline.stack.pieces import dockerd
from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import Piece
from tests.support.sources import ROOT
from tests.support.systems.services import sweep
from tests.support.waiting import eventually


@pytest.fixture(params=["own_nats", "own_mongod", "own_registry", "own_dockerd"])
def piece(request: pytest.FixtureRequest) -> Piece:
    found: Piece = request.getfixturevalue(request.param)
    return found


async def test_a_service_comes_back_at_the_same_place_after_sigkill(piece: Piece) -> None:
    await piece.kill()
    assert not piece.running
    await piece.start()
    assert await piece.ready()


CRASHING_RUN = """
import asyncio, os, signal
from tests.support.systems.services import Services

async def main():
    engine = Services().dockerd()
    await engine.start()
    print(engine.folder, engine.bridge.name, engine.run_folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_killed_run_left_is_swept_by_the_next_one() -> None:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASHING_RUN, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await run.communicate()
    folder, bridge, run_folder = said.decode().split()
    traces = [Path(folder), Path("/sys/class/net", bridge), Path(run_folder)]
    assert all(trace.exists() for trace in traces)
    await sweep()
    assert not any(trace.exists() for trace in traces)


async def test_a_paused_service_is_silent_until_it_is_resumed(own_registry: RegistryPiece) -> None:
    own_registry.pause()
    assert await probes.status("127.0.0.1", own_registry.port, "/v2/", timeout_s=0.2) is None
    own_registry.resume()
    assert await own_registry.ready()


async def test_an_engine_that_was_paused_answers_again(own_dockerd: DockerdPiece) -> None:
    own_dockerd.pause()
    path = Path(own_dockerd.host.removeprefix("unix://"))

    async def silent() -> bool:
        return await probes.status_on_socket(path, "/_ping", timeout_s=0.2) is None

    # The kernel stops the threads one by one: one of them may still answer a first question.
    await eventually(silent)
    own_dockerd.resume()
    assert await dockerd.answers(own_dockerd.host)


async def test_stores_and_brokers_ask_for_credentials(own_mongod: MongodPiece) -> None:
    stranger = f"mongodb://127.0.0.1:{own_mongod.port}/?directConnection=true"
    async with AsyncMongoClient[dict[str, str]](stranger) as client:
        with pytest.raises(OperationFailure, match="requires authentication"):
            await client.test.things.find_one()
