"""Seals stored secrets anew after the first encryption key has changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipeline.adapters.store import EVERY_ORG, Store
from pipeline.errors import Misconfigured
from pipeline.rules.vault import Vault
from schemas.secret import Secret

BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Rotation:
    resealed: int
    unreadable: tuple[str, ...]
    """uuids of secrets that no configured key opens: they must be entered anew."""


async def rotate(store: Store, vault: Vault) -> Rotation:
    """Safe to interrupt, to repeat, and to run while secrets are made, used and deleted.

    Raises Misconfigured when there is no key, and StoreUnavailable.
    """
    resealed, unreadable, after = 0, [], ""
    while batch := await _outdated(store, vault, after):
        for secret in batch:
            try:
                resealed += await _reseal(store, vault, secret)
            except Misconfigured:
                unreadable.append(secret.uuid)
        after = batch[-1].uuid
    return Rotation(resealed, tuple(unreadable))


async def _outdated(store: Store, vault: Vault, after: str) -> list[Secret]:
    current = re.escape(vault.current_prefix)
    where = {
        "_id": {"$gt": after},
        "deleted_at": None,
        "sealed": {"$not": {"$regex": f"^{current}"}},
    }
    return await store.find(Secret, org=EVERY_ORG, where=where, sort=[("_id", 1)], limit=BATCH)


async def _reseal(store: Store, vault: Vault, secret: Secret) -> bool:
    """False when it was deleted meanwhile. Not a change that the organisation sees."""
    sealed = vault.rotate(secret.sealed, org=secret.org, record=secret.uuid)
    guard = {"sealed": secret.sealed}
    update = {"$set": {"sealed": sealed}}
    return bool(await store.update(Secret, secret.uuid, org=secret.org, guard=guard, update=update))
