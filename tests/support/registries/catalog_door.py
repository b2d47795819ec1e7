"""The Docker image catalogue of a running system, as a client sees it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from pipeline import topology
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.bootstrap.control_plane import Services
from schemas.access import Role
from schemas.message import Message
from schemas.registries.catalog import CatalogEntry
from tests.support.events import stored_events
from tests.support.registries.registry_door import client
from tests.support.waiting import eventually


class CatalogDoor:
    """Calls of one organisation."""

    def __init__(self, http: httpx.AsyncClient, services: Services, org: str) -> None:
        self.http = http
        self.services = services
        self.org = org

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, f"/v1{path}", **options)
        assert answer.status_code < 500, answer.text
        if answer.status_code == 204:
            assert answer.content == b""
        else:
            assert answer.headers["content-type"] == "application/json"
        return answer

    async def create(self, **fields: Any) -> dict[str, Any]:
        """A new image."""
        answer = await self.call("POST", "/docker/create", json=image(**fields))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def get(self, pk: int) -> dict[str, Any]:
        answer = await self.call("GET", f"/docker/{pk}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def found(self, *expressions: Any, table: str = "docker", **more: Any) -> list[Any]:
        """Names of the matches (of other tables than images: keys), in order."""
        body = {"expressions": list(expressions), **more}
        answer = await self.call("POST", f"/{table}/list", json=body)
        assert answer.status_code == 200, answer.text
        return [each["name" if table == "docker" else "pk"] for each in answer.json()]

    async def send(self, verb: str, data: dict[str, Any], *, id: str | None = None) -> str:
        """A command by queue. Its id."""
        command = Message(
            id=id or uuid.uuid4().hex,
            subject=topology.command(self.org, CatalogEntry.resource, verb),
            type=f"modelyard.cmd.catalog.{verb}",
            source="ci",
            time=self.services.records.clock(),
            data=data,
        )
        # Another message id than before, so that the broker does not drop a repeat.
        headers = command.headers() | {"Nats-Msg-Id": uuid.uuid4().hex}
        await self.services.bus.publish_raw(command.subject, command.body(), headers)
        return command.id

    async def told(self, cause: str) -> list[StoredEvent]:
        """Events that followed from a command, once there is one, oldest first."""

        async def found() -> list[StoredEvent]:
            return [
                event
                async for event in stored_events(self.services.bus, self.org)
                if event.headers.get("ce-causationid") == cause
            ]

        await eventually(found, timeout_s=60)
        return await found()

    async def idle(self) -> None:
        """Until every command of the organisation is done."""
        bus, subject = self.services.bus, f"yard.cmd.{self.org}.>"

        async def is_idle() -> bool:
            left = await bus.read_batch(topology.COMMANDS.name, after=0, subject=subject)
            return not left.messages

        await eventually(is_idle, timeout_s=60)

    async def kinds(self, pk: int) -> list[str]:
        """Of all events about an image, oldest first."""
        about = f"yard.evt.{self.org}.catalog.{pk}."
        return [
            event.subject.removeprefix(about)
            async for event in stored_events(self.services.bus, self.org)
            if event.subject.startswith(about)
        ]

    async def refusal(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        answer = await self.call(method, path, **options)
        return answer.status_code, answer.json()


@asynccontextmanager
async def catalog_door(
    app: FastAPI, org: str, role: Role = Role.ADMIN
) -> AsyncIterator[CatalogDoor]:
    async with await client(app, org, role) as http:
        yield CatalogDoor(http, app.state.services, org)


def image(**fields: Any) -> dict[str, Any]:
    """A body for a new image that needs a GPU; a worker finds at once that it is not where it says
    it is."""
    return {
        "name": f"image-{uuid.uuid4().hex[:8]}",
        "version": "1.0",
        "url": "registry.test:5000/team/model:1",
        "registry_url": "elsewhere.test:5000",
        "cuda_version": "11.8",
        "framework": 1,
        "domain": "ic",
        "tasks": ["Train", "Predict"],
        "min_hardware_generation": "Turing",
        "licence": "MIT",
    } | fields
