"""What the requests of owners make of a deployment's values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline.deployments import schedules
from pipeline.errors import Conflict, InvalidInput, NotFound
from pipeline.records.idempotency import fingerprint
from schemas.container import ContainerSpec
from schemas.deployment import AutoscalePolicy, Deployment, Template


def made(spec: ContainerSpec, at: datetime, *, salt: str = "") -> Template:
    """`salt` makes another template of the same spec."""
    return Template(generation=0, hash=fingerprint(spec) + salt, spec=spec, made_at=at)


def numbered(template: Template, deployment: Deployment) -> Template:
    """One that was there before keeps its generation."""
    known = [deployment.template, *deployment.history]
    for earlier in known:
        if earlier.hash == template.hash:
            return earlier
    newest = max(each.generation for each in known)
    return template.model_copy(update={"generation": newest + 1})


def policy(given: AutoscalePolicy | None) -> AutoscalePolicy | None:
    """None for a rule that says nothing. Raises InvalidInput."""
    if given is None or given == AutoscalePolicy():
        return None
    schedules.require_valid(given.schedules)
    return given


def idle_at(deployment: Deployment, values: Mapping[str, Any], at: datetime) -> datetime | None:
    """Whoever changes it uses it."""
    after = Deployment.model_validate({**dict(deployment), **values, "idle_at": None})
    return after.idle_when_used(at)


def require_order(low: int, high: int) -> None:
    if low > high:
        raise InvalidInput(
            f"min_replicas {low} is more than max_replicas {high}.", field="min_replicas"
        )


def refuse_owned(deployment: Deployment) -> None:
    """Raises Conflict for one that follows the version of a model."""
    if (owner := deployment.owner) is not None:
        raise Conflict(
            f"The deployment {deployment.name} answers calls of a model and follows it: change"
            f" /api/models/{owner.model}/versions/{owner.version} instead, or end it by POST"
            " shutdown there."
        )


def gone() -> NotFound:
    return NotFound("The image was deleted meanwhile: bring it again if it is wanted still.")


def taken(name: str) -> str:
    return f"A deployment named {name} exists already: delete it or choose another."
