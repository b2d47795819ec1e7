"""Registry secrets of an organisation: kept sealed, used by name, never shown.

Store and caller never lock. Whoever refers to a secret takes a hold, inserts his record and lets
go; whoever deletes it counts references and writes only if no hold is alive and none came and went
meanwhile.
"""

from __future__ import annotations

import builtins
import json
import logging
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import Conflict, Misconfigured, NotFound, StoreUnavailable, YardError
from pipeline.ports import Credentials
from pipeline.records.idempotency import id_for, new_id
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.secrets import types as secret_types
from pipeline.secrets.rotation import Sealed
from pipeline.secrets.types import SecretDraft
from pipeline.secrets.vault import Vault
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.base import Record
from schemas.image import Image
from schemas.registries.registry import Registry
from schemas.registries.secret import LOGIN_REFUSED, Hold, Secret, SecretSummary, SecretType
from schemas.states import ImageStatus

log = logging.getLogger(__name__)

TOMBSTONE_AGE: Final = timedelta(hours=1)
PURGED_AT_ONCE: Final = 10
LOOKED_AT: Final = 3
LIVING: Final[Mapping[str, Any]] = {"deleted_at": None}
LISTED: Final[Mapping[str, Any]] = {**LIVING, "is_listed": {"$ne": False}}
HOLD: Final = timedelta(seconds=30)
"""After which the holder is taken for dead."""
REFERRERS: Final[Mapping[type[Record], Mapping[str, Any]]] = {
    Image: {"status": {"$ne": ImageStatus.DELETED.value}},
    Registry: {"deleted": False},
}
"""Kinds of records that refer to a secret, and which of them count."""
NAMED: Final = 5
"""Of each kind; whoever deletes these is told of more."""


def _sealed(secret: Secret) -> Mapping[str, str]:
    return {"sealed": secret.sealed} if secret.sealed else {}


SEALED: Final = Sealed(Secret, _sealed, "sealed")


class Secrets:
    """Every call acts for one organisation; a secret is named by its uuid or by its name."""

    def __init__(self, records: Records, settings: Settings) -> None:
        self._records = records
        self._store = records.store
        self._clock = records.clock
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

        Idempotent per `key`. Raises InvalidInput (`faults`: see `types.parse`), AlreadyExists,
        Misconfigured, KeyReused, and Conflict when the secret of the key was deleted.
        """
        draft = secret_types.parse(name, secret_type, data, servers=self._servers)
        id = id_for(caller.org, Secret.resource, key)
        secret = Secret(
            **self._records.initial(caller.org, id),
            name=draft.name,
            secret_type=draft.secret_type,
            server=draft.credentials.server,
            sealed=self._vault.seal(_plain(draft.credentials), org=caller.org, record=id),
            is_listed=is_listed,
            created_by=caller.id,
        )
        send = [event("created", secret_type=secret.secret_type)]
        if is_listed:
            send.append(command("check"))
        secret = await self._records.insert_once(
            secret,
            send,
            actor=caller.id,
            taken=f"There is a secret {draft.name} already: choose another name.",
            is_same=partial(self._is_same, draft),
        )
        return await self._summarised(secret) if secret.replayed else _summary(secret, 0)

    async def get(self, caller: Principal, wanted: str) -> SecretSummary:
        """One that is listed. Raises NotFound."""
        return await self._summarised(await self._find(caller.org, wanted, LISTED))

    async def list(self, caller: Principal) -> builtins.list[SecretSummary]:
        """All that are listed, newest first."""
        found = await self._store.find(Secret, org=caller.org, where=LISTED)
        return [await self._summarised(secret) for secret in found]

    async def names(self, org: str, ids: Collection[str]) -> dict[str, str]:
        """Of those that are listed, by uuid."""
        if not ids:
            return {}
        listed = {"_id": {"$in": list(ids)}, **LISTED}
        found = await self._store.find(Secret, org=org, where=listed, sort=())
        return {secret.uuid: secret.name for secret in found}

    async def delete(self, caller: Principal, wanted: str) -> None:
        """Of one that is listed the values are gone at once.

        Raises NotFound, and Conflict while something uses it.
        """

        async def decide(secret: Secret, at: datetime) -> Change:
            if secret.deleted_at is not None:
                raise _missing(wanted)
            await _refuse_while_used(self._store, secret, at)
            return _emptied(secret, at)

        secret = await self._find(caller.org, wanted, LISTED)
        await self._records.amend(secret, decide, actor=caller.id)
        await self._purge(caller.org)

    async def discard(self, caller: Principal, uuid: str) -> None:
        """One that is not listed, by the owner of the record that it was made for.

        Its values are gone at once, whatever still names it. Idempotent.
        """

        def decide(secret: Secret, at: datetime) -> Change | None:
            return None if secret.deleted_at is not None else _emptied(secret, at)

        unlisted = {"_id": uuid, "is_listed": False, **LIVING}
        secret = await self._store.find_one(Secret, org=caller.org, where=unlisted)
        if secret is not None:
            await self._records.amend(secret, decide, actor=caller.id)
            await self._purge(caller.org)

    @asynccontextmanager
    async def held(self, org: str, wanted: str) -> AsyncIterator[Secret]:
        """Nobody deletes the secret in here: insert the record that refers to it inside.

        Raises NotFound. The hold ends by itself after a while, should the process die.
        """
        found = await self._find(org, wanted)
        hold = Hold(id=new_id(), until=self._clock() + HOLD)
        taken = {"$push": {"holds": hold.model_dump()}, "$inc": {"times_held": 1}}
        secret = await self._store.update(Secret, found.uuid, org=org, guard=LIVING, update=taken)
        if secret is None:
            raise _missing(found.name)
        try:
            yield secret
        finally:
            await self._release(secret, hold)

    async def credentials_for(self, org: str, wanted: str, host: str) -> Credentials | None:
        """None when the secret is for another server than `host[:port]`.

        Raises NotFound, InvalidReference, and Misconfigured when no key opens it.
        """
        secret = await self._find(org, wanted)
        if secret_types.registry_server(host) != secret.server:
            return None
        values = json.loads(self._vault.open(secret.sealed, org=org, record=secret.uuid))
        return Credentials(secret.server, values["username"], values["password"])

    async def require_opened(self) -> None:
        """Raises Misconfigured when no key of ours opens any of the newest secrets there are.

        One that is damaged, or was left behind by a lost key, says nothing about the others.
        """
        sealed = {"sealed": {"$ne": ""}, **LIVING}
        newest = await self._store.find(Secret, org=EVERY_ORG, where=sealed, limit=LOOKED_AT)
        failures = []
        for secret in newest:
            try:
                self._vault.open(secret.sealed, org=secret.org, record=secret.uuid)
            except Misconfigured as error:
                failures.append(error)
        if newest and len(failures) == len(newest):
            raise failures[0]

    async def blamed(self, org: str, wanted: str, host: str, error: YardError) -> YardError:
        """`error`, by which the server `host[:port]` denied something, with what that has to do
        with the secret. `facts["is_login"]`: it did not take the credentials."""
        secret = await self._find(org, wanted)
        server = secret_types.registry_server(host)
        is_refused = error.facts.get("is_login") or (
            secret.login is not None and secret.login.code == LOGIN_REFUSED
        )
        if server != secret.server:
            named = f"The secret {secret.name} is for {secret.server} and was not used."
            message = f"{error.message} {named}"
        elif is_refused:
            message = f"{server} refuses the secret {secret.name}: delete it and enter it anew."
        else:
            message = f"{error.message} It was asked with the secret {secret.name}."
        return type(error)(message, **error.facts)

    async def _release(self, secret: Secret, hold: Hold) -> None:
        update = {"$pull": {"holds": {"id": hold.id}}}
        try:
            await self._store.update(Secret, secret.uuid, org=secret.org, guard={}, update=update)
        except StoreUnavailable:
            # What was done under it is done; the hold runs out by itself.
            log.warning("the hold on secret %s could not be released", secret.uuid)

    def _is_same(self, draft: SecretDraft, earlier: Secret) -> bool:
        """Raises Conflict when the secret of the key was deleted."""
        if earlier.deleted_at is not None:
            raise Conflict("The secret of this key was deleted: send a new key.")
        asked = (draft.name, draft.secret_type, draft.credentials.server, _plain(draft.credentials))
        plain = self._vault.open(earlier.sealed, org=earlier.org, record=earlier.uuid)
        return asked == (earlier.name, earlier.secret_type, earlier.server, plain)

    async def _find(self, org: str, wanted: str, which: Mapping[str, Any] = LIVING) -> Secret:
        id = _uuid(wanted)
        for named in (*([{"_id": id}] if id else []), {"name": wanted}):
            if found := await self._store.find_one(Secret, org=org, where={**named, **which}):
                return found
        raise _missing(wanted)

    async def _summarised(self, secret: Secret) -> SecretSummary:
        count = await count_references(self._store, secret.org, secret.uuid)
        return _summary(secret, count)

    async def _purge(self, org: str) -> None:
        old = self._clock() - TOMBSTONE_AGE
        where = {"deleted_at": {"$lt": old}, "outbox": []}
        for secret in await self._store.find(
            Secret, org=org, where=where, sort=(), limit=PURGED_AT_ONCE
        ):
            await self._store.delete(Secret, secret.uuid, org=org)


def _emptied(secret: Secret, at: datetime) -> Change:
    """Of what is deleted. Whoever held it since it was read may refer to it: then it fails."""
    # The event has to be kept until it is sent, so the record goes later than its content.
    values = {"sealed": "", "name": f"deleted:{secret.uuid}", "deleted_at": at}
    deleted = event("deleted", name=secret.name)
    return Change(values, send=[deleted], guard={"times_held": secret.times_held, **LIVING})


def _plain(credentials: Credentials) -> str:
    return json.dumps({"username": credentials.username, "password": credentials.password})


def _summary(secret: Secret, references: int) -> SecretSummary:
    shown = secret.model_dump(include=set(SecretSummary.model_fields))
    return SecretSummary(**shown, reference_count=references, replayed=secret.replayed)


def _uuid(text: str) -> str | None:
    """Canonical, from any spelling of a UUID."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _missing(wanted: str) -> NotFound:
    return NotFound(f"There is no secret {wanted[:255]}.")


async def _refuse_while_used(store: Store, secret: Secret, at: datetime) -> None:
    """For a secret just read; the guard of `_emptied` holds what comes after. Raises Conflict."""
    users = await _users(store, secret)
    if users or any(hold.until > at for hold in secret.holds):
        named = ", ".join(users) or "something that is being made just now"
        raise Conflict(
            f"The secret {secret.name} is in use: delete what uses it first ({named}).",
            reference_count=await count_references(store, secret.org, secret.uuid),
        )


async def _users(store: Store, secret: Secret) -> list[str]:
    """The newest of each kind, in words."""
    users = []
    for kind, living in REFERRERS.items():
        where = {"secret": secret.uuid, **living}
        found = await store.find(kind, org=secret.org, where=where, limit=NAMED + 1)
        users += [f"{kind.resource} {_name(record)}" for record in found[:NAMED]]
        users += ["and others"] if len(found) > NAMED else []
    return users


def _name(record: Record) -> str:
    facts = record.event_facts()
    return str(facts["name"] or facts["id"])


async def count_references(store: Store, org: str, secret: str) -> int:
    counts = [
        await store.count(kind, org=org, where={"secret": secret, **living})
        for kind, living in REFERRERS.items()
    ]
    return sum(counts)
