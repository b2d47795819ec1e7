"""Deployments in the words of clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from api.imported_containers import autoscale_config
from api.imported_containers.answers import time_text
from api.imported_containers.deployment_drafts import CPU
from api.imported_containers.fields import Fields, NetworkFields, kept
from api.imported_containers.model_repo_drafts import health_check
from pipeline.images.specs import env_text
from schemas.access import Permission, Principal
from schemas.container import HealthCheck
from schemas.deployment import Deployment
from schemas.image import Image
from schemas.states import DeploymentStatus as Status

MASK: Final = "***"
STATUSES: Final[Mapping[Status, str]] = {
    **{status: status.value for status in Status},
    Status.DEGRADED: "DEPLOYING",
}
"""One that lost a replica is on its way again; its health says more."""


class PrivateObject(BaseModel):
    """A deployment as its creation answers."""

    uuid: str
    model_repo: str
    name: str
    slug: str
    org: str
    deployment_tag: str
    min_pod_replicas: int
    max_pod_replicas: int
    autoscale_config: dict[str, Any] | None
    persistent_volume_claims: Any
    env_variables: dict[str, Any]
    deployment_custom_configuration: Any
    ports: dict[str, Any] | None
    healthcheck: dict[str, Any] | None
    fast_scaleup: bool
    model_endpoint: str | None


class FullObject(PrivateObject):
    """All that is told of a deployment."""

    gpu_id: str | None
    cluster: str | None
    node_groups: list[str]
    status: str
    scale_to_zero_enabled: bool
    async_deployment_type: str
    advanced_configuration: Any
    accelerator_type: list[str]
    accelerator_count: int
    created_at: str
    updated_at: str


class ListedObject(BaseModel):
    """A deployment in the list by models."""

    deployment_id: str
    deployment_name: str
    model_repo_id: str
    model_repo_name: str
    model_type: str = "byom"
    accelerator_type: list[str]
    accelerator_count: int
    status: str


class HealthMessage(BaseModel):
    message: str
    severity: str


class Pods(BaseModel):
    ready: int
    not_ready: int


class DeploymentHealth(BaseModel):
    data: str
    messages: list[HealthMessage]
    pods: Pods


def asked(deployment: Deployment, image: Image | None) -> dict[str, Any]:
    """What there should be, in the words of a request: as it was sent, where that is still so."""
    sent = kept(deployment.annotations)
    now = {
        "name": deployment.name,
        "min_pod_replicas": deployment.min_replicas,
        "max_pod_replicas": deployment.max_replicas,
        "autoscale_config": autoscale_config.shown(
            deployment.autoscale, sent.get("autoscale_config")
        ),
        "scale_to_zero_enabled": bool(deployment.autoscale and deployment.autoscale.scale_to_zero),
        "env_variables": _env(deployment, image, sent.get("env_variables") or {}),
        "gpu_id": _gpu_id(deployment, sent.get("gpu_id")),
        "nodegroups": deployment.template.spec.node_groups,
        **_network(deployment, sent),
    }
    return sent | now


def full(
    deployment: Deployment, image: Image | None, caller: Principal, *, org: str, gateway: str
) -> FullObject:
    """`org` is the UUID; values of the environment are for those who may write deployments."""
    given = asked(deployment, image)
    env = given["env_variables"]
    if Permission.DEPLOYMENT_WRITE not in caller.permissions:
        env = dict.fromkeys(env, MASK)
    return FullObject(
        uuid=deployment.uuid,
        model_repo=deployment.template.spec.image,
        slug=deployment.slug,
        org=org,
        deployment_tag=given.get("deployment_tag", "production"),
        persistent_volume_claims=given.get("persistent_volume_claims"),
        deployment_custom_configuration=given.get("deployment_custom_configuration"),
        fast_scaleup=given.get("fast_scaleup", False),
        model_endpoint=f"{gateway}/{deployment.slug}/" if gateway else None,
        cluster=given.get("cluster"),
        node_groups=given["nodegroups"],
        status=STATUSES[deployment.status],
        async_deployment_type=given.get("async_deployment_type", "SYNC"),
        advanced_configuration=given.get("advanced_configuration"),
        accelerator_type=_accelerators(given["gpu_id"]),
        accelerator_count=deployment.template.spec.gpus or 0,
        created_at=time_text(deployment.created_at),
        updated_at=time_text(deployment.updated_at),
        **{name: given[name] for name in _AS_ASKED} | {"env_variables": env},
    )


_AS_ASKED: Final = (
    *("name", "min_pod_replicas", "max_pod_replicas", "autoscale_config", "env_variables"),
    *("ports", "healthcheck", "gpu_id", "scale_to_zero_enabled"),
)


def listed(deployment: Deployment, image: Image | None) -> ListedObject:
    given = asked(deployment, image)
    return ListedObject(
        deployment_id=deployment.uuid,
        deployment_name=deployment.name,
        model_repo_id=deployment.template.spec.image,
        model_repo_name=image.name if image else "",
        accelerator_type=_accelerators(given["gpu_id"]),
        accelerator_count=deployment.template.spec.gpus or 0,
        status=STATUSES[deployment.status],
    )


def health(deployment: Deployment) -> DeploymentHealth:
    word = _word(deployment)
    severity = _SEVERITIES.get(word, "info")
    told = (
        [HealthMessage(message=deployment.reason, severity=severity)] if deployment.reason else []
    )
    missing = max(deployment.wanted - deployment.ready, 0)
    return DeploymentHealth(
        data=word, messages=told, pods=Pods(ready=deployment.ready, not_ready=missing)
    )


_SEVERITIES: Final = {"Degraded": "warning", "Missing": "error", "Unhealthy": "error"}


def _word(deployment: Deployment) -> str:
    match deployment.status:
        case Status.SCALED_DOWN:
            return "SCALED_DOWN"
        case Status.DEPLOYED:
            return "Healthy"
        case Status.DEPLOYING | Status.DEGRADED if not deployment.slots and deployment.replace_at:
            # The last one ended, and the next one waits for its time.
            return "Missing"
        case Status.DEPLOYING:
            return "Progressing" if deployment.good or deployment.ready else "Initializing"
        case Status.DEGRADED | Status.FAILED:
            return "Degraded" if deployment.ready else "Unhealthy"
    return "Unknown"


def _env(deployment: Deployment, image: Image | None, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the image's own; values as they were sent, where they still are these."""
    own = image.defaults.env if image else {}
    found: dict[str, Any] = {}
    for name, text in deployment.template.spec.env.items():
        if name in sent and env_text(sent[name]) == text:
            found[name] = sent[name]
        elif name not in own or env_text(own[name]) != text:
            found[name] = text
    return found


def _gpu_id(deployment: Deployment, sent: str | None) -> str | None:
    spec = deployment.template.spec
    if sent is not None and sent.lower() == CPU and not spec.gpus:
        return sent
    return spec.gpu_model if spec.gpus else sent and CPU


def _accelerators(gpu_id: str | None) -> Sequence[str]:
    return [] if gpu_id is None or gpu_id.lower() == CPU else [gpu_id]


def _network(deployment: Deployment, sent: Mapping[str, Any]) -> dict[str, Any]:
    spec = deployment.template.spec
    internal = [port.internal for port in spec.ports]
    known = NetworkFields(Fields(sent))
    ports, check = sent.get("ports"), known.healthcheck or None
    if known.ports and not set(known.ports.values()) <= set(internal):
        ports = {"http": {"port": internal[0]}} if internal else None
    http = {"http": spec.health.port} if spec.health else {}
    if spec.health != health_check(known.healthcheck, http):
        check = _check(spec.health) if spec.health else None
    return {"ports": ports, "healthcheck": check}


def _check(health: HealthCheck) -> dict[str, Any]:
    return {
        "path": health.path,
        "port": health.port,
        "initialDelaySeconds": health.start_period_s,
        "periodSeconds": health.interval_s,
        "timeoutSeconds": health.timeout_s,
    }
