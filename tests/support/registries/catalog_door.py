"""The Docker image catalogue of a running system, as a client sees it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from pipeline.bootstrap.control_plane import Services
from schemas.access import Role
from tests.support.registries.registry_door import client


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
