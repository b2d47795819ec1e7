"""Registries are looked at every so often: the failing ones seldom, none of them twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.errors import NotFound
from pipeline.ports import Credentials
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.registries import checks, wire
from pipeline.registries.checks import LEASE, RegistryChecks, RegistryProbe
from pipeline.registries.service import TOMBSTONE_AGE, Registries
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.registries.registry import PingResult, Registry, RegistryHistory
from tests.support.access import Clock
from tests.support.events import stored_events
from tests.support.outboxes import published
from tests.support.records import message
from tests.support.registries.registry_door import entry
from tests.support.tenants import principal
from tests.support.waiting import eventually

ADA = principal("acme")
SETTINGS = Settings(registry_check_interval_s=300, registry_check_backoff_max_s=3600)


class Network:
    """Every registry of it answers as `health` says, once `gate` is open."""

    def __init__(self) -> None:
        self.health = PingResult(reachable=True, status_code=200, oci=True)
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def ping(self, url: str, *, credentials: Credentials | None = None) -> PingResult:
        self.asked.append(url)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return self.health


class Sweeping:
    """The directory of one worker; several may share the store."""

    def __init__(
        self, store: Store, outbox: Outbox, network: Network, clock: Clock, jitter: float = 0.5
    ) -> None:
        self.store, self.clock = store, clock
        records = Records(store, outbox, clock)
        secrets = Secrets(records, SETTINGS)
        # Nothing is searched here.
        self.entries = Registries(records, None, secrets, SETTINGS)  # type: ignore[arg-type]
        probe = RegistryProbe(secrets, network, clock)
        self.checks = RegistryChecks(records, probe, SETTINGS, jitter=lambda: jitter)

    async def create(self, *ids: str) -> None:
        for id in ids:
            await self.entries.create(ADA, wire.read(entry(id=id, public_url=f"http://{id}.test")))

    async def record(self, id: str) -> Registry:
        return await self.entries.get(ADA, id)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def outbox(store: Store, bus: Bus) -> AsyncIterator[Outbox]:
    async with Outbox(store, bus) as outbox:
        yield outbox


@pytest.fixture
def worker(store: Store, outbox: Outbox, network: Network, clock: Clock) -> Sweeping:
    return Sweeping(store, outbox, network, clock)


async def test_a_new_entry_is_due_soon_should_its_command_be_lost(
    worker: Sweeping, network: Network, clock: Clock
) -> None:
    await worker.create("a")
    await worker.checks.sweep()
    assert network.asked == []
    clock.advance(61)
    await worker.checks.sweep()
    assert network.asked == ["http://a.test"]
    health = (await worker.record("a")).health
    assert health is not None
    assert health.reachable


async def test_what_was_checked_is_due_again_after_the_interval(
    worker: Sweeping, network: Network, clock: Clock
) -> None:
    await worker.create("a")
    clock.advance(61)
    for _ in range(3):
        await worker.checks.sweep()
    assert len(network.asked) == 1
    clock.advance(299)
    await worker.checks.sweep()
    assert len(network.asked) == 1
    clock.advance(2)
    await worker.checks.sweep()
    assert len(network.asked) == 2


async def test_the_longer_it_fails_the_seldomer_it_is_asked(
    worker: Sweeping, network: Network, clock: Clock
) -> None:
    network.health = PingResult(reachable=False, error_kind="refused")
    await worker.create("a")
    clock.advance(61)
    waits = []
    for _ in range(6):
        await worker.checks.sweep()
        waits.append((await worker.record("a")).check_at - clock())
        clock.now += waits[-1]
    assert [wait.total_seconds() for wait in waits] == [600, 1200, 2400, 3600, 3600, 3600]
    network.health = PingResult(reachable=True, oci=True)
    await worker.checks.sweep()
    assert (await worker.record("a")).check_at - clock() == timedelta(seconds=300)


async def test_jitter_draws_entries_apart(
    store: Store, outbox: Outbox, network: Network, clock: Clock
) -> None:
    due = []
    for id, jitter in (("a", 0.0), ("b", 0.999)):
        worker = Sweeping(store, outbox, network, clock, jitter)
        await worker.create(id)
        clock.advance(61)
        await worker.checks.sweep()
        due.append(((await worker.record(id)).check_at - clock()).total_seconds())
    assert due == pytest.approx([240, 360], abs=1)


async def test_two_workers_share_what_is_due(
    store: Store, outbox: Outbox, network: Network, clock: Clock
) -> None:
    one, two = (Sweeping(store, outbox, network, clock) for _ in range(2))
    ids = [f"r{number}" for number in range(40)]
    await one.create(*ids)
    clock.advance(61)
    await asyncio.gather(one.checks.sweep(), two.checks.sweep())
    assert sorted(network.asked) == sorted(f"http://{id}.test" for id in ids)


async def test_what_a_dead_worker_had_taken_is_due_again_when_its_lease_ends(
    store: Store, outbox: Outbox, network: Network, clock: Clock
) -> None:
    dead, alive = (Sweeping(store, outbox, network, clock) for _ in range(2))
    await dead.create("a")
    clock.advance(61)
    network.gate.clear()
    sweeping = asyncio.create_task(dead.checks.sweep())
    await eventually(lambda: bool(network.asked))
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    network.gate.set()
    await alive.checks.sweep()
    assert len(network.asked) == 1
    clock.now += LEASE
    await alive.checks.sweep()
    assert len(network.asked) == 2


async def test_only_so_many_are_asked_at_once(
    worker: Sweeping, network: Network, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "AT_ONCE", 5)
    monkeypatch.setattr(checks, "BATCH", 8)
    await worker.create(*(f"r{number}" for number in range(20)))
    clock.advance(61)
    network.gate.clear()
    sweeping = asyncio.create_task(worker.checks.sweep())
    await eventually(lambda: network.at_once == 5)
    network.gate.set()
    await sweeping
    assert (len(network.asked), network.most_at_once) == (20, 5)


async def test_a_sweep_tells_who_it_was(
    worker: Sweeping, network: Network, clock: Clock, bus: Bus
) -> None:
    await worker.create("a")
    clock.advance(61)
    await worker.checks.sweep()
    assert await published(bus) == ["created", "checked", "changed"]
    events = [event async for event in stored_events(bus, "acme")]
    assert events[-1].headers["ce-actor"] == "worker:registries"


async def test_deleted_entries_are_not_asked_and_go_for_good(
    worker: Sweeping, network: Network, clock: Clock, store: Store, outbox: Outbox
) -> None:
    await worker.create("a")
    registry = await worker.record("a")
    clock.advance(61)
    await worker.checks.sweep()
    assert await store.count(RegistryHistory, org="acme") == 1
    await worker.entries.delete(ADA, "a")
    clock.advance(100_000)
    await worker.checks.sweep()
    assert len(network.asked) == 1
    assert await store.count(RegistryHistory, org="acme") == 0
    # What was published is marked in the background.
    await outbox.close()
    await worker.entries.purge()
    with pytest.raises(NotFound):
        await store.get(Registry, registry.uuid, org="acme")


async def test_what_is_not_told_yet_is_not_purged(
    worker: Sweeping, clock: Clock, store: Store, outbox: Outbox
) -> None:
    await worker.create("a")
    registry = await worker.record("a")
    await worker.entries.delete(ADA, "a")
    await outbox.close()
    waiting = {"$set": {"outbox": [message().model_dump()]}}
    await store.update(Registry, registry.uuid, org="acme", guard={}, update=waiting)
    clock.now += TOMBSTONE_AGE * 2
    await worker.entries.purge()
    assert await store.count(Registry, org="acme") == 1
