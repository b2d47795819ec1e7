"""Gives back what nothing refers to any more in the platform's registry.

The registry's own collection must not run while anybody pushes. Our own pushes are kept away by
the fence; meanwhile the registry serves pulls only, so that nobody else's push gets half in, nor
one of ours whose lease ran out. Each restart forgets which blobs it took for present.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from pipeline.errors import YardError
from pipeline.own_registry.fence import RegistryFence

LOOK_S: Final = 2.0
MEASURE: Final = timedelta(minutes=10)
BUSY_S: Final = 60.0
"""After a collection that did not come about, pushes go first for this long."""
REPOSITORIES: Final = "docker/registry/v2/repositories"
BLOBS: Final = "docker/registry/v2/blobs/sha256"
_ELIGIBLE = re.compile(r"^blob eligible for deletion: sha256:([0-9a-f]{64})$", re.MULTILINE)


class CollectableRegistry(Protocol):
    """Whoever can have its garbage collection run. Sizes are in bytes, of blobs."""

    async def reclaimable(self) -> int:
        """Of what no manifest refers to; those of a push under way are among them.

        Raises Conflict and Misconfigured, naming what went wrong.
        """
        ...

    async def collected(self) -> int:
        """Removes it, serving pulls only meanwhile, and returns what that gave back.

        Whatever ends this, the registry takes pushes again, and nothing is being removed any more.
        Raises as `reclaimable`.
        """
        ...

    def used_bytes(self) -> int:
        """Of all. Blocks."""
        ...


class RegistryCollector:
    """`report` is told what was given back, and once why nothing can be."""

    def __init__(
        self,
        registry: CollectableRegistry,
        fence: RegistryFence,
        *,
        every: timedelta,
        report: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._fence = fence
        self._every = every
        self._report = report
        self._told = ""

    async def run(self) -> None:
        """Measures and collects until cancelled."""
        while True:
            pause_s = LOOK_S
            try:
                await self.look()
            except YardError as error:
                if error.message != self._told:
                    self._report(f"the registry's space is not collected: {error.message}")
                self._told = error.message
                pause_s = BUSY_S
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """Do what is due. Raises what `collect` does."""
        space, at = await self._fence.space(), self._fence.clock()
        if space.measured_at is None or at - space.measured_at >= MEASURE:
            await self.measure()
            space = await self._fence.space()
        last = space.collected_at
        is_asked = space.asked_at is not None and (last is None or space.asked_at > last)
        is_time = at - (last or space.created_at) >= self._every
        if is_asked or (is_time and space.reclaimable_bytes):
            await self.collect()

    async def measure(self) -> int:
        """Notes what the registry holds. Returns what could be given back, in bytes."""
        reclaimable = await self._registry.reclaimable()
        used = await asyncio.to_thread(self._registry.used_bytes)
        at = self._fence.clock()
        await self._fence.note(used_bytes=used, reclaimable_bytes=reclaimable, measured_at=at)
        return reclaimable

    async def collect(self) -> int:
        """Returns the bytes that were given back. Killed at any moment, it can simply be repeated.

        Raises Conflict while pushes do not end, Misconfigured when the registry fails at it.
        """
        began, freed = self._fence.clock(), 0
        if await self.measure():
            async with self._fence.collecting():
                freed = await self._registry.collected()
            await self.measure()
            self._report(f"the registry gave back {freed // 2**20} MiB")
        await self._fence.note(collected_at=max(began, self._fence.clock()), freed_bytes=freed)
        return freed


def blob_sizes(data: Path) -> dict[str, int]:
    """SHA-256 in hexadecimal → bytes, of all blobs below the registry's folder. Blocks."""
    sizes = {}
    for blob in (data / BLOBS).glob("*/*/data"):
        with suppress(FileNotFoundError):
            sizes[blob.parent.name] = blob.stat().st_size
    return sizes


def reclaimed(told: str, sizes: Mapping[str, int]) -> int:
    """Bytes that `garbage-collect` speaks of."""
    return sum(sizes.get(found, 0) for found in _ELIGIBLE.findall(told))
