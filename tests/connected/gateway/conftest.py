"""A real HAProxy over a real store; a test lets its follower look when it wants to."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.adapters.store.store import Store
from pipeline.addresses import Ip
from pipeline.gateway.service import Gateway
from pipeline.records.kernel import Change, Records, now
from pipeline.stack.pieces.gateway import HaproxyPiece
from schemas.access import Role
from schemas.base import Record
from schemas.container import Container, PortBinding
from schemas.deployment import Deployment
from schemas.node import Node
from schemas.states import ContainerStatus
from tests.support.access import Clock
from tests.support.access import records as records_of
from tests.support.models.upstreams import Upstream
from tests.support.records import ORG, container, deployment, node
from tests.support.systems.services import Services

KEY = "k" * 40


def token(**changes: Any) -> str:
    at = now()
    known: dict[str, Any] = {
        "subject": "user:1",
        "org": ORG,
        "name": "ada",
        "role": Role.MEMBER,
        "kind": TokenKind.ACCESS,
        "id": "j",
        "session": "s",
        "user": None,
        "issued_at": at,
        "expires_at": at + timedelta(hours=1),
    }
    return Signer(changes.pop("key", KEY)).sign(Claims(**known | changes))


class Rig:
    """Records over a real store, a gateway that a test lets look, and callers."""

    def __init__(self, store: Store, piece: HaproxyPiece, gateway: Gateway) -> None:
        self.store = store
        self.piece = piece
        self.gateway = gateway
        self.records: Records = records_of(store, Clock())
        self.records.clock = now
        self.http = httpx.AsyncClient(base_url=piece.url, timeout=10, trust_env=False)

    async def deployment(self, name: str = "clf", **values: Any) -> Deployment:
        return await self.store.insert(deployment(name=name, **values))

    async def replica(
        self, of: Deployment, server: Upstream, number: int = 1, address: str = "127.0.0.1"
    ) -> Container:
        where = {"address": address}
        host = await self.store.find_one(Node, org="installation", where=where)
        host = host or await self.store.insert(node(f"node-{address}", address=address))
        bound = PortBinding(internal=8080, host=server.port, address="127.0.0.1")
        made = container(
            org=of.org,
            status=ContainerStatus.RUNNING,
            deployment=of.uuid,
            replica=number,
            node=host.uuid,
            ports=[bound],
            healthy_since=now(),
        )
        return await self.store.insert(made)

    async def change(self, record: Container, status: Any = None, **values: Any) -> Container:
        current = await self.store.get(Container, record.uuid, org=record.org)
        return await self.records.commit(current, Change(values, status=status))

    async def amend(self, kind: type[Record], uuid: str, **values: Any) -> None:
        current = await self.store.get(kind, uuid, org=ORG)
        await self.records.commit(current, Change(values))

    async def call(self, path: str, bearer: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer or token()}"} | options.pop("headers", {})
        method = options.pop("method", "GET")
        return await self.http.request(method, path, headers=headers, **options)


async def resolved(host: str) -> list[Ip]:
    if host == "here.test":
        return [ipaddress.ip_address("127.0.0.1")]
    raise OSError(f"{host} is not known")


def gateway_of(piece: HaproxyPiece, store: Store) -> Gateway:
    return Gateway(store, Haproxy(piece.run_folder), piece.listening, resolved)


@asynccontextmanager
async def a_rig(
    store: Store, services: Services, *, activators: Sequence[str] = ()
) -> AsyncIterator[Rig]:
    piece = services.haproxy(KEY, activators=activators)
    await piece.start()
    rig = Rig(store, piece, gateway_of(piece, store))
    yield rig
    await rig.http.aclose()
    await piece.stop()


@pytest.fixture
async def rig(store: Store, services: Services) -> AsyncIterator[Rig]:
    async with a_rig(store, services) as rig:
        yield rig
