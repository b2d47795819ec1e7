"""Registry secrets of an organisation: kept sealed, used by name, never shown."""

from __future__ import annotations

import builtins
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from pipeline.adapters.store import Store
from pipeline.core import records, secret_holds, secret_references
from pipeline.core.outbox import Outbox
from pipeline.core.secret_holds import LIVING
from pipeline.core.secret_rotation import Rotation, rotate
from pipeline.errors import AlreadyExists, Conflict, KeyReused, LostRace, NotFound
from pipeline.ports import Credentials
from pipeline.rules import secret_types
from pipeline.rules.secret_types import SecretDraft
from pipeline.rules.vault import Vault
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.secret import Secret, SecretSummary, SecretType

TOMBSTONE_AGE: Final = timedelta(hours=1)
PURGED_AT_ONCE: Final = 10


class Secrets:
    """Every call acts for one organisation; a secret is named by its uuid or by its name."""

    def __init__(
        self, store: Store, outbox: Outbox, settings: Settings, clock: records.Clock
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._vault = Vault.from_setting(settings.encryption_keys.get_secret_value())
        self._servers = {
            SecretType.DOCKER_HUB: settings.docker_hub_registry,
            SecretType.DEPOT: settings.depot_registry,
        }

    async def create(
        self,
        caller: Principal,
        *,
        name: object,
        secret_type: object,
        data: object,
        is_listed: bool = True,
        key: str | None = None,
    ) -> SecretSummary:
        """One that is not listed belongs to the record that it was made for.

        Idempotent per `key`. Raises InvalidInput (`errors`: field → messages), AlreadyExists,
        Misconfigured, KeyReused, and Conflict when the secret of the key was deleted.
        """
        draft = secret_types.parse(name, secret_type, data, servers=self._servers)
        at, id = self._clock(), records.id_for(caller.org, Secret.resource, key)
        secret = Secret(
            uuid=id,
            org=caller.org,
            created_at=at,
            updated_at=at,
            name=draft.name,
            secret_type=draft.secret_type,
            server=draft.credentials.server,
            sealed=self._vault.seal(_plain(draft.credentials), org=caller.org, record=id),
            is_listed=is_listed,
            created_by=caller.id,
        )
        facts = {"name": secret.name, "secret_type": secret.secret_type}
        secret.outbox = [
            records.event(secret, "created", at=at, actor=caller.id, revision=1, **facts)
        ]
        if is_listed:
            secret.outbox.append(
                records.command(secret, "check", at=at, actor=caller.id, revision=1)
            )
        try:
            secret = await self._store.insert(secret)
        except AlreadyExists as taken:
            return await self._again(caller.org, id, draft, taken)
        await self._outbox.send(secret)
        return _summary(secret, 0)

    async def get(self, caller: Principal, wanted: str) -> SecretSummary:
        """Raises NotFound."""
        return await self._summarised(await self._find(caller.org, wanted))

    async def list(self, caller: Principal) -> builtins.list[SecretSummary]:
        """All that are listed, newest first."""
        listed = {"is_listed": {"$ne": False}, **LIVING}
        found = await self._store.find(Secret, org=caller.org, where=listed)
        return [await self._summarised(secret) for secret in found]

    async def delete(self, caller: Principal, wanted: str) -> None:
        """Its values are gone at once. Raises NotFound, and Conflict while something uses it."""
        while True:
            secret = await self._find(caller.org, wanted)
            await secret_holds.refuse_while_used(self._store, secret, self._clock())
            try:
                secret = await self._bury(secret, caller)
            except LostRace:
                # Somebody held it meanwhile and may refer to it now: look again.
                continue
            await self._outbox.send(secret)
            return await self._purge(caller.org)

    async def discard(self, caller: Principal, uuid: str) -> None:
        """One that is not listed, by the owner of the record that it was made for.

        Its values are gone at once, whatever still names it. Idempotent.
        """
        while True:
            unlisted = {"_id": uuid, "is_listed": False, **LIVING}
            secret = await self._store.find_one(Secret, org=caller.org, where=unlisted)
            if secret is None:
                return None
            try:
                secret = await self._bury(secret, caller)
            except LostRace:
                continue
            await self._outbox.send(secret)
            return await self._purge(caller.org)

    @asynccontextmanager
    async def held(self, org: str, wanted: str) -> AsyncIterator[Secret]:
        """Nobody deletes the secret in here: insert the record that refers to it inside.

        Raises NotFound. The hold ends by itself after a while, should the process die.
        """
        found = await self._find(org, wanted)
        async with secret_holds.held(self._store, found, self._clock()) as secret:
            yield secret

    async def credentials_for(self, org: str, wanted: str, host: str) -> Credentials | None:
        """None when the secret is for another server than `host[:port]`.

        Raises NotFound, InvalidReference, and Misconfigured when no key opens it.
        """
        secret = await self._find(org, wanted)
        if secret_types.registry_server(host) != secret.server:
            return None
        values = json.loads(self._vault.open(secret.sealed, org=org, record=secret.uuid))
        return Credentials(secret.server, values["username"], values["password"])

    async def rotate_keys(self) -> Rotation:
        """Seal everything anew with the first key; what is already sealed with it is skipped."""
        return await rotate(self._store, self._vault)

    async def _again(
        self, org: str, id: str, draft: SecretDraft, taken: AlreadyExists
    ) -> SecretSummary:
        earlier = await self._store.find_one(Secret, org=org, where={"_id": id})
        if earlier is None:
            raise AlreadyExists(
                "Secret with this name already exists for this organization.", **taken.facts
            ) from taken
        if earlier.deleted_at is not None:
            raise Conflict("The secret of this key was deleted: send a new key.")
        asked = (draft.name, draft.secret_type, draft.credentials.server, _plain(draft.credentials))
        plain = self._vault.open(earlier.sealed, org=earlier.org, record=earlier.uuid)
        if asked != (earlier.name, earlier.secret_type, earlier.server, plain):
            raise KeyReused("This key was used for another request: send a new key.")
        return (await self._summarised(earlier)).model_copy(update={"replayed": True})

    async def _find(self, org: str, wanted: str) -> Secret:
        id = _uuid(wanted)
        found = None
        if id is not None:
            found = await self._store.find_one(Secret, org=org, where={"_id": id, **LIVING})
        if found is None:
            found = await self._store.find_one(Secret, org=org, where={"name": wanted, **LIVING})
        if found is None:
            raise _missing(wanted)
        return found

    async def _summarised(self, secret: Secret) -> SecretSummary:
        count = await secret_references.count(self._store, secret.org, secret.uuid)
        return _summary(secret, count)

    async def _bury(self, secret: Secret, caller: Principal) -> Secret:
        at = self._clock()
        message = records.event(
            secret,
            "deleted",
            at=at,
            actor=caller.id,
            revision=secret.revision + 1,
            name=secret.name,
        )
        # The event has to be kept until it is sent, so the record goes later than its content.
        emptied = {"sealed": "", "name": f"deleted:{secret.uuid}", "deleted_at": at}
        guard = secret_holds.untouched(secret)
        return await self._store.change(secret, emptied, at=at, messages=[message], guard=guard)

    async def _purge(self, org: str) -> None:
        old = self._clock() - TOMBSTONE_AGE
        where = {"deleted_at": {"$lt": old}, "outbox": []}
        for secret in await self._store.find(
            Secret, org=org, where=where, sort=(), limit=PURGED_AT_ONCE
        ):
            await self._store.delete(Secret, secret.uuid, org=org)


def _plain(credentials: Credentials) -> str:
    return json.dumps({"username": credentials.username, "password": credentials.password})


def _summary(secret: Secret, references: int) -> SecretSummary:
    return SecretSummary(
        uuid=secret.uuid,
        name=secret.name,
        secret_type=secret.secret_type,
        server=secret.server,
        org=secret.org,
        reference_count=references,
        login=secret.login,
        created_at=secret.created_at,
        updated_at=secret.updated_at,
    )


def _uuid(text: str) -> str | None:
    """Canonical, from any spelling of a UUID."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _missing(wanted: str) -> NotFound:
    return NotFound(f"There is no secret {wanted[:255]}.")
