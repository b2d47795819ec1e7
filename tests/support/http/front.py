"""The use cases in memory, for tests of the HTTP side: the same calls, no services behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from api.app import Opener, create
from pipeline.containers.agent_requests import LogEntry
from pipeline.errors import KeyReused, NotFound, StaleRevision, Unauthenticated
from pipeline.events.hub import EventHub
from pipeline.monitoring.service import Figures
from pipeline.records.idempotency import fingerprint, id_for
from pipeline.records.queries import Page
from pipeline.settings import Settings
from schemas.access import Principal, Role
from schemas.container import Container, ContainerSpec
from schemas.image import Image, ImageSpec
from schemas.message import DeadLetter
from schemas.node import Node
from schemas.registries.registry import RegistrySpace
from schemas.states import ContainerStatus, ImageStatus
from tests.support import records as made
from tests.support.event_log import FakeEventLog
from tests.support.tenants import principal

ORG = made.ORG


def bearer(who: str) -> dict[str, str]:
    """`admin`, `member`, `viewer`, `node`, each also as `<role>@<org>`."""
    return {"Authorization": f"Bearer {who}"}


class FakeAccess:
    def __init__(self) -> None:
        self.revoked: set[str] = set()

    async def authenticate(self, header: str | None) -> Principal:
        name = (header or "").removeprefix("Bearer ")
        role, _, org = name.partition("@")
        if role not in {role.value for role in Role} or name in self.revoked:
            raise Unauthenticated("Send a token.")
        return principal(org or ORG, Role(role))


@dataclass
class FakeRecords:
    """Records of one kind by uuid, newest first, seen by their organisation only."""

    log: FakeEventLog
    kept: dict[str, Any] = field(default_factory=dict)
    failure: Exception | None = None
    added: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, record: Any) -> Any:
        self.kept = {record.uuid: record, **self.kept}
        self.added.set()
        return record

    async def until(self, uuid: str) -> None:
        """Wait until there is such a record."""
        async with asyncio.timeout(30):
            while uuid not in self.kept:
                self.added.clear()
                await self.added.wait()

    def move(self, uuid: str, **values: Any) -> Any:
        """Change a record and announce it, as a worker would."""
        record = self.kept[uuid]
        self.kept[uuid] = record.model_copy(update={"revision": record.revision + 1, **values})
        kind = str(values.get("status", "changed")).lower()
        self.log.happen(kind, org=record.org, resource=record.resource, id=uuid)
        return self.kept[uuid]

    async def get(self, caller: Principal, uuid: str) -> Any:
        self.fail()
        record = self.kept.get(uuid)
        if record is None or record.org != caller.org or record.status == "DELETED":
            raise NotFound(f"There is no record {uuid}.")
        return record

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None, **where: Any
    ) -> Page[Any]:
        self.fail()
        wanted = {name: value for name, value in where.items() if value not in (None, False)}
        found = [
            record
            for record in self.kept.values()
            if record.org == caller.org
            and all(getattr(record, name) == value for name, value in wanted.items())
        ]
        start = int((cursor or "0-").partition("-")[0])
        end = start + limit
        return Page(found[start:end], f"{end}-x" if end < len(found) else None)

    def once(self, record: Any) -> Any:
        self.fail()
        earlier = self.kept.get(record.uuid)
        if earlier is None:
            return self.add(record)
        if earlier.request_hash != record.request_hash:
            raise KeyReused("This key was used for another request.")
        return earlier.model_copy(update={"replayed": True})

    def expect(self, uuid: str, revision: int | None) -> None:
        if revision is not None and self.kept[uuid].revision != revision:
            raise StaleRevision("It is at another revision.")

    def fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeImages(FakeRecords):
    async def submit(self, caller: Principal, spec: ImageSpec, *, key: str | None = None) -> Image:
        image = made.image(
            uuid=id_for(caller.org, "image", key),
            org=caller.org,
            name=spec.name or "model",
            reference=spec.reference,
            request_hash=fingerprint(spec),
            outbox=[made.message()],
        )
        answer: Image = self.once(image)
        return answer

    async def delete(self, caller: Principal, uuid: str, *, revision: int | None = None) -> Image:
        await self.get(caller, uuid)
        self.expect(uuid, revision)
        deleted: Image = self.move(uuid, status=ImageStatus.DELETED)
        return deleted


class FakeContainers(FakeRecords):
    async def run(
        self, caller: Principal, spec: ContainerSpec, *, key: str | None = None
    ) -> Container:
        container = made.container(
            uuid=id_for(caller.org, "container", key),
            org=caller.org,
            spec=spec,
            request_hash=fingerprint(spec),
            outbox=[made.message()],
        )
        answer: Container = self.once(container)
        return answer

    async def stop(self, caller: Principal, uuid: str, *, revision: int | None = None) -> Container:
        return await self._ask(caller, uuid, revision)

    start = restart = stop

    async def delete(
        self, caller: Principal, uuid: str, *, volumes: bool = False, revision: int | None = None
    ) -> Container:
        assert not volumes, "no test of this double asks for that"
        return await self._ask(caller, uuid, revision)

    async def _ask(self, caller: Principal, uuid: str, revision: int | None) -> Container:
        if getattr(self.kept.get(uuid), "status", None) == "DELETED":
            return self.kept[uuid]  # type: ignore[no-any-return]
        container: Container = await self.get(caller, uuid)
        self.expect(uuid, revision)
        if container.status is ContainerStatus.STOPPED:
            return container
        asked: Container = self.move(uuid, reason="asked")
        return asked


class FakeLogs:
    """Hands out `entries`, then waits for `wait`, then raises `failure`."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.wait: Callable[[], Any] | None = None
        self.failure: Exception | None = None
        self.asked: dict[str, Any] = {}
        self.closed = False

    async def read(self, caller: Principal, uuid: str, **asked: Any) -> AsyncIterator[LogEntry]:
        self.asked = asked
        try:
            for entry in self.entries:
                yield entry
            if self.wait is not None:
                await self.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed = True


class FakeDeadLetters:
    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}
        self.requeued: list[str] = []

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DeadLetter]:
        return Page(list(self.letters.values())[:limit], None)

    async def get(self, caller: Principal, id: str) -> DeadLetter:
        if id not in self.letters:
            raise NotFound(f"There is no dead letter {id}.")
        return self.letters[id]

    async def reveal(self, caller: Principal, id: str) -> DeadLetter:
        return (await self.get(caller, id)).model_copy(update={"masked": False})

    async def requeue(self, caller: Principal, id: str) -> DeadLetter:
        letter = await self.get(caller, id)
        self.requeued.append(id)
        return letter

    async def drop(self, caller: Principal, id: str) -> None:
        await self.get(caller, id)
        del self.letters[id]


class FakeDependency:
    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.absent: list[str] = []
        self.oci = True

    async def ping(self, *address: str) -> Any:
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(oci=self.oci, reason=None if self.oci else "Connection refused")

    async def missing(self) -> list[str]:
        return self.absent


@dataclass
class FakeFence:
    """What is known of the platform's registry."""

    used: int | None = None
    reclaimable: int | None = None

    async def space(self) -> RegistrySpace:
        at = made.AT
        return RegistrySpace(
            **{"uuid": "own", "org": ORG, "created_at": at, "updated_at": at},
            used_bytes=self.used,
            reclaimable_bytes=self.reclaimable,
        )


@dataclass
class FakeMonitoring:
    """Tells `known`, or fails."""

    known: Figures = field(default_factory=Figures)
    failure: Exception | None = None

    async def figures(self) -> Figures:
        if self.failure is not None:
            raise self.failure
        return self.known


@dataclass
class Front:
    """What an application under test stands on."""

    settings: Settings
    log: FakeEventLog
    access: FakeAccess
    images: FakeImages
    containers: FakeContainers
    nodes: FakeRecords
    logs: FakeLogs
    dead_letters: FakeDeadLetters
    store: FakeDependency
    bus: FakeDependency
    registry: FakeDependency
    hub: EventHub
    models: SimpleNamespace = field(default_factory=SimpleNamespace)
    deployments: SimpleNamespace = field(default_factory=SimpleNamespace)
    fence: FakeFence = field(default_factory=FakeFence)
    monitoring: FakeMonitoring = field(default_factory=FakeMonitoring)

    def services(self) -> Any:
        """As `Services` groups them."""
        return SimpleNamespace(
            settings=self.settings,
            records=SimpleNamespace(store=self.store),
            bus=self.bus,
            access=self.access,
            images=SimpleNamespace(service=self.images, fence=self.fence),
            containers=SimpleNamespace(service=self.containers, logs=self.logs),
            placement=SimpleNamespace(nodes=self.nodes),
            registries=SimpleNamespace(client=self.registry),
            dead_letters=self.dead_letters,
            models=self.models,
            deployments=self.deployments,
            watching=SimpleNamespace(monitoring=self.monitoring),
        )

    def node(self, **values: Any) -> Node:
        node: Node = self.nodes.add(made.node(**values).model_copy(update={"org": ORG}))
        return node


@asynccontextmanager
async def front(settings: Settings) -> AsyncIterator[Front]:
    log = FakeEventLog()
    async with EventHub.open(log, buffer_frames=settings.event_buffer_frames) as hub:
        await log.opened.wait()
        yield Front(
            settings=settings,
            log=log,
            access=FakeAccess(),
            images=FakeImages(log),
            containers=FakeContainers(log),
            nodes=FakeRecords(log),
            logs=FakeLogs(),
            dead_letters=FakeDeadLetters(),
            store=FakeDependency(),
            bus=FakeDependency(),
            registry=FakeDependency(),
            hub=hub,
        )


def opener(fake: Front) -> Opener:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield fake.services(), fake.hub

    return opened


@asynccontextmanager
async def application(fake: Front) -> AsyncIterator[FastAPI]:
    app = create(fake.settings, opener(fake))
    async with app.router.lifespan_context(app):
        yield app


def caller(app: FastAPI, who: str | None = "admin") -> AsyncClient:
    """A client without a network between."""
    return AsyncClient(
        transport=ASGITransport(app=app),
        base_url="http://yard.test",
        headers=bearer(who) if who else {},
    )
