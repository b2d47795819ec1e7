"""`/yard/v1/catalog`: what is known of the images of the catalogue, and where they can run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from api.http.answers import JSON
from api.http.auth import GuardedRoute, ServicesDep, needs
from api.http.problem_details import problems
from pipeline.catalog import drafts
from pipeline.placement.node_checks import NodeCheck
from schemas.access import Permission, Principal
from schemas.image import Finding
from schemas.registries.catalog import CatalogEntry, ValidationStatus

router = APIRouter(prefix="/yard/v1/catalog", tags=["docker images"], route_class=GuardedRoute)

Viewer = Annotated[Principal, needs(Permission.CATALOG_VIEW)]
NodeViewer = Annotated[Principal, needs(Permission.NODE_VIEW)]


class ValidationView(BaseModel):
    """What a worker found out about the image."""

    status: ValidationStatus
    code: str | None
    """Of a failure: `invalid_reference`, `registry_mismatch`, `not_found`, `denied`,
    `unreachable`, or what is wrong with the image."""
    detail: str | None
    digest: str | None
    findings: list[Finding]
    checked_at: datetime | None
    revision: int | None
    """The one that was validated."""


class CatalogView(BaseModel):
    image: dict[str, Any]
    """As `/v1/docker/{pk}` shows it; its password is null."""
    revision: int
    """Counts changes of `image`; its validation does not move it."""
    created_at: datetime
    updated_at: datetime
    validation: ValidationView


class ReasonView(BaseModel):
    """Why a node cannot run it."""

    code: str
    detail: str
    required: Any
    actual: Any


class NodeEligibility(BaseModel):
    id: str
    name: str
    eligible: bool
    reasons: list[ReasonView]
    """All that apply."""


class RequirementsView(BaseModel):
    gpu: bool
    cuda_version: str | None
    min_driver_version: str | None
    min_compute_capability: float | None


class CatalogImage(BaseModel):
    pk: int
    name: str
    version: str


class CatalogNodes(BaseModel):
    image: CatalogImage
    requirements: RequirementsView
    nodes: list[NodeEligibility]


@router.get("/{pk}", responses={200: {"model": CatalogView}, **problems(404, 503)})
async def get_catalog_entry(pk: str, caller: Viewer, services: ServicesDep) -> Response:
    """One image of the catalogue, with what the validation of it found."""
    entry = await services.catalog.service.called(caller, pk)
    rows = await services.catalog.rows.snapshot()
    view = CatalogView(
        image=drafts.shown(dict(entry), rows, None),
        revision=entry.edition,
        created_at=entry.created_at,
        updated_at=entry.changed_at,
        validation=_validation(entry),
    )
    return Response(view.model_dump_json(), 200, {"ETag": f'"{entry.edition}"'}, JSON)


@router.get("/{pk}/nodes", responses={200: {"model": CatalogNodes}, **problems(404, 503)})
async def list_catalog_nodes(
    pk: str, caller: Viewer, _: NodeViewer, services: ServicesDep
) -> Response:
    """Which nodes could run it now, and for each other one every reason why not: the check of the
    scheduler itself."""
    entry = await services.catalog.service.called(caller, pk)
    gate, image = await services.catalog.gates.of_entry(entry)
    check = await services.placement.checks.of_gate(gate, image)
    named = CatalogImage(pk=entry.pk, name=entry.name, version=entry.version)
    view = CatalogNodes(image=named, requirements=requirements(check), nodes=eligibility(check))
    return Response(view.model_dump_json(), media_type=JSON)


def requirements(check: NodeCheck) -> RequirementsView:
    needed = check.requirements
    return RequirementsView(
        gpu=needed.gpu,
        cuda_version=needed.cuda_version,
        min_driver_version=needed.min_driver_version,
        min_compute_capability=needed.min_compute_capability,
    )


def eligibility(check: NodeCheck) -> Sequence[NodeEligibility]:
    return [
        NodeEligibility(
            id=node.uuid,
            name=node.name,
            eligible=not reasons,
            reasons=[ReasonView(**reason.facts()) for reason in reasons],
        )
        for node, reasons in check.nodes
    ]


def _validation(entry: CatalogEntry) -> ValidationView:
    known = entry.validation.model_dump()
    return ValidationView(**{**known, "revision": known.pop("edition")})
