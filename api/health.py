"""`/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.answers import JSON
from api.auth import OpenRoute
from pipeline.core.event_hub import EventHub
from pipeline.errors import BusUnavailable, RegistryUnavailable, YardError
from pipeline.services import Services

router = APIRouter(tags=["health"], route_class=OpenRoute)

CHECK_S = 3.0
"""Dependencies are asked at once, and none longer than this."""
OPTIONAL = frozenset({"registry"})
"""Without these the API answers all the same."""


class Dependency(BaseModel):
    status: Literal["ok", "failed"]
    required: bool
    latency_ms: float
    detail: str | None = None
    """Why it failed."""


class Readiness(BaseModel):
    status: Literal["ready", "not ready", "stopping"]
    dependencies: dict[str, Dependency]


class Health(BaseModel):
    status: Literal["alive"] = "alive"


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """The process answers. It asks nobody else: a broken dependency is no reason to restart."""
    return Response(Health().model_dump_json(), media_type=JSON)


@router.get(
    "/readyz",
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "Not ready."}},
)
async def readyz(request: Request) -> Response:
    """Whether it makes sense to send requests here, and each dependency by name."""
    app = request.app.state
    found = await _look(_checks(app.services, app.hub))
    failed = any(one.required and one.status == "failed" for one in found.values())
    stopping = app.draining.is_set()
    readiness = Readiness(
        status="stopping" if stopping else "not ready" if failed else "ready", dependencies=found
    )
    status = 503 if failed or stopping else 200
    return Response(
        readiness.model_dump_json(exclude_none=True),
        status,
        {"Cache-Control": "no-store"},
        media_type=JSON,
    )


Check = Callable[[], Awaitable[None]]


def _checks(services: Services, hub: EventHub) -> Mapping[str, Check]:
    async def streams() -> None:
        if missing := await services.bus.missing():
            raise BusUnavailable(f"Missing: {', '.join(missing)}.")

    async def events() -> None:
        if not hub.live:
            raise BusUnavailable("The events are not followed yet.")

    async def registry() -> None:
        health = await services.registry.ping(f"http://{services.settings.registry}")
        if not health.oci:
            raise RegistryUnavailable(health.reason or "It does not answer as a registry.")

    return {
        "store": services.store.ping,
        "bus": services.bus.ping,
        "streams": streams,
        "events": events,
        "registry": registry,
    }


async def _look(checks: Mapping[str, Check]) -> dict[str, Dependency]:
    found = await asyncio.gather(*(_one(name, check) for name, check in checks.items()))
    return dict(zip(checks, found, strict=True))


async def _one(name: str, check: Check) -> Dependency:
    began = time.perf_counter()
    detail = None
    try:
        async with asyncio.timeout(CHECK_S):
            await check()
    except YardError as error:
        detail = error.message
    except TimeoutError:
        detail = f"No answer within {CHECK_S:g} seconds."
    return Dependency(
        status="failed" if detail else "ok",
        required=name not in OPTIONAL,
        latency_ms=round((time.perf_counter() - began) * 1000, 1),
        detail=detail,
    )
