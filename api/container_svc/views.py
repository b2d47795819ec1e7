"""Containers as clients of the container service know them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from api.container_svc.run_request import MEBI
from schemas.access import Permission, Principal
from schemas.container import Container
from schemas.states import ContainerStatus as Status

MASK: Final = "***"
STATUSES: Final = {
    Status.REQUESTED: "created",
    Status.PLACED: "created",
    Status.PULLING: "created",
    Status.CREATED: "created",
    Status.RUNNING: "running",
    Status.UNHEALTHY: "running",
    Status.RESTARTING: "restarting",
    Status.STOPPED: "exited",
    Status.FAILED: "exited",
    Status.LOST: "lost",
    Status.DELETED: "removed",
}
RUNNING: Final = frozenset({Status.RUNNING, Status.UNHEALTHY})
_OPEN: Final = RUNNING | {Status.RESTARTING}


def status_of(container: Container) -> str:
    if container.status is Status.FAILED and container.engine_id is None:
        return "dead"
    return STATUSES[container.status]


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def ports(container: Container) -> list[dict[str, int]]:
    """As they really are, while it holds them."""
    if container.status not in _OPEN:
        return []
    return [{"internal": port.internal, "host": port.host} for port in container.ports]


def bindings(container: Container) -> list[dict[str, Any]]:
    if container.status not in _OPEN:
        return []
    return [
        {
            "internal": port.internal,
            "host": port.host,
            "protocol": port.protocol,
            "address": port.address,
        }
        for port in container.ports
    ]


def container_view(container: Container, caller: Principal) -> dict[str, Any]:
    """Values of variables, and addresses of assets, are for those who may run."""
    may_run = Permission.CONTAINER_RUN in caller.permissions
    spec = container.spec
    view: dict[str, Any] = {
        "id": container.engine_id or "",
        "nodeId": container.node or "",
        "names": [container.name, *spec.aliases],
        "image": container.image_name or container.image,
        "ports": ports(container),
        "bindings": bindings(container),
        "hash": container.spec_hash,
        "labels": _pairs(spec.labels),
        "envs": _pairs(spec.env if may_run else dict.fromkeys(spec.env, MASK)),
        "assets": [
            {"envVarKey": each.env_key, "url": each.url if may_run else MASK}
            for each in spec.assets
        ],
        "keeps": [{"path": each.path, "readOnly": each.read_only} for each in spec.volumes],
        "volumes": [
            {"destination": each.path, "readOnly": each.read_only, "source": container.name}
            for each in spec.volumes
        ],
        "status": status_of(container),
        "runtime": "docker",
        "resources": {"cpu": spec.resources.cpus, "memoryMB": spec.resources.memory_bytes // MEBI},
        "capabilities": {"gpuEnabled": bool(spec.gpus), "gpuCount": spec.gpus or 0},
        "network": {"mode": "bridge"},
        "health": _health(container),
        "restarts": container.restarts,
        "exitCode": container.exit_code,
        "createdAt": time_text(container.created_at),
    }
    if container.status is Status.DELETED and container.status_since is not None:
        view["removedAt"] = time_text(container.status_since)
    return view


def _pairs(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in given.items()]


def _health(container: Container) -> str:
    if container.status not in RUNNING or not container.has_probe:
        return "none"
    if container.status is Status.UNHEALTHY:
        return "unhealthy"
    return "starting" if container.healthy_since is None else "healthy"


def status_text(container: Container) -> str:
    """For people."""
    lines = {
        "ID": container.engine_id or "none yet",
        "Name": ", ".join([container.name, *container.spec.aliases]),
        "Image": container.image_name or container.image,
        "State": f"{status_of(container)}{f': {container.reason}' if container.reason else ''}",
        "Health": _health(container),
        "Created": time_text(container.created_at),
        "Started": time_text(container.started_at) if container.started_at else "never",
        "Restarts": str(container.restarts),
        "Ports": ", ".join(
            f"{each['address']}:{each['host']} -> {each['internal']}/{each['protocol']}"
            for each in bindings(container)
        )
        or "none",
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())
