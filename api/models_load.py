"""`/api/models/…/load-process`: the load test of a version's image."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import models_views
from api.auth import GuardedRoute
from api.deps import Hub, Yard
from api.models import PREFIX, Identifier, Runner, Version, Viewer
from api.models_errors import ErrorBodies, failures
from api.models_views import answer
from api.problems import Failure
from pipeline.core.event_hub import EventHub
from pipeline.errors import BusUnavailable, Conflict
from pipeline.services import Services
from schemas.access import Principal
from schemas.image import Image
from schemas.model import ModelVersion, Phase

router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

PATH = "/{identifier}/versions/{version}/load-process"
LOOK_S = 2.0
"""Events say when to look; this often it is looked at in any case."""


@router.post(PATH, responses=failures(404, 409, 422))
async def load(
    identifier: Identifier,
    version: Version,
    request: Request,
    caller: Runner,
    yard: Yard,
    hub: Hub,
) -> Response:
    """Start a container of the image and ask for its status. Answers when that is finished.

    A test under way is shared. One that succeeded counts until image, requirement or timeout
    change. Whoever hangs up does not stop it.
    """
    record = await yard.model.loads.request(caller, identifier, version)
    record = await _finished(record, request, caller, yard, hub)
    image = await yard.model.deliveries.current(record)
    if record.load.fault is not None:
        fault = record.load.fault
        bodies: ErrorBodies = request.app.state.model_errors
        return bodies.answer(Failure(422, fault.code, fault.message), technical=fault.technical)
    return answer(models_views.load_process(record, image))


@router.get(PATH, responses=failures(404))
async def get_load(
    identifier: Identifier, version: Version, caller: Viewer, yard: Yard
) -> Response:
    """How far the load test is."""
    record = await yard.model.versions.get(caller, identifier, version)
    image = await yard.model.deliveries.current(record)
    return answer(models_views.load_process(record, image))


async def _finished(
    record: ModelVersion, request: Request, caller: Principal, yard: Services, hub: EventHub
) -> ModelVersion:
    """The version once the test under way has ended. Raises Conflict when it became void.

    Of a test that failed and was begun anew before we looked, the new one counts.
    """
    image = record.image
    with hub.watch(caller.org, Image.resource, record.image or "") as watch:
        while record.load.phase is Phase.RUNNING:
            if hub.draining:
                raise BusUnavailable("The server is stopping; the load test goes on: ask again.")
            await watch.moved(LOOK_S)
            record = await yard.model.versions.get(caller, record.model, record.version)
            if record.image != image:
                raise Conflict("Another image was delivered meanwhile: this load test is void.")
            if await request.is_disconnected():
                break
    return record
