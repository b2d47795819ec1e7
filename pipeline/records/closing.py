"""Nothing is made in an organisation that is deleted, or about to be.

Who deletes one marks it, counts what it holds, and writes that it is deleted only if the mark is
there still. Who makes something in it inserts that first and looks then. So it is either counted,
or its maker sees the mark and takes it back.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.adapters.store.indexes import SOME_TIME
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import Conflict, StoreUnavailable
from pipeline.records.idempotency import new_id
from schemas.organisation import Closing, Organisation
from schemas.states import OrganisationStatus

log = logging.getLogger(__name__)

LONGEST: Final = timedelta(seconds=30)
"""After which who deletes is taken for dead. Should he live, his write fails by the mark."""
_DELETED: Final = OrganisationStatus.DELETED


@asynccontextmanager
async def closing(store: Store, organisation: Organisation, at: datetime) -> AsyncIterator[Closing]:
    """While open, nothing is made in it. What is written meanwhile is to be guarded with `kept`."""
    mark = Closing(id=new_id(), until=at + LONGEST)
    await _set(store, organisation, {"status": {"$ne": _DELETED.value}}, mark)
    try:
        yield mark
    finally:
        try:
            await _set(store, organisation, kept(mark), None)
        except StoreUnavailable:
            # What was done under it is done; the mark runs out by itself.
            log.warning("organisation %s could not be opened again", organisation.slug)


def kept(mark: Closing) -> dict[str, str]:
    """The guard that holds while nobody else marks the organisation, or took `mark` for dead."""
    return {"closing.id": mark.id}


async def require_open(store: Store, org: str, at: datetime) -> None:
    """After an insert. Raises Conflict. An organisation without a record is open."""
    marked = {"closing.until": {"$gt": SOME_TIME}}
    where = {"slug": org, "$or": [{"status": _DELETED.value}, marked]}
    while found := await store.find_one(Organisation, org=EVERY_ORG, where=where):
        if found.closing is None or found.status is _DELETED:
            raise Conflict(f"The organisation {org} was deleted.")
        if found.closing.until > at:
            raise Conflict(f"The organisation {org} is being deleted: look whether it is, first.")
        await _set(store, found, kept(found.closing), None)


async def _set(
    store: Store, organisation: Organisation, guard: Mapping[str, Any], mark: Closing | None
) -> None:
    value = mark and mark.model_dump()
    update = {"$set": {"closing": value}}
    await store.update(Organisation, organisation.uuid, org=EVERY_ORG, guard=guard, update=update)
