"""What a stack leaves outside its folder, and how it is taken back, also after a crash."""

from __future__ import annotations

import asyncio
import os
import signal

from pipeline.adapters.engine import DockerEngine
from pipeline.stack import dockerd, probes
from pipeline.stack.dockerd import DockerdPiece
from pipeline.stack.owner import Owner
from pipeline.stack.state import State

STOP_TIMEOUT_S = 120.0


async def clear(state: State) -> None:
    """Containers on a shared engine, the network of a private one. Idempotent.

    Raises EngineError when an engine that answers does not let go of a container.
    """
    run = state.run
    if run is not None and run.shared_engine:
        await _remove_containers(run.shared_engine, run.installation)
    if state.piece("dockerd").exists():
        await DockerdPiece(state.piece("dockerd"), log=state.log("dockerd")).clean()
    state.forget_run()


async def take_down(state: State) -> bool:
    """Stops what runs from this folder and clears up. False when nothing ran. Idempotent."""
    if not state.folder.exists():
        return False
    run = state.run
    ran = run is not None and run.supervisor.alive
    if run is not None and ran:
        await _end(run.supervisor)
    with state.held():
        await clear(state)
    return ran


async def _end(owner: Owner) -> None:
    """SIGTERM, then SIGKILL: its children cannot outlive it."""

    async def gone() -> bool:
        return not owner.alive

    os.kill(owner.pid, signal.SIGTERM)
    if not await probes.until(gone, timeout_s=STOP_TIMEOUT_S, every_s=0.05):
        os.kill(owner.pid, signal.SIGKILL)
        await probes.until(gone, timeout_s=10)


async def _remove_containers(docker_host: str, installation: str) -> None:
    if not await dockerd.answers(docker_host):
        return
    async with DockerEngine.open(docker_host) as engine:
        ours = await engine.list({"modelyard.installation": installation})
        await asyncio.gather(*(engine.remove(container.id) for container in ours))
