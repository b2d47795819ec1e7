"""Recognises API keys without asking the store for every request."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from pipeline.adapters.store import EVERY_ORG, Store
from pipeline.core import records
from pipeline.core.standing import MAX_AGE, Standing
from pipeline.errors import Unauthenticated
from pipeline.rules import api_keys
from schemas.access import Token

REMEMBERED: Final = 10_000


class ApiKeys:
    """Keeps what it has read for `standing.MAX_AGE`; of unknown keys it remembers nothing."""

    def __init__(self, store: Store, standing: Standing, clock: records.Clock) -> None:
        self._store = store
        self._standing = standing
        self._clock = clock
        self._read: OrderedDict[str, tuple[datetime, Token]] = OrderedDict()

    async def read(self, text: str) -> Token | None:
        """The token of an API key; None when `text` is something else.

        Raises Unauthenticated with `reason` `invalid`, `expired`, `revoked` or `user_inactive`.
        """
        parts = api_keys.read_api_key(text)
        if parts is None:
            return None
        token = await self._known(parts[0])
        # Compared also when there is no such token, so that ids cannot be probed.
        hashed = token.secret_hash if token else None
        if not api_keys.secret_matches(parts[1], hashed) or token is None:
            raise Unauthenticated("The API key is invalid.", reason="invalid")
        if token.revoked_at is not None:
            raise Unauthenticated("The API key was revoked.", reason="revoked")
        if token.expires_at is not None and self._clock() >= token.expires_at:
            raise Unauthenticated("The API key has expired.", reason="expired")
        await self._standing.require(token.org, (), token.user)
        return token

    async def _known(self, uuid: str) -> Token | None:
        now = self._clock()
        if uuid in self._read:
            at, token = self._read[uuid]
            if timedelta(0) <= now - at < MAX_AGE:
                return token
        found = await self._store.find_one(Token, org=EVERY_ORG, where={"_id": uuid})
        if found is not None:
            self._read[uuid] = (now, found)
            self._read.move_to_end(uuid)
        while len(self._read) > REMEMBERED:
            self._read.popitem(last=False)
        return found

    def forget(self, uuid: str) -> None:
        self._read.pop(uuid, None)
