"""`/yard/v1/secrets`: credentials of registries with what a first login found, and their key's
rotation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field, SecretStr
from starlette.responses import Response

from api.http.answers import JSON, Key, location
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from pipeline.errors import InvalidInput
from pipeline.secrets.types import FIELDS
from schemas.access import Permission, Principal
from schemas.base import Shape
from schemas.registries.secret import SecretSummary, SecretType

router = APIRouter(prefix="/yard/v1/secrets", tags=["registries"], route_class=GuardedRoute)

SecretViewer = Annotated[Principal, needs(Permission.SECRET_VIEW)]
Keeper = Annotated[Principal, needs(Permission.SECRET_WRITE)]
Operator = Annotated[Principal, needs(Permission.NODE_WRITE)]
"""Keys seal the secrets of every organisation: only the installation's own may turn them.

An agent's token holds this permission, too, but does not write secrets.
"""


class SecretRequest(Shape):
    name: str = Field(max_length=1024, examples=["team-registry"])
    secret_type: SecretType = SecretType.REGISTRY
    data: dict[str, SecretStr]
    """`server`, `username` and `password`; of `docker_hub` and `depot` `username` and `token`."""


class SecretsView(BaseModel):
    items: list[SecretSummary]


class RotationView(BaseModel):
    resealed: int
    unreadable: list[str]
    """What no configured key opens: secrets, and images of the catalogue (`docker/<pk>`), whose
    passwords must be entered anew; webhooks, whose signing secrets must be rotated."""


@router.get("", responses={200: {"model": SecretsView}, **problems(503)})
async def list_registry_secrets(caller: SecretViewer, services: ServicesDep) -> Response:
    """All of the organisation, newest first; `login` says whether the server took them."""
    view = SecretsView(items=await services.secrets.service.list(caller))
    return Response(view.model_dump_json(), media_type=JSON)


@router.post(
    "",
    status_code=201,
    responses={201: {"model": SecretSummary}, **problems(400, 409, 413, 415, 422, 503)},
)
async def add_registry_secret(
    asked: Annotated[SecretRequest, Body()], caller: Keeper, services: ServicesDep, key: Key = None
) -> Response:
    """Keep credentials of a registry. They are tried once; the finding is in `login`."""
    _require_known(asked)
    data = {name: value.get_secret_value() for name, value in asked.data.items()}
    made = await services.secrets.service.create(
        caller, name=asked.name, secret_type=asked.secret_type, data=data, key=key
    )
    return Response(made.model_dump_json(), 201, location(made, router.prefix), JSON)


def _require_known(asked: SecretRequest) -> None:
    """Raises InvalidInput for values that this kind of secret does not have."""
    known = [field.name for field in FIELDS[asked.secret_type]]
    if not asked.data.keys() <= set(known):
        told = f"data of {asked.secret_type} has {', '.join(known)} and nothing else."
        raise InvalidInput(told, field="data")


@router.get("/{secret:path}", responses={200: {"model": SecretSummary}, **problems(404, 503)})
async def get_registry_secret(secret: str, caller: SecretViewer, services: ServicesDep) -> Response:
    """One secret, by its id or name, without its values."""
    return Response(
        (await services.secrets.service.get(caller, secret)).model_dump_json(), media_type=JSON
    )


@router.delete("/{secret:path}", status_code=204, responses={204: {}, **problems(404, 409, 503)})
async def delete_registry_secret(secret: str, caller: Keeper, services: ServicesDep) -> Response:
    """Forget a secret, by its id or name, that no image and no registry entry uses."""
    await services.secrets.service.delete(caller, secret)
    return Response(status_code=204)


@router.post("/rotate-key", responses={200: {"model": RotationView}, **problems(503)})
async def rotate_key(caller: Keeper, _: Operator, services: ServicesDep) -> Response:
    """Seal everything anew with the first configured key. Can be repeated."""
    done = await services.secrets.rotation.run()
    view = RotationView(resealed=done.resealed, unreadable=list(done.unreadable))
    return Response(view.model_dump_json(), media_type=JSON)
