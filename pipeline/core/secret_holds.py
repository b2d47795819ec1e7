"""Keeps a secret from being deleted between the look at it and the record that refers to it.

Store and caller never lock. Whoever refers takes a hold, inserts his record and lets go; whoever
deletes counts references and writes only if no hold is alive and none came and went meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.adapters.store import Store
from pipeline.core import records, secret_references
from pipeline.errors import Conflict, NotFound, StoreUnavailable
from schemas.secret import Hold, Secret

log = logging.getLogger(__name__)

LIVING: Final[Mapping[str, Any]] = {"deleted_at": None}
HOLD: Final = timedelta(seconds=30)
"""After which the holder is taken for dead."""


@asynccontextmanager
async def held(store: Store, secret: Secret, at: datetime) -> AsyncIterator[Secret]:
    """Raises NotFound when it is gone by now."""
    hold = Hold(id=records.new_id(), until=at + HOLD)
    held = await store.update(
        Secret,
        secret.uuid,
        org=secret.org,
        guard=LIVING,
        update={"$push": {"holds": hold.model_dump()}, "$inc": {"times_held": 1}},
    )
    if held is None:
        raise NotFound(f"There is no secret {secret.name}.")
    try:
        yield held
    finally:
        await _release(store, held, hold)


async def refuse_while_used(store: Store, secret: Secret, at: datetime) -> None:
    """Call it with a secret just read, and then write on `untouched(secret)`. Raises Conflict."""
    count = await secret_references.count(store, secret.org, secret.uuid)
    if count or any(hold.until > at for hold in secret.holds):
        raise Conflict("Secret is in use and cannot be deleted.", reference_count=count)


def untouched(secret: Secret) -> dict[str, Any]:
    """The guard of a write that must fail when anybody held the secret since it was read."""
    return {"times_held": secret.times_held, **LIVING}


async def _release(store: Store, secret: Secret, hold: Hold) -> None:
    release = {"$pull": {"holds": {"id": hold.id}}}
    try:
        await store.update(Secret, secret.uuid, org=secret.org, guard={}, update=release)
    except StoreUnavailable:
        # What was done under it is done; the hold runs out by itself.
        log.warning("the hold on secret %s could not be released", secret.uuid)
