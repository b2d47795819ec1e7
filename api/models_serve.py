"""`/api/models/…/run` and `…/shutdown`: a version answers calls until it is idle."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import models_bodies
from api.auth import GuardedRoute
from api.deps import Hub, Yard
from api.models import PREFIX, Identifier, Runner, Version
from api.models_errors import ErrorBodies, failures
from api.models_views import answer
from api.problems import Failure
from schemas.model import Fault

router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

VERSION = "/{identifier}/versions/{version}"
_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "Any object: the model gets it as it is.",
        "content": {models_bodies.JSON: {"schema": {"type": "object"}}},
    }
}


@router.post(
    f"{VERSION}/run",
    openapi_extra=_BODY,
    responses=failures(400, 404, 409, 413, 415, 422),
)
async def call_model(
    identifier: Identifier,
    version: Version,
    request: Request,
    caller: Runner,
    yard: Yard,
    hub: Hub,
) -> Response:
    """Have the model run a JSON object. A container is started unless one answers calls already.

    It stays until it is idle for long, another image or requirement comes, or it is shut down.
    422 when the model's code is not 2xx, or when it takes longer than `timeout.run`.
    """
    body = await models_bodies.read_object(request)
    outcome = await yard.model.calls.run(
        caller, identifier, version, body, hub=hub, has_left=request.is_disconnected
    )
    if isinstance(outcome, Fault):
        bodies: ErrorBodies = request.app.state.model_errors
        failure = Failure(422, outcome.code, outcome.message)
        return bodies.answer(failure, technical=outcome.technical)
    return answer(
        {
            "statusCode": outcome.status,
            "output": outcome.output,
            "elapsedTime": outcome.elapsed_ms,
        }
    )


@router.post(f"{VERSION}/shutdown", responses=failures(404))
async def shut_down(
    identifier: Identifier, version: Version, caller: Runner, yard: Yard, hub: Hub
) -> Response:
    """End the container that answers calls, if there is one. Answers once it is gone."""
    await yard.model.calls.shut_down(caller, identifier, version, hub=hub)
    return answer({"running": False})
