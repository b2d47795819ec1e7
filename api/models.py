"""`/api/models`: models and their versions."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api import models_bodies, models_views
from api.auth import GuardedRoute, needs
from api.deps import Yard
from api.models_errors import failures
from api.models_views import answer
from pipeline.core.models import PER_PAGE, PER_PAGE_MOST
from pipeline.rules import model_requirements
from pipeline.services import Services
from schemas.access import Permission, Principal
from schemas.model import ModelVersion
from schemas.model_requests import ModelPatch, NewModel, NewVersion, VersionPatch

PREFIX = "/api/models"
router = APIRouter(prefix=PREFIX, tags=["models"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]
Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]
Runner = Annotated[Principal, needs(Permission.CONTAINER_RUN)]
Identifier: TypeAlias = Annotated[str, Path()]
Version: TypeAlias = Annotated[str, Path()]


@router.get("", responses=failures(422))
async def list_models(
    caller: Viewer,
    yard: Yard,
    name: Annotated[str | None, Query(description="Only models of this name.")] = None,
    model_id: Annotated[str | None, Query(alias="modelId")] = None,
    page: Annotated[int, Query(ge=1, le=10**6, description="From 1.")] = 1,
    per_page: Annotated[int, Query(alias="per-page", ge=1, le=PER_PAGE_MOST)] = PER_PAGE,
    sort_by: Annotated[str | None, Query(alias="sort-by")] = None,
    direction: Annotated[str | None, Query(description="asc or desc")] = None,
) -> Response:
    """Models of the organisation, newest first unless `sort-by` names a member."""
    found = await yard.model.models.list(
        caller,
        name=name,
        identifier=model_id,
        page=page,
        per_page=per_page,
        sort_by=sort_by,
        direction=direction,
    )
    return answer([models_views.model(each) for each in found])


@router.post(
    "",
    status_code=201,
    openapi_extra=models_bodies.described(NewModel),
    responses=failures(400, 409, 413, 415, 422),
)
async def create_model(request: Request, caller: Writer, yard: Yard) -> Response:
    """Make a model with its first version."""
    wanted = await models_bodies.read(request, NewModel)
    return answer(await _whole(yard, await yard.model.models.create(caller, wanted)), 201)


@router.get("/requirements/account", responses=failures())
async def list_requirements(caller: Viewer) -> Response:
    """How much of a node a model may ask for."""
    return answer([models_views.requirement(each.id) for each in model_requirements.LISTED])


@router.get("/{identifier}", responses=failures(404))
async def get_model(identifier: Identifier, caller: Viewer, yard: Yard) -> Response:
    """One model."""
    return answer(await _model(yard, caller, identifier))


@router.patch(
    "/{identifier}",
    openapi_extra=models_bodies.described(ModelPatch),
    responses=failures(400, 404, 413, 415, 422),
)
async def patch_model(
    identifier: Identifier, request: Request, caller: Writer, yard: Yard
) -> Response:
    """Change its description or its tags."""
    patch = await models_bodies.read(request, ModelPatch)
    await yard.model.models.patch(caller, identifier, patch)
    return answer(await _model(yard, caller, identifier))


@router.get("/{identifier}/versions", responses=failures(404))
async def list_versions(identifier: Identifier, caller: Viewer, yard: Yard) -> Response:
    """Versions of a model, oldest first."""
    (found,) = await yard.model.models.with_versions(
        [await yard.model.models.get(caller, identifier)]
    )
    return answer([models_views.version_line(each) for each in found.versions])


@router.post(
    "/{identifier}/versions",
    status_code=201,
    openapi_extra=models_bodies.described(NewVersion),
    responses=failures(400, 404, 409, 413, 415, 422),
)
async def create_version(
    identifier: Identifier, request: Request, caller: Writer, yard: Yard
) -> Response:
    """Add a version to a model."""
    wanted = await models_bodies.read(request, NewVersion)
    model = await yard.model.models.get(caller, identifier)
    record = await yard.model.versions.create(caller, model, wanted.version)
    return answer(await _whole(yard, record), 201)


@router.get("/{identifier}/versions/{version}", responses=failures(404))
async def get_version(
    identifier: Identifier, version: Version, caller: Viewer, yard: Yard
) -> Response:
    """One version: what it asks for, how far its image is, its samples."""
    return answer(await _whole(yard, await yard.model.versions.get(caller, identifier, version)))


@router.patch(
    "/{identifier}/versions/{version}",
    openapi_extra=models_bodies.described(VersionPatch),
    responses=failures(400, 404, 409, 413, 415, 422),
)
async def patch_version(
    identifier: Identifier, version: Version, request: Request, caller: Writer, yard: Yard
) -> Response:
    """Change what is given; null and members that we do not know change nothing."""
    patch = await models_bodies.read(request, VersionPatch)
    return answer(
        await _whole(yard, await yard.model.versions.patch(caller, identifier, version, patch))
    )


async def _model(yard: Services, caller: Principal, identifier: str) -> dict[str, Any]:
    (found,) = await yard.model.models.with_versions(
        [await yard.model.models.get(caller, identifier)]
    )
    return models_views.model(found)


async def _whole(yard: Services, record: ModelVersion) -> dict[str, Any]:
    image = await yard.model.deliveries.current(record)
    return models_views.version(record, image, await yard.model.runs.show(record))
