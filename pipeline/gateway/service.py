"""Keeps one HAProxy in step with the deployments. Level-triggered, as many at once as there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from opentelemetry.trace import SpanKind

from pipeline import concurrency
from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.adapters.http.resolving import Resolver
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.addresses import Ip, literal
from pipeline.errors import AddressRefused, YardError
from pipeline.gateway.figures import figures_of
from pipeline.gateway.routing import (
    Backend,
    Listening,
    Server,
    commands,
    configuration,
    ids_of,
    revocations,
    sections_of,
    server_of,
    servers_of,
)
from pipeline.records.kernel import now
from pipeline.records.revoked import revoked
from pipeline.settings import Settings
from pipeline.telemetry import is_recording, span
from schemas.access import Token, User
from schemas.base import Record
from schemas.container import Container
from schemas.deployment import Deployment, Metric
from schemas.node import Node
from schemas.states import ContainerStatus, DeploymentStatus

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Between two looks when nobody tells of a change."""
RESOLVE_S: Final = 2.0
"""For the name of one node."""
LINGER_S: Final = 0.03
"""After a change was told of, for others that belong to it: they are looked at together."""
PAUSE_S: Final = 1.0
"""After a failed look, and after changes were cut."""
_LATENCY: Final = frozenset({Metric.LATENCY})


class Gateway:
    """What HAProxy has is asked of HAProxy, what it should have of the store."""

    def __init__(
        self, store: Store, haproxy: Haproxy, listening: Listening, resolver: Resolver
    ) -> None:
        self._store = store
        self._haproxy = haproxy
        self._listening = listening
        self._resolver = resolver
        self.unresolved: dict[str, str] = {}
        """Addresses of nodes that cannot be found, and why; their replicas get no calls."""
        self._hint = asyncio.Event()
        self.deployments = 0
        """That can be called, ready or not."""
        self.replicas = 0
        """That are called."""
        self.reloads = 0
        self._traces: dict[str, str | None] = {}
        """Of the replica behind each server."""

    async def run(self) -> None:
        """Follow the records until cancelled. While the store is away, traffic goes on as it is."""
        async with asyncio.TaskGroup() as group:
            for kind in (Container, Deployment, Token, User):
                group.create_task(self._listen(kind), name=f"changes of {kind.collection}")
            group.create_task(self._keep(), name="gateway")

    async def look(self) -> None:
        """Make HAProxy have what it should have. What it refuses holds up nothing else.

        Raises StoreUnavailable, Unreachable, once all was tried.
        """
        failures = [await _failure_of(self._look_at_revocations())]
        living = {"status": {"$ne": DeploymentStatus.DELETED.value}}
        deployments = await self._store.find(Deployment, org=EVERY_ORG, where=living, sort=())
        failures.append(await _failure_of(self._look_at_replicas(deployments)))
        # Writes, which may take their time.
        failures.append(await _failure_of(self._tell_of_calls(deployments)))
        for failure in filter(None, failures):
            raise failure

    async def _look_at_revocations(self) -> None:
        """Who starts or reloads reads the file, who runs is told."""
        wanted = (await revoked(self._store, EVERY_ORG, since=now())).all
        file = self._listening.revoked
        known = ids_of(await self._haproxy.ask(f"show acl {file}"))
        if changes := list(revocations(known, wanted, file)):
            self._haproxy.revoke(wanted)
            await self._haproxy.tell(changes)

    async def _look_at_replicas(self, deployments: Sequence[Deployment]) -> None:
        wanted = await self._wanted(deployments)
        self.deployments = len(wanted)
        self.replicas = sum(len(backend.servers) for backend in wanted.values())
        known = servers_of(await self._haproxy.ask("show servers state"))
        sections = sections_of(await self._haproxy.ask("show backend"))
        text = configuration(self._listening, wanted)
        if sections != {section for each in wanted.values() for section in each.sections}:
            await self._haproxy.write(text)
            await self._haproxy.reload()
            self.reloads += 1
            self._trace(known, wanted)
            return
        changes = [
            command
            for slug, backend in wanted.items()
            for command in commands(known.get(slug, {}), backend.servers, slug)
        ]
        if changes:
            try:
                await self._haproxy.tell(changes)
            finally:
                # A restart of HAProxy begins with what it has now; checking that takes its time.
                await self._haproxy.write(text)
            self._trace(known, wanted)

    def _trace(self, known: Mapping[str, Collection[str]], wanted: Mapping[str, Backend]) -> None:
        """The moment from which a replica gets calls belongs to the trace that led to it."""
        if not is_recording():
            return
        for slug, backend in wanted.items():
            for name in backend.servers.keys() - set(known.get(slug, ())):
                with span(
                    "gateway replica",
                    traceparent=self._traces.get(name),
                    kind=SpanKind.INTERNAL,
                    attributes={"modelyard.deployment": slug, "modelyard.server": name},
                ):
                    pass

    async def _tell_of_calls(self, deployments: Sequence[Deployment]) -> None:
        """So that what is called does not count as idle."""
        resting = [each for each in deployments if each.rests_after_s is not None and each.wanted]
        if not resting:
            return
        figures = figures_of(await self._haproxy.statistics())
        for deployment in resting:
            seen, at = figures.get(deployment.slug), now()
            if seen is not None and seen.idle_for_s is not None:
                since = 0 if seen.under_way else seen.idle_for_s
                await mark_used(self._store, deployment, at - timedelta(seconds=since))

    async def _wanted(self, deployments: Sequence[Deployment]) -> dict[str, Backend]:
        up = {"status": ContainerStatus.RUNNING.value, "deployment": {"$gt": ""}}
        replicas = await self._store.find(Container, org=EVERY_ORG, where=up, sort=())
        hosts = await self._hosts({replica.node or "" for replica in replicas})
        servers: dict[str, dict[str, Server]] = {each.uuid: {} for each in deployments}
        limits = {each.uuid: each.max_calls for each in deployments}
        self._traces = {}
        for replica in replicas:
            server = server_of(replica, hosts.get(replica.node or ""))
            if server is not None and replica.deployment in servers:
                server = replace(server, max_calls=limits[replica.deployment])
                name = server.name(replica.replica or 0)
                servers[replica.deployment][name] = server
                self._traces[name] = replica.traceparent
        return {
            each.slug: Backend(each.slug, each.org, servers[each.uuid], each.is_scaled_by(_LATENCY))
            for each in deployments
        }

    async def _hosts(self, nodes: Collection[str]) -> dict[str, str]:
        """Uuid → IP address. A name that cannot be resolved must not cost the others: HAProxy would
        refuse the whole configuration."""
        where = {"_id": {"$in": sorted(nodes)}}
        found = await self._store.find(Node, org=EVERY_ORG, where=where, sort=())
        addresses = sorted({node.address for node in found})
        answers = await asyncio.gather(*map(self._resolved, addresses), return_exceptions=True)
        resolved: dict[str, str] = {}
        unresolved: dict[str, str] = {}
        for address, answer in zip(addresses, answers, strict=True):
            match answer:
                case OSError() | UnicodeError() | AddressRefused():
                    unresolved[address] = str(answer) or f"no answer within {RESOLVE_S} s"
                    if address not in self.unresolved:
                        log.warning("replicas at %s get no calls: %s", address, unresolved[address])
                case BaseException():
                    raise answer
                case _:
                    resolved[address] = str(answer[0])
        self.unresolved = unresolved
        return {node.uuid: resolved[node.address] for node in found if node.address in resolved}

    async def _resolved(self, address: str) -> Sequence[Ip]:
        if (spelled := literal(address)) is not None:
            return [spelled]
        async with asyncio.timeout(RESOLVE_S):
            return await self._resolver(address)

    async def _keep(self) -> None:
        while True:
            self._hint.clear()
            if await self._tried(self.look):
                if await concurrency.comes_within(self._hint, LOOK_S):
                    await asyncio.sleep(LINGER_S)
            else:
                await asyncio.sleep(PAUSE_S)

    async def _listen(self, kind: type[Record]) -> None:
        async def changes() -> None:
            async for _ in self._store.changes(kind):
                self._hint.set()

        while True:
            await self._tried(changes)
            await asyncio.sleep(PAUSE_S)

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except YardError as error:
            log.warning("%s", error.message)
            return False
        return True


async def _failure_of(work: Awaitable[None]) -> YardError | None:
    try:
        await work
    except YardError as error:
        return error
    return None


def listening_of(haproxy: Haproxy, settings: Settings) -> Listening:
    """What an installation's HAProxy is to listen to."""
    return Listening(
        settings.gateway_bind,
        str(haproxy.admin_socket),
        str(haproxy.revoked),
        settings.signing_key.get_secret_value(),
        settings.activators,
    )


async def mark_used(store: Store, deployment: Deployment, at: datetime) -> None:
    """Put off that a deployment counts as idle. Idempotent, from everywhere at once."""
    until = deployment.idle_when_used(at)
    if until is not None:
        await store.update(
            Deployment,
            deployment.uuid,
            org=deployment.org,
            guard={"replicas": {"$gt": 0}},
            update={"$max": {"idle_at": until}},
        )
