"""Deployments of imported containers: `/deployments/…`. What is wrong with fields is told by their
names, what is wrong otherwise as `error`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from api.http.auth import GuardedRoute, ServicesDep, needs
from api.imported_containers.answers import (
    failures,
    json_answer,
    missing,
    own_org,
    read_object,
    refused,
)
from api.imported_containers.deployment_drafts import CPU, DeploymentDraft, gpus_of
from api.imported_containers.deployment_views import (
    STATUSES,
    DeploymentHealth,
    FullObject,
    ListedObject,
    PrivateObject,
    full,
    health,
    listed,
)
from api.imported_containers.fields import canonical, no_object
from pipeline.bootstrap.control_plane import Services
from pipeline.containers.specs import fits_model
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, NotFound, NotReady, StaleRevision
from schemas.access import Permission, Principal
from schemas.container import Desired
from schemas.deployment import Deployment
from schemas.image import Image
from schemas.states import DeploymentStatus as Status
from schemas.states import ImageStatus

PREFIX = "/deployments"
router = APIRouter(prefix=PREFIX, tags=["imported containers"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.DEPLOYMENT_VIEW)]
Writer = Annotated[Principal, needs(Permission.DEPLOYMENT_WRITE)]
Ordering = Annotated[str, Query(description="`asc`: oldest first.")]
Wanted = Annotated[str, Query(description="Only this status, or those that begin so.")]


class Refusal(BaseModel):
    """`error`, `detail`, or the names of fields."""

    model_config = ConfigDict(extra="allow")


_EXAMPLE = {
    "model_repo": "a843be1e-f59a-415e-8b36-e6731dead1a0",
    "name": "my-deployment",
    "gpu_id": "nvidia-h100",
    "min_pod_replicas": 1,
    "max_pod_replicas": 1,
    "ports": {"http": {"port": 8080}},
    "healthcheck": {"path": "/health"},
}
_BYOC = {"nodegroups": ["9731422f-b437-4aa5-b33b-0398a3126e4e"], "memory_request": 2}


def body_of(example: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": dict(example)}}
    return {"requestBody": {"required": True, "content": content}}


refusals = partial(failures, model=Refusal)
"""The documented failures of a route."""
_MADE: Final = refusals(400, 413)


@router.post(
    "/private/deploy-model/",
    status_code=201,
    responses={201: {"model": PrivateObject}, **_MADE},
    openapi_extra=body_of(_EXAMPLE),
)
async def create_private_deployment(
    request: Request, caller: Writer, services: ServicesDep
) -> Response:
    """Keep replicas of an imported container answering, on whatever node has the GPU."""
    made = await _create(request, caller, services, is_byoc=False)
    shown = made.model_dump(include=set(PrivateObject.model_fields))
    return json_answer(shown, 201)


@router.post(
    "/model-deployments/",
    status_code=201,
    responses={201: {"model": FullObject}, **_MADE},
    openapi_extra=body_of(_EXAMPLE | _BYOC),
)
async def create_byoc_deployment(
    request: Request, caller: Writer, services: ServicesDep
) -> Response:
    """Keep replicas of an imported container answering, on the nodes that are named."""
    made = await _create(request, caller, services, is_byoc=True)
    return json_answer(made.model_dump(), 201)


@router.get("/model-deployments/", responses={200: {"model": list[FullObject]}, **refusals(400)})
async def list_model_deployments(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    status: Wanted = "",
    ordering: Ordering = "desc",
) -> Response:
    """All of the organisation, newest first. Deleted ones appear when asked for."""
    org = await own_org(services, caller, request.query_params)
    found = await _search(services, caller, status, ordering)
    images = await _images(services, caller, found)
    gateway = services.settings.gateway_url
    show = partial(full, caller=caller, org=org, gateway=gateway)
    return json_answer(
        [show(each, images.get(each.template.spec.image)).model_dump() for each in found]
    )


@router.get("/list/model/", responses={200: {"model": list[ListedObject]}, **refusals(400)})
async def list_by_model(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    model_repo_id: Annotated[str, Query(description="Only those of this container.")] = "",
    status: Wanted = "",
    ordering: Ordering = "desc",
) -> Response:
    """The same in short, or those of one container."""
    await own_org(services, caller, request.query_params)
    image = canonical(model_repo_id) if model_repo_id else None
    found: Sequence[Deployment] = []
    if image or not model_repo_id:
        found = await _search(services, caller, status, ordering, image)
    images = await _images(services, caller, found)
    return json_answer(
        [listed(each, images.get(each.template.spec.image)).model_dump() for each in found]
    )


@router.get(
    "/model-deployments/{deployment_id}/", responses={200: {"model": FullObject}, **refusals(404)}
)
async def get_model_deployment(
    request: Request, deployment_id: str, caller: Viewer, services: ServicesDep
) -> Response:
    """One of them, also when it is deleted."""
    org = await own_org(services, caller, request.query_params)
    found = await find(services, caller, deployment_id)
    return json_answer((await full_object(services, caller, org, found)).model_dump())


@router.get(
    "/model-deployment/fetch-status/{deployment_id}/",
    responses={200: {"model": DeploymentHealth}, **refusals(400, 404)},
)
async def fetch_status(
    request: Request, deployment_id: str, caller: Viewer, services: ServicesDep
) -> Response:
    """How it is, and why."""
    await own_org(services, caller, request.query_params)
    found = await find(services, caller, deployment_id)
    require_alive(found)
    return json_answer(health(found).model_dump())


GONE: Final = "Model repo has been deleted and cannot be accessed."
_NOT_READY: Final = "Model repo is not ready for deployment."


async def _create(
    request: Request, caller: Principal, services: Services, *, is_byoc: bool
) -> FullObject:
    body = await read_object(request)
    org = await own_org(services, caller, body, request.query_params)
    draft = DeploymentDraft(body, is_byoc=is_byoc)
    image = await services.images.service.recall(caller, draft.image)
    if image is None:
        raise refused(no_object("model_repo", draft.image))
    await require_groups(services, draft)
    await require_possible(services, draft, image)
    with answered(gone=GONE):
        made = await services.deployments.service.create(
            caller, draft.spec(image), own=draft.own(image)
        )
    return await full_object(services, caller, org, made)


async def require_groups(services: Services, draft: DeploymentDraft) -> None:
    """Raises InvalidInput when a node group that it names has no nodes."""
    for group in draft.groups:
        if not await services.placement.nodes.among([group]):
            raise refused(no_object("nodegroups", group))


async def require_possible(services: Services, draft: DeploymentDraft, image: Image) -> None:
    """Raises InvalidInput unless the image can be deployed on the GPUs that are asked for."""
    if image.status is ImageStatus.DELETED:
        raise refused({"detail": GONE})
    if image.status is not ImageStatus.READY:
        raise refused({"detail": _NOT_READY})
    gpus, gpu_id = gpus_of(image), draft.gpu_id
    if not gpu_id:
        return
    if gpu_id.lower() == CPU:
        if gpus:
            told = "GPU accelerator is required when accelerator count is greater than 0"
            raise refused({"non_field_errors": [told]})
        return
    if not gpus:
        told = "GPU accelerator cannot be used when accelerator count is 0"
        raise refused({"non_field_errors": [told]})
    nodes = await services.placement.nodes.among(draft.groups)
    models = {gpu.model for node in nodes for gpu in node.complete().inventory.gpus}
    if not any(fits_model(gpu_id, model) for model in models):
        raise refused({"error": "Selected GPU not available at the moment"})


@contextmanager
def answered(gone: str | None = None) -> Iterator[None]:
    """What the core refuses, in the words of clients; StaleRevision is for who named one.
    `gone`: the `detail` of what is not there any more."""
    try:
        yield
    except StaleRevision:
        raise
    except AlreadyExists as error:
        told = "Deployment with this name already exists for this organization."
        raise refused({"non_field_errors": [told]}) from error
    except InvalidInput as error:
        if "body" in error.facts:
            raise
        raise refused({"non_field_errors": [error.message]}) from error
    except NotReady as error:
        raise refused({"detail": _NOT_READY}) from error
    except (NotFound, Conflict) as error:
        if gone and isinstance(error, NotFound):
            raise refused({"detail": gone}) from error
        raise refused({"error": error.message}) from error


async def _search(
    services: Services, caller: Principal, status: str, ordering: str, image: str | None = None
) -> Sequence[Deployment]:
    wanted = status.strip().upper()
    statuses = [
        each
        for each, text in STATUSES.items()
        if wanted and (text == wanted or text.startswith(f"{wanted}_"))
    ]
    if wanted and not statuses:
        return []
    return await services.deployments.service.search(
        caller, statuses=statuses, image=image, oldest_first=ordering == "asc"
    )


async def _images(
    services: Services, caller: Principal, deployments: Sequence[Deployment]
) -> dict[str, Image]:
    wanted = {each.template.spec.image for each in deployments}
    found = [await services.images.service.recall(caller, each) for each in sorted(wanted)]
    return {image.uuid: image for image in found if image}


async def full_object(
    services: Services, caller: Principal, org: str, deployment: Deployment
) -> FullObject:
    images = await _images(services, caller, [deployment])
    gateway = services.settings.gateway_url
    return full(
        deployment, images.get(deployment.template.spec.image), caller, org=org, gateway=gateway
    )


async def recalled(services: Services, caller: Principal, text: str) -> Deployment | None:
    """Deleted ones, too; none that follows the version of a model."""
    id = canonical(text)
    found = await services.deployments.service.recall(caller, id) if id else None
    return None if found is None or found.owner else found


async def find(services: Services, caller: Principal, text: str) -> Deployment:
    found = await recalled(services, caller, text)
    if found is None:
        raise unknown()
    return found


def unknown() -> NotFound:
    return missing({"error": "Deployment not found"})


def is_ending(deployment: Deployment) -> bool:
    return deployment.desired is Desired.DELETED or deployment.status is Status.DELETED


def require_alive(deployment: Deployment) -> None:
    if is_ending(deployment):
        raise refused({"error": "Deployment has been deleted"})
