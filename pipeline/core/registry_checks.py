"""Checks of registries: asked for, carried out, recorded. Regular ones: `registry_sweeps`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pipeline.core import records, registry_histories, registry_messages
from pipeline.core.turns import Turns
from pipeline.errors import LostRace, NotFound, Overloaded
from pipeline.rules import registry_entries
from pipeline.rules.check_times import next_check_s
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import RegistryCheck
from schemas.message import Message
from schemas.registry import Ask, Registry, RegistryHealth

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox
    from pipeline.core.registry_probes import RegistryProbe

RACES: Final = 100
REMEMBERED: Final = 64


class RegistryChecks:
    """Whatever a registry does is a fact of its record, never a failure of the check."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        probe: RegistryProbe,
        settings: Settings,
        *,
        clock: records.Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._probe = probe
        self._every_s = settings.registry_check_interval_s
        self._cap_s = settings.registry_check_backoff_max_s
        self._clock = clock
        self._jitter = jitter
        self._turns = Turns()

    async def ask(self, caller: Principal, uuid: str) -> str:
        """Have a worker look; `answer` tells when it has. Returns the id of the ask.

        `uuid` is the record's. Raises NotFound, and Overloaded when too many ask.
        """
        async with self._turns.of(uuid):
            changed, ask = await self._note(caller, uuid)
        await self._outbox.send(changed)
        return ask.id

    async def answer(self, caller: Principal, uuid: str, ask: str) -> RegistryHealth | None:
        """What a check found that began after `ask`; None while there is none.

        Raises NotFound when the entry is gone.
        """
        registry = await self._present(caller.org, uuid)
        if any(waiting.id == ask for waiting in registry.asked):
            return None
        return registry.container_registry_health

    async def history(self, caller: Principal, uuid: str) -> list[RegistryHealth]:
        """The newest checks, newest first."""
        return await registry_histories.read(self._store, caller.org, uuid)

    async def carry_out(self, caller: Principal, order: RegistryCheck, *, key: str) -> None:
        """Look at a registry and record what is found.

        Does nothing when an earlier check answered the order already, when the entry that it was
        given for is gone, or when the command came before (`key`). Raises NotFound.
        """
        where = {registry_entries.ID: order.id, "deleted": False}
        registry = await self._store.find_one(Registry, org=caller.org, where=where)
        if registry is None and order.ask is not None:
            return
        if registry is None:
            raise NotFound(f"There is no registry {order.id[:128]}.")
        waiting = {ask.id: ask.actor for ask in registry.asked}
        is_answered = order.ask is not None and order.ask not in waiting
        if is_answered or key in registry.applied:
            return
        actor = waiting[order.ask] if order.ask else caller.id
        await self.check(registry, actor=actor, key=key)

    async def check(self, registry: Registry, *, actor: str, key: str | None = None) -> None:
        """Look, and record what is found. Raises StoreUnavailable and Overloaded."""
        await self.record(registry, await self.look(registry), actor=actor, key=key)

    async def look(self, registry: Registry) -> RegistryHealth:
        """Takes as long as the registry, and holds nothing. Raises StoreUnavailable."""
        return await self._probe.look(registry)

    async def record(
        self, registry: Registry, health: RegistryHealth, *, actor: str, key: str | None = None
    ) -> None:
        """What a look at `registry`, as it was loaded before, has found.

        Raises StoreUnavailable and Overloaded.
        """
        answered = frozenset(ask.id for ask in registry.asked)
        if await self._settle(registry, health, answered, actor, key):
            await registry_histories.add(self._store, registry, health, at=self._clock())

    async def _note(self, caller: Principal, uuid: str) -> tuple[Registry, Ask]:
        for _ in range(RACES):
            registry = await self._present(caller.org, uuid)
            at, revision = self._clock(), registry.revision + 1
            ask, command = registry_messages.check(
                registry, at=at, actor=caller.id, revision=revision
            )
            values = {"asked": registry_messages.joined(registry, ask)}
            try:
                return await self._store.change(registry, values, at=at, messages=[command]), ask
            except LostRace:
                continue
        raise Overloaded("Too many ask for this check at the same time: try again.")

    async def _present(self, org: str, uuid: str) -> Registry:
        registry = await self._store.get(Registry, uuid, org=org)
        if registry.deleted:
            raise NotFound(f"There is no registry {registry.container_registry_id}.")
        return registry

    async def _settle(
        self,
        checked: Registry,
        health: RegistryHealth,
        answered: frozenset[str],
        actor: str,
        key: str | None,
    ) -> bool:
        """False when the entry is gone, is by now another registry than was checked, or knows of
        a check that began later."""
        # Most often nobody has changed it meanwhile, so that it need not be read again.
        registry = checked
        for _ in range(RACES):
            if _target(registry) != _target(checked) or _is_older(health, registry):
                return False
            at = self._clock()
            values = self._values(registry, health, at)
            values["asked"] = [ask for ask in registry.asked if ask.id not in answered]
            if key is not None:
                values["applied"] = [*registry.applied, key][-REMEMBERED:]
            messages = _news(registry, health, at=at, actor=actor)
            try:
                changed = await self._store.change(registry, values, at=at, messages=messages)
            except NotFound:
                return False
            except LostRace:
                current = await self._reread(checked)
                if current is None:
                    return False
                registry = current
                continue
            await self._outbox.send(changed)
            return True
        raise Overloaded("The entry is changed too often for its health to be noted.")

    async def _reread(self, checked: Registry) -> Registry | None:
        try:
            return await self._present(checked.org, checked.uuid)
        except NotFound:
            return None

    def _values(self, registry: Registry, health: RegistryHealth, at: datetime) -> dict[str, Any]:
        failures = 0 if health.reachable and health.oci else registry.failures + 1
        wait_s = next_check_s(
            failures, every_s=self._every_s, cap_s=self._cap_s, jitter=self._jitter()
        )
        return {
            registry_entries.HEALTH: health,
            "failures": failures,
            "check_at": at + timedelta(seconds=wait_s),
        }


def _is_older(health: RegistryHealth, registry: Registry) -> bool:
    known = registry.container_registry_health
    return known is not None and known.checked_at > health.checked_at


def _target(registry: Registry) -> tuple[str, str | None]:
    return registry.container_registry_public_url, registry.container_registry_secret


def _news(registry: Registry, health: RegistryHealth, *, at: datetime, actor: str) -> list[Message]:
    """Every result is an event; one that changes the picture is another."""
    before = registry.container_registry_health
    facts = {"health": registry_entries.shown_health(health.model_dump())}
    kinds = ["checked"]
    if before is None or before.verdict != health.verdict:
        kinds.append("health.changed")
    return [
        registry_messages.announce(
            registry, kind, at=at, actor=actor, revision=registry.revision + 1, **facts
        )
        for kind in kinds
    ]
