"""Exchange of the encryption key: whatever is sealed is sealed anew with the first one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import Misconfigured
from pipeline.secrets.vault import Vault
from schemas.base import Record

R = TypeVar("R", bound=Record)

AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Sealed(Generic[R]):
    """Where records of a kind keep what is sealed."""

    kind: type[R]
    texts: Callable[[R], Mapping[str, str]]
    """Stored path → sealed text."""
    field: str
    """The path that a query knows all of these texts by."""
    record: Callable[[R], str] = lambda record: record.uuid
    """The `record` that they were sealed for."""
    name: Callable[[R], str] = lambda record: record.uuid
    """How people call it."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What it came to."""

    resealed: int
    """Records."""
    unreadable: tuple[str, ...]
    """Names of records of which no configured key opens a text: it must be entered anew."""


class KeyRotation:
    """Safe to interrupt, to repeat, and to run while records are made, used, changed and deleted.

    What is sealed with the first key is skipped. Nobody sees a change: neither revision nor
    `updated_at` move. Who writes what is sealed from an older read of the record has to guard it.
    """

    def __init__(self, store: Store, vault: Vault, kinds: Collection[Sealed[Any]]) -> None:
        self._store = store
        self._vault = vault
        self._kinds = kinds

    async def run(self) -> Rotation:
        """Raises Misconfigured when there is no key, and StoreUnavailable."""
        resealed = 0
        unreadable: list[str] = []
        for sealed in self._kinds:
            after = ""
            while batch := await self._outdated(sealed, after):
                for record in batch:
                    try:
                        resealed += await self._reseal(sealed, record)
                    except Misconfigured:
                        unreadable.append(sealed.name(record))
                after = batch[-1].uuid
        return Rotation(resealed, tuple(unreadable))

    async def _outdated(self, sealed: Sealed[R], after: str) -> Sequence[R]:
        older = f"^(?!{re.escape(self._vault.current_prefix)})."
        where = {"_id": {"$gt": after}, sealed.field: {"$regex": older}}
        return await self._store.find(
            sealed.kind, org=EVERY_ORG, where=where, sort=[("_id", 1)], limit=AT_ONCE
        )

    async def _reseal(self, sealed: Sealed[R], record: R) -> bool:
        """False when nothing is left to do. Raises Misconfigured."""
        found: R | None = record
        while found is not None:
            before = dict(sealed.texts(found))
            after = {path: self._rotated(sealed, found, text) for path, text in before.items()}
            if after == before:
                return False
            if await self._store.update(
                sealed.kind, found.uuid, org=found.org, guard=before, update={"$set": after}
            ):
                return True
            # It was changed or deleted meanwhile.
            found = await self._store.find_by_id(sealed.kind, found.uuid, org=found.org)
        return False

    def _rotated(self, sealed: Sealed[R], record: R, text: str) -> str:
        return self._vault.rotate(text, org=record.org, record=sealed.record(record))
