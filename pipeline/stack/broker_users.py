"""Users of our own broker: one for each organisation there is, also for those that come later."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import YardError
from pipeline.stack.pieces.nats import NatsPiece
from pipeline.stack.state import Keys, State
from schemas.organisation import Organisation
from schemas.states import OrganisationStatus

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0


class BrokerUsers:
    """Passwords are made once and kept among the keys of the stack."""

    def __init__(self, store: Store, nats: NatsPiece, state: State) -> None:
        self._store = store
        self._nats = nats
        self._state = state
        self._is_settled = True

    async def run(self) -> None:
        """Look until cancelled. While the store is away, everybody stays as he is."""
        while True:
            try:
                await self.look()
            except YardError as error:
                log.warning("users of the broker: %s", error.message)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Admit who is new, and turn away whose organisation is deleted. Idempotent.

        NATS 2.15 resolves what a new account imports before it knows that it is exported: what such
        an organisation publishes is taken in only from the second reading of the configuration on.
        """
        keys = Keys.model_validate_json(self._state.keys_file.read_text())
        found = await self._store.find(Organisation, org=EVERY_ORG, sort=())
        living = {each.slug for each in found if each.status is not OrganisationStatus.DELETED}
        gone = {each.slug for each in found} - living
        wanted = keys.with_orgs((keys.orgs.keys() | living) - gone)
        if wanted.orgs != keys.orgs:
            # Kept first: a password that the broker knows and nobody else is of no use.
            wanted.save(self._state.keys_file)
        if wanted.orgs != keys.orgs or not self._is_settled:
            self._nats.admit(wanted.orgs)
            self._is_settled = wanted.orgs == keys.orgs
