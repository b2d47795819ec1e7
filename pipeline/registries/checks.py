"""Checks of registries: asked for or regular, carried out, recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.adapters.registry.client import RegistryClient
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.concurrency import KeyedLocks
from pipeline.errors import (
    AlreadyExists,
    InvalidInput,
    InvalidReference,
    Misconfigured,
    NotFound,
    YardError,
)
from pipeline.ports import Credentials
from pipeline.records.kernel import Change, Clock, Records
from pipeline.records.messages import Draft, command, event
from pipeline.registries import entries
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import RegistryCheck
from schemas.registries.registry import (
    Ask,
    ErrorKind,
    PingResult,
    Registry,
    RegistryHealth,
    RegistryHistory,
)

log = logging.getLogger(__name__)

ASKS_MAX: Final = 200
"""Of those who wait for a check, the newest are remembered by name."""
REMEMBERED: Final = 64
"""Commands that an entry knows again."""
KEPT: Final = 100
"""Of the checks of a registry."""
SPREAD: Final = 0.2
"""Of the wait, to both sides: registries that were entered together drift apart."""
SWEEPER: Final = "worker:registries"
BATCH: Final = 100
AT_ONCE: Final = 160
"""That many may hang, and a thousand are still checked within a minute. Those of one host wait for
each other within their time, which bounds this from above."""
RECORDED_AT_ONCE: Final = 16
"""Results that come in together wait for each other, not commands for them at the store."""
START_EVERY_S: Final = 0.005
"""Room for commands between the starts of two checks."""
LEASE: Final = timedelta(seconds=60)
"""How long no other sweep takes what one has begun."""


class RegistryChecks:
    """Whatever a registry does is a fact of its record, never a failure of the check."""

    def __init__(
        self,
        records: Records,
        probe: RegistryProbe,
        settings: Settings,
        *,
        jitter: Callable[[], float],
    ) -> None:
        self._records = records
        self._store = records.store
        self._probe = probe
        self._every_s = settings.registry_check_interval_s
        self._cap_s = settings.registry_check_backoff_max_s
        self._jitter = jitter
        self._locks = KeyedLocks()

    async def ask(self, caller: Principal, uuid: str) -> str:
        """Have a worker look; `answer` tells when it has. Returns the id of the ask.

        `uuid` is the record's. Raises NotFound, and Overloaded when too many ask.
        """

        def decide(registry: Registry, at: datetime) -> Change:
            if registry.deleted:
                raise missing(registry.id)
            ask = Ask(id=f"{uuid}.{registry.revision + 1}", actor=caller.id)
            return Change({"asked": joined(registry, ask)}, send=[check_order(registry, ask)])

        async with self._locks.of(uuid):
            registry = await self._store.get(Registry, uuid, org=caller.org)
            asked = await self._records.amend(registry, decide, actor=caller.id)
        return asked.asked[-1].id

    async def answer(self, caller: Principal, uuid: str, ask: str) -> RegistryHealth | None:
        """What a check found that began after `ask`; None while there is none.

        Raises NotFound when the entry is gone.
        """
        registry = await self._store.get(Registry, uuid, org=caller.org)
        if registry.deleted:
            raise missing(registry.id)
        if any(waiting.id == ask for waiting in registry.asked):
            return None
        return registry.health

    async def history(self, caller: Principal, uuid: str) -> list[RegistryHealth]:
        """The newest checks, newest first."""
        history = await self._store.find_by_id(RegistryHistory, uuid, org=caller.org)
        return history.checks[::-1] if history else []

    async def carry_out(self, caller: Principal, order: RegistryCheck, *, key: str) -> None:
        """Look at a registry and record what is found.

        Does nothing when an earlier check answered the order already, when the entry that it was
        given for is gone, or when the command came before (`key`). Raises NotFound.
        """
        where = {entries.ID: order.id, "deleted": False}
        registry = await self._store.find_one(Registry, org=caller.org, where=where)
        if registry is None and order.ask is not None:
            return
        if registry is None:
            raise missing(order.id)
        waiting = {ask.id: ask.actor for ask in registry.asked}
        is_answered = order.ask is not None and order.ask not in waiting
        if is_answered or key in registry.applied:
            return
        actor = waiting[order.ask] if order.ask else caller.id
        await self.check(registry, actor=actor, key=key)

    async def check(self, registry: Registry, *, actor: str, key: str | None = None) -> None:
        """Look, and record what is found. Raises StoreUnavailable and Overloaded."""
        await self.record(registry, await self._probe.look(registry), actor=actor, key=key)

    async def record(
        self, registry: Registry, health: RegistryHealth, *, actor: str, key: str | None = None
    ) -> None:
        """What a look at `registry`, as it was loaded before, has found.

        Nothing when the entry is gone, is by now another registry than was checked, or knows of a
        check that began later. Raises StoreUnavailable and Overloaded.
        """
        answered = frozenset(ask.id for ask in registry.asked)

        def decide(current: Registry, at: datetime) -> Change | None:
            if current.deleted or _target(current) != _target(registry):
                return None
            known = current.health
            if known is not None and known.checked_at > health.checked_at:
                return None
            values = self._values(current, health, at)
            values["asked"] = [ask for ask in current.asked if ask.id not in answered]
            values["applied"] = remembered(current, key)
            return Change(values, send=_news(known, health))

        with suppress(NotFound):
            # Most often nobody has changed it meanwhile, so that it need not be read again.
            noted = await self._records.amend(registry, decide, actor=actor)
            if noted.health == health:
                await self._remember(registry, health)

    async def sweep(self) -> None:
        """Look at everything that is due. Safe to run in several workers at once."""
        await self._store.carry_over(Registry)
        free, recording = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(RECORDED_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            async for registry in self._due():
                await free.acquire()
                task = group.create_task(self._check_quietly(registry, recording))
                task.add_done_callback(lambda _: free.release())
                await asyncio.sleep(START_EVERY_S)

    def _values(self, registry: Registry, health: RegistryHealth, at: datetime) -> dict[str, Any]:
        failures = 0 if health.reachable and health.oci else registry.failures + 1
        wait_s = next_check_s(
            failures, every_s=self._every_s, cap_s=self._cap_s, jitter=self._jitter()
        )
        return {
            entries.HEALTH: health,
            "failures": failures,
            "check_at": at + timedelta(seconds=wait_s),
        }

    async def _remember(self, registry: Registry, health: RegistryHealth) -> None:
        """The oldest of its last checks makes room."""
        if await self._pushed(registry, health):
            return
        first = self._records.initial(registry.org, registry.uuid)
        try:
            await self._store.insert(RegistryHistory(**first, checks=[health]))
        except AlreadyExists:
            # Somebody else made it meanwhile.
            await self._pushed(registry, health)

    async def _pushed(self, registry: Registry, health: RegistryHealth) -> bool:
        newest = {"$each": [health.model_dump()], "$slice": -KEPT}
        push = {"$push": {"checks": newest}}
        updated = await self._store.update(
            RegistryHistory, registry.uuid, org=registry.org, guard={}, update=push
        )
        return updated is not None

    async def _due(self) -> AsyncIterator[Registry]:
        """Those that this sweep has taken, the longest overdue first."""
        while True:
            where = {"deleted": False, "check_at": {"$lte": self._records.clock()}}
            found = await self._store.find(
                Registry, org=EVERY_ORG, where=where, sort=[("check_at", 1)], limit=BATCH
            )
            for registry in found:
                if taken := await self._taken(registry):
                    yield taken
            if len(found) < BATCH:
                return

    async def _taken(self, registry: Registry) -> Registry | None:
        return await self._store.update(
            Registry,
            registry.uuid,
            org=registry.org,
            guard={"check_at": registry.check_at, "deleted": False},
            update={"$set": {"check_at": self._records.clock() + LEASE}},
        )

    async def _check_quietly(self, registry: Registry, recording: asyncio.Semaphore) -> None:
        try:
            health = await self._probe.look(registry)
            async with recording:
                await self.record(registry, health, actor=SWEEPER)
        except YardError as error:
            # It is due again when the lease ends.
            log.warning("registry %s was not checked: %s", registry.uuid, error.message)
        except Exception:
            # In a group: it would end the checks of all others.
            log.exception("registry %s was not checked", registry.uuid)


def check_order(registry: Registry, ask: Ask) -> Draft:
    """The order to look at a registry for `ask`, which belongs into the record by the same write:
    a worker believes the note, not the order."""
    return command("health", id=registry.id, ask=ask.id)


def joined(registry: Registry, ask: Ask) -> list[Ask]:
    """Those who wait, with one more."""
    return [*registry.asked, ask][-ASKS_MAX:]


def remembered(registry: Registry, key: str | None) -> list[str]:
    """The commands that an entry knows again, with one more."""
    return [*registry.applied, *([key] if key else [])][-REMEMBERED:]


def missing(id: str) -> NotFound:
    return NotFound(f"There is no registry {id[:128]}.")


def _target(registry: Registry) -> tuple[str, str | None]:
    return registry.public_url, registry.secret


def _news(before: RegistryHealth | None, health: RegistryHealth) -> list[Draft]:
    """Every result is an event; one that changes the picture is another."""
    shown = entries.shown_health(health.model_dump())
    kinds = ["checked"]
    if before is None or before.verdict != health.verdict:
        kinds.append("health.changed")
    return [event(kind, health=shown) for kind in kinds]


def next_check_s(failures: int, *, every_s: float, cap_s: float, jitter: float) -> float:
    """Doubles with each failure in a row, up to `cap_s`; `jitter` lies in [0, 1)."""
    # The exponent is bounded so that a long series cannot overflow.
    full = min(every_s * 2.0 ** min(failures, 32), max(cap_s, every_s))
    return full * (1 - SPREAD + 2 * SPREAD * jitter)


# --- One look at a registry of the directory, with the credentials of its entry

REASON_MAX: Final = 255

log = logging.getLogger(__name__)


class RegistryProbe:
    """Whatever a registry does is a fact about it, never a failure of the look."""

    def __init__(self, secrets: Secrets, client: RegistryClient, clock: Clock) -> None:
        self._secrets = secrets
        self._client = client
        self._clock = clock

    async def look(self, registry: Registry) -> RegistryHealth:
        """Facts, as of when it began. Raises StoreUnavailable."""
        url = registry.public_url
        at = self._clock()
        try:
            found = await self._client.ping(
                entries.address_of(url), credentials=await self.credentials(registry)
            )
        except InvalidInput as error:
            found = PingResult(reachable=False, reason=error.message, error_kind=ErrorKind.OTHER)
        facts = found.model_dump() | {"reason": found.reason and found.reason[:REASON_MAX]}
        return RegistryHealth(url=url, checked_at=at, **facts)

    async def credentials(self, registry: Registry) -> Credentials | None:
        """None when the entry names no secret, or one that is not for its host."""
        secret = registry.secret
        if secret is None:
            return None
        for host in entries.hosts_of(registry.public_url):
            try:
                found = await self._secrets.credentials_for(registry.org, secret, host)
            except (NotFound, InvalidReference, Misconfigured) as error:
                log.warning("registry %s is asked anonymously: %s", registry.uuid, error.message)
                return None
            if found is not None:
                return found
        return None
