"""The registry that the stack runs: how its space is collected, and who wants it done now."""

from __future__ import annotations

import asyncio
from typing import Final

from pipeline import concurrency
from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict
from pipeline.own_registry.collection import LOOK_S
from pipeline.own_registry.fence import RegistryFence
from pipeline.settings import Settings
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes.piece import Supervisor
from pipeline.stack.state import State

ASKED_S: Final = 120.0
"""How long somebody waits for the collection that he asked for."""


async def ask(settings: Settings, state: State) -> int | None:
    """Have the running stack, or a worker of `docker compose`, give space back now; its bytes.

    None when images are pushed and it is done after them. Raises Conflict when no stack with a
    registry of its own runs, StoreUnavailable.
    """
    url = state.addresses.get("MODELYARD_MONGO_URL") if state.is_running else None
    if settings.registry_folder:
        url = settings.mongo_url
    elif url is None or not (state.piece("registry") / "registry.yml").exists():
        raise Conflict("No stack with a registry of its own runs here: `modelyard up` starts one.")
    assert url is not None
    async with Store.open(url, settings.mongo_database) as store:
        fence = RegistryFence(store, settings.org)
        at, end = fence.clock(), asyncio.get_running_loop().time() + ASKED_S
        await fence.note(asked_at=at)
        while asyncio.get_running_loop().time() < end:
            space = await fence.space()
            if space.collected_at is not None and space.collected_at >= at:
                return space.freed_bytes or 0
            await asyncio.sleep(LOOK_S / 4)
    return None


class SupervisedRegistry:
    """A `CollectableRegistry` that is started anew as it is needed."""

    def __init__(self, registry: RegistryPiece, supervisor: Supervisor) -> None:
        self.used_bytes = registry.used_bytes
        self._registry = registry
        self._supervisor = supervisor

    async def reclaimable(self) -> int:
        return await self._registry.collect(is_dry_run=True)

    async def collected(self) -> int:
        self._registry.is_read_only = True
        try:
            await self._supervisor.restart(self._registry)
            return await self._registry.collect(is_dry_run=False)
        finally:
            self._registry.is_read_only = False
            await concurrency.run_to_completion(self._supervisor.restart(self._registry))
