"""Integers that are given out once, and sections that one process at a time may enter.

Both live in collections of what is no record. Every call may raise StoreUnavailable.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from pymongo import ReturnDocument

from pipeline.adapters.store.store import Store, asked
from pipeline.errors import AlreadyExists, Overloaded

COUNTERS: Final = "counters"
SECTIONS: Final = "sections"
HELD: Final = timedelta(seconds=30)
"""After which whoever is inside is taken for dead."""
WAIT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.02


async def next_number(store: Store, name: str, *, count: int = 1) -> int:
    """1, 2, … for each name; never the same twice. Of a `count` of them, the first.

    A number may be lost with whoever took it.
    """
    update = {"$inc": {"n": count}}
    taken = store.beside(COUNTERS).find_one_and_update(
        {"_id": name}, update, upsert=True, return_document=ReturnDocument.AFTER
    )
    return int((await asked(taken))["n"]) - count + 1


async def last_number(store: Store, name: str) -> int:
    """The one that was given out last; 0 before the first."""
    counted = await asked(store.beside(COUNTERS).find_one({"_id": name}))
    return int(counted["n"]) if counted else 0


@asynccontextmanager
async def alone(store: Store, name: str) -> AsyncIterator[None]:
    """Nobody else is in the section of this name, in no process. Raises Overloaded.

    For short work: after `HELD` others may come in.
    """
    holder = uuid.uuid4().hex
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                if await _entered(store, name, holder):
                    break
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError as error:
        raise Overloaded("Too many change this at the same time: try again.") from error
    try:
        yield
    finally:
        await asked(store.beside(SECTIONS).delete_one({"_id": name, "holder": holder}))


async def _entered(store: Store, name: str, holder: str) -> bool:
    at = datetime.now(UTC)
    free = {"_id": name, "until": {"$lt": at}}
    taken = {"$set": {"holder": holder, "until": at + HELD}}
    try:
        await asked(store.beside(SECTIONS).update_one(free, taken, upsert=True))
    except AlreadyExists:
        return False
    return True
