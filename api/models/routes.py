"""`/api/models`: models and versions, load tests, trial runs, and calls that versions answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.http.answers import JSON
from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from api.http.problem_details import Failure
from api.models import bodies, views
from api.models.bodies import (
    ErrorBodies,
    ModelPatch,
    NewModel,
    NewVersion,
    VersionPatch,
    answer,
    failures,
)
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import BusUnavailable, Conflict, InvalidInput
from pipeline.events.hub import EventHub
from pipeline.models.service import NEWEST_FIRST
from pipeline.models.version_rules import LISTED
from schemas.access import Permission, Principal
from schemas.base import Fault
from schemas.image import Image
from schemas.model import Model, ModelVersion, Phase

PREFIX = "/api/models"
AT = "/{identifier}/versions/{version}"
DIRECTION: Final = "^([Aa][Ss][Cc]|[Dd][Ee][Ss][Cc])?$"
SORTED_BY: Final[Mapping[str, str]] = {
    "name": "name",
    "description": "description",
    "identifier": "_id",
    "modelId": "_id",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
}
LOOK_S = 2.0
"""Events say when to look; this often it is looked at in any case."""
_ANY_OBJECT: dict[str, Any] = {
    "requestBody": {
        "description": "Any object: the model gets it as it is.",
        "content": {JSON: {"schema": {"type": "object"}}},
    }
}
router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]
Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]
Runner = Annotated[Principal, needs(Permission.CONTAINER_RUN)]


async def _model(identifier: str, request: Request) -> Model:
    services: Services = request.app.state.services
    return await services.models.service.get(request.state.caller, identifier)


async def _version(identifier: str, version: str, request: Request) -> ModelVersion:
    services: Services = request.app.state.services
    return await services.models.versions.get(request.state.caller, identifier, version)


ModelDep = Annotated[Model, Depends(_model)]
VersionDep = Annotated[ModelVersion, Depends(_version)]
"""What the path of a guarded route names. 404 when the organisation has no such one."""


@router.get("", responses=failures(422))
async def list_models(
    caller: Viewer,
    yard: ServicesDep,
    name: Annotated[str | None, Query(description="Only models of this name.")] = None,
    model_id: Annotated[str | None, Query(alias="modelId")] = None,
    page: Annotated[int, Query(ge=1, le=10**6, description="From 1.")] = 1,
    per_page: Annotated[int, Query(alias="per-page", ge=1, le=1000)] = 100,
    sort_by: Annotated[
        str | None, Query(alias="sort-by", json_schema_extra={"enum": [*SORTED_BY]})
    ] = None,
    direction: Annotated[
        str | None, Query(description="asc or desc", json_schema_extra={"pattern": DIRECTION})
    ] = None,
) -> Response:
    """Models of the organisation, newest first unless `sort-by` names a member."""
    found = await yard.models.service.list(
        caller,
        name=name,
        identifier=model_id,
        page=page,
        per_page=per_page,
        sort=_sort(sort_by, direction),
    )
    return answer([views.model(each) for each in found])


@router.post("", status_code=201, **bodies.takes(NewModel, 409))
async def create_model(request: Request, caller: Writer, yard: ServicesDep) -> Response:
    """Make a model with its first version."""
    wanted = await bodies.read(request, NewModel)
    return answer(
        await _whole(yard, await yard.models.service.create(caller, wanted.name, wanted.version)),
        201,
    )


@router.get("/requirements/account", responses=failures())
async def list_requirements(caller: Viewer) -> Response:
    """How much of a node a model may ask for."""
    return answer([views.requirement(each.id) for each in LISTED])


@router.get("/{identifier}", responses=failures(404))
async def get_model(model: ModelDep, caller: Viewer, yard: ServicesDep) -> Response:
    """One model."""
    return answer(views.model(await yard.models.service.versioned(model)))


@router.patch("/{identifier}", **bodies.takes(ModelPatch, 404))
async def patch_model(
    model: ModelDep, request: Request, caller: Writer, yard: ServicesDep
) -> Response:
    """Change its description or its tags."""
    patch = await bodies.read(request, ModelPatch)
    model = await yard.models.service.change(caller, model, patch.model_dump(exclude_none=True))
    return answer(views.model(await yard.models.service.versioned(model)))


@router.get("/{identifier}/versions", responses=failures(404))
async def list_versions(model: ModelDep, caller: Viewer, yard: ServicesDep) -> Response:
    """Versions of a model, oldest first."""
    found = await yard.models.service.versioned(model)
    return answer([views.version_line(each) for each in found.versions])


@router.post("/{identifier}/versions", status_code=201, **bodies.takes(NewVersion, 404, 409))
async def create_version(
    model: ModelDep, request: Request, caller: Writer, yard: ServicesDep
) -> Response:
    """Add a version to a model."""
    wanted = await bodies.read(request, NewVersion)
    record = await yard.models.versions.create(caller, model, wanted.version)
    return answer(await _whole(yard, record), 201)


@router.get(AT, responses=failures(404))
async def get_version(version: VersionDep, caller: Viewer, yard: ServicesDep) -> Response:
    """One version: what it asks for, how far its image is, its samples."""
    return answer(await _whole(yard, version))


@router.patch(AT, **bodies.takes(VersionPatch, 404, 409))
async def patch_version(
    version: VersionDep, request: Request, caller: Writer, yard: ServicesDep
) -> Response:
    """Change what is given; null and members that we do not know change nothing."""
    patch = await bodies.read(request, VersionPatch)
    version = await yard.models.versions.patch(caller, version, patch.wanted())
    return answer(await _whole(yard, version))


@router.post(AT + "/load-process", responses=failures(404, 409, 422))
async def load(
    version: VersionDep, request: Request, caller: Runner, yard: ServicesDep, hub: HubDep
) -> Response:
    """Start a container of the image and ask for its status. Answers when that is finished.

    A test under way is shared. One that succeeded counts until image, requirement or timeout
    change. Whoever hangs up does not stop it.
    """
    record = await yard.models.load_tests.request(caller, version)
    record = await _finished(record, request, caller, yard, hub)
    if record.load.fault is not None:
        return _failed(request, record.load.fault)
    return answer(views.load_process(record, await yard.models.deliveries.current(record)))


@router.get(AT + "/load-process", responses=failures(404))
async def get_load(version: VersionDep, caller: Viewer, yard: ServicesDep) -> Response:
    """How far the load test is."""
    return answer(views.load_process(version, await yard.models.deliveries.current(version)))


@router.post(AT + "/run-process", status_code=202, responses=failures(404, 409, 422))
async def begin_run(version: VersionDep, caller: Runner, yard: ServicesDep) -> Response:
    """Run the version with its test input in a fresh container. A run under way is shared."""
    return await _run_process(yard, await yard.models.trial_runs.request(caller, version), 202)


@router.get(AT + "/run-process", responses=failures(404))
async def get_run(version: VersionDep, caller: Viewer, yard: ServicesDep) -> Response:
    """How far the newest run is, and at 100 percent its result."""
    return await _run_process(yard, version)


@router.post(
    AT + "/run", openapi_extra=_ANY_OBJECT, responses=failures(400, 404, 409, 413, 415, 422)
)
async def call_model(
    version: VersionDep, request: Request, caller: Runner, yard: ServicesDep, hub: HubDep
) -> Response:
    """Have the model run a JSON object. A container is started unless one answers calls already.

    It stays until it is idle for long, another image or requirement comes, or it is shut down.
    422 when the model's code is not 2xx, or when it takes longer than `timeout.run`. End-to-end
    headers of the model's answer are passed on, but those about its body and `Retry-After`: clients
    would repeat their POST. Of a model that is busy `technicalInformation` tells it.
    """
    body = await bodies.read_object(request)
    outcome = await yard.models.calls.run(
        caller, version, body, hub=hub, has_left=request.is_disconnected
    )
    if isinstance(outcome, Fault):
        return _failed(request, outcome)
    told = {"statusCode": outcome.status, "output": outcome.output}
    told |= {"elapsedTime": outcome.elapsed_ms}
    return bodies.wrapped(told, outcome.headers, cookies=yard.settings.model_cookies)


@router.post(AT + "/shutdown", responses=failures(404))
async def shut_down(
    version: VersionDep, caller: Runner, yard: ServicesDep, hub: HubDep
) -> Response:
    """End the container that answers calls, if there is one. Answers once it is gone."""
    await yard.models.calls.shut_down(caller, version, hub=hub)
    return answer({"running": False})


def _sort(sort_by: str | None, direction: str | None) -> Sequence[tuple[str, int]]:
    order = {"asc": 1, "desc": -1}.get((direction or "").lower())
    if direction and order is None:
        raise InvalidInput("direction must be asc or desc.", field="direction")
    if sort_by is None:
        return [(field, order or -1) for field, _ in NEWEST_FIRST]
    if sort_by not in SORTED_BY:
        known = ", ".join(SORTED_BY)
        raise InvalidInput(f"Models can be sorted by {known}.", field="sort-by")
    return [(SORTED_BY[sort_by], order or 1), ("_id", order or 1)]


async def _whole(yard: Services, record: ModelVersion) -> dict[str, Any]:
    image = await yard.models.deliveries.current(record)
    return views.version(record, image, await yard.models.trial_runs.result(record))


def _failed(request: Request, fault: Fault) -> Response:
    renderer: ErrorBodies = request.app.state.model_errors
    return renderer.answer(Failure(422, fault.code, fault.message), technical=fault.technical)


async def _finished(
    record: ModelVersion, request: Request, caller: Principal, yard: Services, hub: EventHub
) -> ModelVersion:
    """The version once the test under way has ended. Raises Conflict when it became void.

    Of a test that failed and was begun anew before we looked, the new one counts.
    """
    image = record.image

    async def look(record: ModelVersion) -> ModelVersion:
        if await request.is_disconnected():
            raise Conflict("The caller left before the load test had ended.")
        record = await yard.models.versions.get(caller, record.model, record.version)
        if record.image != image:
            raise Conflict("Another image was delivered meanwhile: this load test is void.")
        return record

    with hub.watch(caller.org, Image.resource, image or "") as watch:
        record = await watch.until(_has_ended, record, look, look_every_s=LOOK_S)
    if not _has_ended(record):
        raise BusUnavailable("The server is stopping; the load test goes on: ask again.")
    return record


def _has_ended(record: ModelVersion) -> bool:
    return record.load.phase is not Phase.RUNNING


async def _run_process(yard: Services, record: ModelVersion, status: int = 200) -> Response:
    outputs = await yard.models.trial_runs.result(record)
    return answer(views.run_process(record.run, outputs, record.outputs), status)
