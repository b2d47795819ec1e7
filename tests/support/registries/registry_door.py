"""The registry directory of a running system, as a client sees it."""

from __future__ import annotations

import json
from typing import Any

import httpx
from fastapi import FastAPI
from httpx import ASGITransport

from pipeline.adapters.bus.reading import StoredEvent
from pipeline.bootstrap.control_plane import Services
from schemas.access import Role
from schemas.registries.registry import Registry
from tests.support.events import stored_events
from tests.support.tenants import Tenant

URL = "http://registry.test:5000"
P = "container_registry_"


class Door:
    """Calls of one organisation."""

    def __init__(self, http: httpx.AsyncClient, services: Services, org: str) -> None:
        self.http = http
        self.services = services
        self.org = org

    async def org_uuid(self) -> str:
        return await self.services.organisations.uuid_of(self.org)

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, path, **options)
        assert_envelope(answer)
        return answer

    async def create(self, **fields: Any) -> str:
        """The id of a new entry; names of fields may go without their prefix."""
        answer = await self.call("POST", "/container_registry", json=entry(**fields))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    async def get(self, id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/container_registry/{id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    async def put(self, id: str, body: Any) -> httpx.Response:
        return await self.call("PUT", f"/container_registry/{id}", json=body)

    async def updated(self, id: str, body: Any) -> dict[str, Any]:
        """The document after an update that must succeed."""
        answer = await self.put(id, body)
        assert answer.status_code == 200, answer.text
        return await self.get(id)

    async def query(self, filter: Any, **params: Any) -> httpx.Response:
        return await self.call("POST", "/container_registries", json=filter, params=params)

    async def found(self, filter: Any, **params: Any) -> list[str]:
        """Ids of the matches."""
        answer = await self.query(filter, **params)
        assert answer.status_code == 200, answer.text
        return [each["container_registry_id"] for each in answer.json()["data"]]

    async def check(self, id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/check_container_health/{id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    async def record(self, id: str) -> Registry:
        where = {"id": id}
        found = await self.services.records.store.find_one(Registry, org=self.org, where=where)
        assert found is not None
        return found

    async def events(self, id: str) -> list[StoredEvent]:
        """What was published about an entry, oldest first."""
        uuid = (await self.record(id)).uuid
        return [
            event
            async for event in stored_events(self.services.bus, self.org)
            if event.subject.split(".")[3:5] == ["registry", uuid]
        ]

    async def secret(self, server: str, name: str = "mine", **data: str) -> str:
        given = {"server": server, "username": "me", "password": "hunter2"} | data
        answer = await self.http.post(
            "/accounts/secrets/", json={"name": name, "secret_type": "registry", "data": given}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uuid"])


def entry(**fields: Any) -> dict[str, Any]:
    given = {name if name.startswith(P) else P + name: value for name, value in fields.items()}
    return {f"{P}public_url": URL} | given


def kinds(events: list[StoredEvent]) -> list[str]:
    return [event.subject.split(".", 5)[5] for event in events]


def data(event: StoredEvent) -> dict[str, Any]:
    return dict(json.loads(event.data))


async def client(app: FastAPI, org: str, role: Role = Role.ADMIN) -> httpx.AsyncClient:
    """One with an API key of that role."""
    services: Services = app.state.services
    return anonymous(app, **await Tenant(services.access, org).headers(role))


def anonymous(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://yard.test",
        headers=headers,
        timeout=30,
    )


def assert_envelope(answer: httpx.Response) -> None:
    """What holds for every answer of the door."""
    assert answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    if answer.status_code < 400:
        assert set(body) == {"success", "data"}
        assert body["success"] is True
    else:
        assert set(body) == {"success", "error"}
        assert body["success"] is False
        assert body["error"]
        assert isinstance(body["error"], str)
