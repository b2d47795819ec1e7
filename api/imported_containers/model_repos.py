"""Imported containers, which are the organisation's images: `/models/client/model-repos/`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import waited
from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from api.imported_containers.answers import (
    Detail,
    failures,
    json_answer,
    missing,
    own_org,
    read_object,
    refused,
    time_text,
)
from api.imported_containers.fields import Fields, canonical, kept, no_object
from api.imported_containers.model_repo_drafts import Draft
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, InvalidReference, NotFound
from pipeline.images.service import ImageSearch
from pipeline.records.idempotency import id_for, new_id
from schemas.access import Permission, Principal
from schemas.image import Image
from schemas.registries.secret import SecretSummary, SecretType
from schemas.states import ImageStatus

PREFIX = "/models/client"
PATH = "/model-repos/"
router = APIRouter(prefix=PREFIX, tags=["imported containers"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]
Writer = Annotated[Principal, needs(Permission.IMAGE_WRITE)]

MASK: Final = "***"
STATUSES: Final[Mapping[ImageStatus, str]] = {
    ImageStatus.PENDING: "PENDING",
    ImageStatus.UPLOADING: "PENDING",
    ImageStatus.VALIDATING: "PENDING",
    ImageStatus.READY: "SUCCESS",
    ImageStatus.FAILED: "FAILED",
    ImageStatus.DELETED: "DELETED",
}
COUNT: Final = 5
COUNT_MAX: Final = 100
SKIP_MAX: Final = 2**31 - 1
_DELETED: Final = "Model is already deleted."
_DEPLOYED: Final = (
    "This model has active deployments. Delete deployments before deleting the model."
)


class Byom(BaseModel):
    image: str
    registry: str
    tag: str


class NamedSecret(BaseModel):
    uuid: str
    name: str


class SourceSecrets(BaseModel):
    source_secret: NamedSecret | None


class ModelRepo(BaseModel):
    """An image, as clients of this door know it."""

    uuid: str
    name: str
    source_type: str
    source_url: str
    is_byom: bool = True
    accelerator: None = None
    runtime_gpus: int
    byom: Byom
    secrets: SourceSecrets
    status: str
    status_description: str | None
    model_type: str = "byom"
    env: dict[str, Any]
    created_at: str
    updated_at: str
    org_id: str


_EXAMPLE = {
    "name": "my-inference-server",
    "runtime_gpus": 1,
    "docker_tag": "1.4.0",
    "registry_path": "myorg/inference-server",
    "source_secret": "9731422f-b437-4aa5-b33b-0398a3126e4e",
    "env": {"MODEL_PATH": "/models/llama-7b"},
}
_CONTENT = {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}}
_BODY = {"requestBody": {"required": True, "content": _CONTENT}}


@router.post(
    PATH,
    status_code=201,
    responses={201: {"model": ModelRepo}, **failures(400, 413)},
    openapi_extra=_BODY,
)
async def create_model_repo(
    request: Request, caller: Writer, services: ServicesDep, hub: HubDep
) -> Response:
    """Bring an image of a registry. The answer waits until it was looked at: of one that is
    refused nothing is kept, one that is still looked at is PENDING."""
    body = await read_object(request)
    org = await own_org(services, caller, body, request.query_params)
    draft = Draft(body)
    secret = await _secret(services, caller, draft.secret)
    spec = draft.spec(secret, _host(services, draft, secret))
    key = new_id()
    uuid = id_for(caller.org, Image.resource, key)
    try:
        image = await waited(
            hub,
            caller,
            Image,
            uuid,
            ask=partial(
                services.images.service.submit, caller, spec, key=key, own=draft.own(secret)
            ),
            load=partial(services.images.service.get, caller, uuid),
            is_settled=_is_settled,
            wait_s=services.settings.verdict_wait_s,
        )
    except AlreadyExists as error:
        told = "Model with this name already exists for this organization."
        raise refused({"detail": {"non_field_errors": [told]}}) from error
    except InvalidReference as error:
        # In our own registry, and somebody else's.
        raise draft.rejected() from error
    except InvalidInput as error:
        field = "env" if error.facts.get("field") == "defaults.env" else "non_field_errors"
        raise refused({"detail": {field: [error.message]}}) from error
    except NotFound as error:
        raise refused({"detail": no_object("source_secret", str(draft.secret))}) from error
    if _is_rejected(image):
        image = await services.images.service.withdraw(caller, uuid)
        # The verdict may have come meanwhile.
        if image.status is not ImageStatus.READY:
            raise draft.rejected()
    (shown,) = await _shown(services, caller, org, [image])
    return json_answer(shown, 201)


@router.get(
    PATH,
    responses={
        200: {
            "model": list[ModelRepo] | ModelRepo,
            "headers": {"X-Total-Count": {"schema": {"type": "integer"}}},
        },
        **failures(400, 404),
    },
)
async def get_model_repos(
    request: Request,
    caller: Viewer,
    services: ServicesDep,
    model_id: Annotated[str, Query(description="Only this one, by itself.")] = "",
    offset: Annotated[str, Query(description="How many to pass over.")] = "0",
    count: Annotated[str, Query(description="At most 100.")] = str(COUNT),
    ordering: Annotated[str, Query(description="`asc`: oldest first.")] = "desc",
    name: Annotated[str, Query(description="A part of it.")] = "",
    status: Annotated[str, Query(description="Only this status.")] = "",
    model_type: Annotated[str, Query(description="Only this type.")] = "",
    created_by: Annotated[str, Query(description="Only what this user brought.")] = "",
) -> Response:
    """Images of the organisation, newest first, or one of them."""
    org = await own_org(services, caller, request.query_params)
    if model_id:
        image = await _find(services, caller, model_id)
        if image.status is ImageStatus.DELETED:
            raise _unknown()
        return json_answer((await _shown(services, caller, org, [image]))[0])
    fields = Fields({})
    skip, limit = _paging(fields, "offset", offset), _paging(fields, "count", count)
    if fields.wrong:
        raise refused({"detail": fields.wrong})
    wanted = [each for each, text in STATUSES.items() if text == status.strip().upper()]
    found: Sequence[Image] = []
    total = 0
    if (wanted or not status) and model_type.lower() in ("", "byom"):
        search = ImageSearch(wanted, name, created_by, oldest_first=ordering == "asc")
        found, total = await services.images.service.search(
            caller, search, limit=min(limit, COUNT_MAX), skip=min(skip, SKIP_MAX)
        )
    shown = await _shown(services, caller, org, found)
    return json_answer(shown, headers={"X-Total-Count": str(total)})


@router.delete(PATH, responses={200: {"model": Detail}, **failures(400, 404)})
async def delete_model_repo(
    request: Request,
    caller: Writer,
    services: ServicesDep,
    model_id: Annotated[str, Query(description="Which one.")] = "",
) -> Response:
    """Forget an image that no deployment uses."""
    await own_org(services, caller, request.query_params)
    if not model_id:
        raise refused({"detail": "model_id query param is required."})
    image = await _find(services, caller, model_id)
    if image.status is ImageStatus.DELETED:
        raise refused({"detail": _DELETED})
    if await services.deployments.service.search(caller, image=image.uuid):
        raise refused({"detail": _DEPLOYED})
    if STATUSES[image.status] == "PENDING":
        told = "This model has pending operations. Wait for them to finish before deleting the"
        raise refused({"detail": f"{told} model."})
    try:
        deleted = await services.images.service.delete(caller, image.uuid)
    except Conflict as error:
        # A deployment that came meanwhile, or containers without one.
        came = await services.deployments.service.search(caller, image=image.uuid)
        raise refused({"detail": _DEPLOYED if came else error.message}) from error
    if deleted.replayed:
        raise refused({"detail": _DELETED})
    return json_answer({"detail": "Model deleted successfully."})


def _host(services: Services, draft: Draft, secret: SecretSummary | None) -> str:
    """Of a path that names none."""
    if secret is not None:
        return secret.server
    settings = services.settings
    is_depot = draft.source_type is SecretType.DEPOT
    return settings.depot_registry if is_depot else settings.docker_hub_registry


async def _secret(services: Services, caller: Principal, id: str | None) -> SecretSummary | None:
    if id is None:
        return None
    try:
        found = await services.secrets.service.get(caller, id)
    except NotFound:
        found = None
    if found is None or found.uuid != id:
        raise refused({"detail": no_object("source_secret", id)})
    return found


async def _find(services: Services, caller: Principal, text: str) -> Image:
    """Deleted ones, too. Raises NotFound."""
    id = canonical(text)
    found = id and await services.images.service.recall(caller, id)
    if not found:
        raise _unknown()
    return found


def _unknown() -> NotFound:
    return missing({"detail": "Model not found."})


def _paging(fields: Fields, name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        fields.refuse(name, "A valid integer is required.")
        return 0
    if number < 0:
        fields.refuse(name, "Ensure this value is greater than or equal to 0.")
    return number


def _is_settled(image: Image) -> bool:
    return image.status in (ImageStatus.READY, ImageStatus.DELETED) or _is_rejected(image)


def _is_rejected(image: Image) -> bool:
    """Also while it is still tried: nobody is there who might be asked."""
    is_hopeless = image.last_failure in ("dns", "refused", "tls")
    return image.status is ImageStatus.FAILED or (
        image.status is ImageStatus.VALIDATING and is_hopeless
    )


async def _shown(
    services: Services, caller: Principal, org: str, images: Iterable[Image]
) -> list[dict[str, Any]]:
    images = list(images)
    wanted = {image.secret for image in images if image.secret}
    names = await services.secrets.service.names(caller.org, wanted)
    return [_object(image, names, caller, org).model_dump() for image in images]


def _object(image: Image, secrets: Mapping[str, str], caller: Principal, org: str) -> ModelRepo:
    client, parts = kept(image.annotations), image.parts
    path = client.get("registry_path") or f"{parts.registry}/{parts.repository}"
    tag = client.get("docker_tag") or parts.tag or parts.digest or ""
    named = secrets.get(image.secret or "")
    secret = NamedSecret(uuid=str(image.secret), name=named) if named else None
    env = image.defaults.env
    if Permission.IMAGE_WRITE not in caller.permissions:
        env = dict.fromkeys(env, MASK)
    gpus = image.defaults.gpus
    return ModelRepo(
        uuid=image.uuid,
        name=image.name,
        source_type=client.get("source_type", SecretType.REGISTRY),
        source_url=f"{path}:{tag}",
        runtime_gpus=image.needs.gpus if gpus is None else gpus,
        byom=Byom(image=f"{path}:{tag}", registry=path, tag=tag),
        secrets=SourceSecrets(source_secret=secret),
        status=STATUSES[image.status],
        status_description=image.reason if image.status is ImageStatus.FAILED else None,
        env=dict(env),
        created_at=time_text(image.created_at),
        updated_at=time_text(image.updated_at),
        org_id=org,
    )
