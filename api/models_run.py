"""`/api/models/…/run-process`: a version runs with its test input."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api.auth import GuardedRoute
from api.deps import Yard
from api.models import PREFIX, Identifier, Runner, Version, Viewer
from api.models_errors import failures
from api.models_views import answer

router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

PATH = "/{identifier}/versions/{version}/run-process"


@router.post(PATH, status_code=202, responses=failures(404, 409, 422))
async def begin_run(
    identifier: Identifier, version: Version, caller: Runner, yard: Yard
) -> Response:
    """Run the version with its test input in a fresh container. A run under way is shared."""
    record = await yard.model.runs.request(caller, identifier, version)
    return answer(await yard.model.runs.show(record), 202)


@router.get(PATH, responses=failures(404))
async def get_run(identifier: Identifier, version: Version, caller: Viewer, yard: Yard) -> Response:
    """How far the newest run is, and at 100 percent its result."""
    record = await yard.model.versions.get(caller, identifier, version)
    return answer(await yard.model.runs.show(record))
