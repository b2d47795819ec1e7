"""What opens nothing any more, as the store says it: for those who admit callers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from pipeline.adapters.store.indexes import SOME_TIME
from pipeline.adapters.store.store import Org, Store
from schemas.access import Token, User


@dataclass(frozen=True, slots=True)
class Revoked:
    """Ids as tokens carry them."""

    tokens: frozenset[str]
    """Of tokens and sessions that would be good otherwise."""
    former: frozenset[str]
    """Whom users were before they got another role or password."""
    inactive: frozenset[str]
    """Whom users are and were that are disabled."""

    @property
    def all(self) -> frozenset[str]:
        return self.tokens | self.former | self.inactive


async def revoked(store: Store, org: Org, *, since: datetime) -> Revoked:
    """Tokens that expired before `since` are not named. Raises StoreUnavailable."""
    ended = {
        "expires_at": {"$gt": since},
        "revoked_at": {"$gt": SOME_TIME},
        "kind": {"$in": ["jwt", "session"]},
    }
    changed = {"$or": [{"active": False}, {"generation": {"$gt": 0}}]}
    tokens, users = await asyncio.gather(
        store.find(Token, org=org, where=ended, sort=()),
        store.find(User, org=org, where=changed, sort=()),
    )
    return Revoked(
        frozenset(token.uuid for token in tokens),
        frozenset(each for user in users if user.active for each in user.ended),
        frozenset(each for user in users if not user.active for each in user.holders),
    )
