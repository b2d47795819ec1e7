"""Whether tokens and users still stand, without asking the store for every request."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipeline.adapters.store import Store
from pipeline.core import records
from pipeline.errors import Unauthenticated
from schemas.access import Token, User

MAX_AGE: Final = timedelta(seconds=5)
"""How long a revocation by another process may go unnoticed."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    at: datetime
    revoked: frozenset[str]
    inactive: frozenset[str]


class Standing:
    """One short list per organisation of what is revoked, read anew when it is `MAX_AGE` old."""

    def __init__(self, store: Store, clock: records.Clock) -> None:
        self._store = store
        self._clock = clock
        self._snapshots: dict[str, _Snapshot] = {}
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._changes = 0

    async def require(self, org: str, tokens: Iterable[str], user: str | None) -> None:
        """Raises Unauthenticated with `reason` `revoked` or `user_inactive`; StoreUnavailable."""
        snapshot = await self._current(org)
        if not snapshot.revoked.isdisjoint(tokens):
            raise Unauthenticated("The token was revoked: log in again.", reason="revoked")
        if user in snapshot.inactive:
            raise Unauthenticated("The account is disabled.", reason="user_inactive")

    def forget(self, org: str) -> None:
        """Something changed in this process: notice it with the next request."""
        self._changes += 1
        self._snapshots.pop(org, None)

    async def _current(self, org: str) -> _Snapshot:
        if (snapshot := self._fresh(org)) is not None:
            return snapshot
        # Of many requests that find it old, one reads and the others wait for that.
        async with self._loading[org]:
            if (snapshot := self._fresh(org)) is not None:
                return snapshot
            changes = self._changes
            snapshot = await self._load(org)
            if changes == self._changes:
                self._snapshots[org] = snapshot
            return snapshot

    def _fresh(self, org: str) -> _Snapshot | None:
        snapshot = self._snapshots.get(org)
        if snapshot and timedelta(0) <= self._clock() - snapshot.at < MAX_AGE:
            return snapshot
        return None

    async def _load(self, org: str) -> _Snapshot:
        at = self._clock()
        ended = {"revoked_at": {"$ne": None}, "expires_at": {"$gt": at - MAX_AGE * 2}}
        signed = {"kind": {"$in": ["jwt", "session"]}}
        revoked, inactive = await asyncio.gather(
            self._store.find(Token, org=org, where=ended | signed, sort=()),
            self._store.find(User, org=org, where={"active": False}, sort=()),
        )
        return _Snapshot(
            at,
            frozenset(token.uuid for token in revoked),
            frozenset(user.uuid for user in inactive),
        )
