"""A sign of life for whoever watches a worker, which listens on no port."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workers.sweeps import Sweep

if TYPE_CHECKING:
    from pipeline.adapters.bus import Bus
    from pipeline.adapters.store import Store

EVERY_S = 3


def signs(file: str, bus: Bus, store: Store) -> list[Sweep]:
    """Touches `file` for as long as this process can work; none when it is empty."""
    return [Sweep("alive", EVERY_S, partial(show, Path(file), bus, store))] if file else []


async def show(file: Path, bus: Bus, store: Store) -> None:
    """Raises BusUnavailable and StoreUnavailable, and then leaves the file as it is."""
    await bus.ping()
    await store.ping()
    file.touch()
