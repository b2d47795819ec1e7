"""Between the Engine API's JSON and our values. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pipeline.adapters.engine_times import at, parse_moment, written
from pipeline.ports import Credentials, EngineContainer, EngineEvent, EngineInfo, LaunchPlan
from schemas.container import PortBinding
from schemas.image import Platform

Json = Any

LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
"""30 MB of output per container at most; json-file because it can be followed."""

EVENT_ACTIONS = (
    "create",
    "start",
    "die",
    "oom",
    "stop",
    "kill",
    "destroy",
    "pause",
    "unpause",
    "restart",
    "rename",
    "health_status",
)
"""Without exec_*, which every health check would send three of."""

_NOT_LABELS = frozenset({"image", "name", "exitCode", "signal", "oldName", "execDuration"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def creation(plan: LaunchPlan) -> Json:
    """The body of POST /containers/create."""
    return {
        "Image": plan.image,
        "Cmd": list(plan.command) or None,
        "Env": [f"{name}={value}" for name, value in plan.env.items()],
        "Labels": dict(plan.labels),
        "ExposedPorts": {_port_key(port): {} for port in plan.ports},
        "HostConfig": _host_config(plan),
    }


def _host_config(plan: LaunchPlan) -> Json:
    bindings: dict[str, list[Json]] = {}
    for port in plan.ports:
        place = {"HostIp": port.address, "HostPort": str(port.host or "")}
        bindings.setdefault(_port_key(port), []).append(place)
    return {
        "PortBindings": bindings,
        "Memory": plan.memory_bytes,
        # Equal to Memory: no swap. Left out, an engine grants as much swap again as memory.
        "MemorySwap": plan.memory_bytes,
        "NanoCpus": round(plan.cpus * 10**9),
        "DeviceRequests": _device_requests(plan),
        # Restarts are decided by the node agent, which counts and spaces them.
        "RestartPolicy": {"Name": "no"},
        "LogConfig": LOG_CONFIG,
    }


def _device_requests(plan: LaunchPlan) -> list[Json]:
    if not plan.gpu_devices:
        return []
    return [{"Driver": "", "DeviceIDs": list(plan.gpu_devices), "Capabilities": [["gpu"]]}]


def _port_key(port: PortBinding) -> str:
    return f"{port.internal}/{port.protocol}"


def container(found: Json) -> EngineContainer:
    """From GET /containers/{id}/json."""
    state = found["State"]
    ended = state["Status"] in ("exited", "dead")
    return EngineContainer(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        labels=found["Config"].get("Labels") or {},
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status") or "none",
        exit_code=state["ExitCode"] if ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        ports=tuple(_ports(found)),
        started_at=parse_moment(state.get("StartedAt")),
        finished_at=parse_moment(state.get("FinishedAt")),
        image_id=found["Image"],
    )


def _ports(found: Json) -> Iterator[PortBinding]:
    """As bound now; for a container that does not run, as asked for with a fixed host port."""
    actual = (found.get("NetworkSettings") or {}).get("Ports") or {}
    asked = (found.get("HostConfig") or {}).get("PortBindings") or {}
    for key, places in (actual or asked).items():
        internal, _, protocol = key.partition("/")
        for place in places or ():
            if int(place.get("HostPort") or 0):
                yield PortBinding(
                    internal=int(internal),
                    host=int(place["HostPort"]),
                    protocol=protocol or "tcp",
                    address=place.get("HostIp") or "0.0.0.0",
                )


def event(found: Json) -> EngineEvent:
    """From a line of GET /events; the health rides in the action: `health_status: healthy`."""
    action, _, health = found["Action"].partition(": ")
    facts = found["Actor"].get("Attributes") or {}
    exit_code = facts.get("exitCode")
    return EngineEvent(
        action=action,
        id=found["Actor"]["ID"],
        name=facts.get("name", ""),
        labels={name: value for name, value in facts.items() if name not in _NOT_LABELS},
        exit_code=None if exit_code is None else int(exit_code),
        health=health or None,
        time=at(found["timeNano"]),
        time_ns=found["timeNano"],
    )


def info(system: Json, version: Json) -> EngineInfo:
    """From GET /info and GET /version."""
    architecture = version.get("Arch") or system.get("Architecture") or ""
    return EngineInfo(
        version=version["Version"],
        api_version=version["ApiVersion"],
        platform=Platform(
            os=version.get("Os") or "linux",
            architecture=_ARCHITECTURES.get(architecture, architecture),
        ),
        cpus=system["NCPU"],
        memory_bytes=system["MemTotal"],
        id=system.get("ID") or None,
    )


def label_filters(labels: Mapping[str, str]) -> str:
    """The `filters` parameter: containers that carry every given label."""
    return json.dumps({"label": _label_terms(labels)})


def event_filters(labels: Mapping[str, str]) -> str:
    """The `filters` parameter: what happens to such containers."""
    return json.dumps(
        {"type": ["container"], "event": EVENT_ACTIONS, "label": _label_terms(labels)}
    )


def _label_terms(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def registry_auth(credentials: Credentials | None) -> dict[str, str]:
    """The X-Registry-Auth header. Without credentials an explicit nobody, never a stored login."""
    login = {}
    if credentials:
        login = {
            "username": credentials.username,
            "password": credentials.password,
            "serveraddress": credentials.server,
        }
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}


def split_reference(reference: str) -> tuple[str, str]:
    """Name and what to pull of it: the digest where there is one, else the tag or `latest`."""
    name, _, digest = reference.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, "latest"
    return head, digest or tag


def pulled_name(reference: str) -> str:
    """What the engine knows a pulled reference by."""
    name, version = split_reference(reference)
    return f"{name}{'@' if ':' in version else ':'}{version}"


def pull_params(reference: str, platform: str | None) -> dict[str, str]:
    name, version = split_reference(reference)
    return {"fromImage": name, "tag": version} | ({"platform": platform} if platform else {})


def log_params(*, tail: int | None, since: datetime | None, follow: bool) -> dict[str, str]:
    params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
    params |= {"follow": str(int(follow)), "tail": "all" if tail is None else str(tail)}
    return params | ({"since": written(since)} if since else {})
