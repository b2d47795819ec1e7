"""What a run asks for, and the hash that tells it from any other. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.errors import InvalidInput
from schemas import container as core
from schemas.base import Name

CUDA: Final = "$cudaVersion"
MEBI: Final = 2**20
Text = Annotated[str, StringConstraints(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class PortMapping(Part):
    internal: Whole = Field(ge=1, le=65535)
    host: Whole = Field(default=0, ge=0, le=65535)
    """0: any that is free."""
    protocol: Literal["tcp", "udp"] = "tcp"


class Pair(Part):
    key: Text
    value: Text = ""


class Asset(Part):
    envVarKey: Text
    url: Text
    sha256: Text = ""


class Keep(Part):
    path: Text
    readOnly: Flag = False


class Capabilities(Part):
    gpuEnabled: Flag = False
    gpuCount: Whole = Field(default=0, ge=0, le=1024)
    """0: one, where GPUs are enabled."""


class Resources(Part):
    cpu: float = Field(default=0, ge=0, allow_inf_nan=False)
    memoryMB: Whole = Field(default=0, ge=0, le=2**40)


class HealthCheck(Part):
    port: Whole = Field(ge=1, le=65535)
    path: Text = Field(default="/", pattern="^/")
    intervalSeconds: float = Field(default=10, gt=0, le=3600)
    timeoutSeconds: float = Field(default=5, gt=0, le=600)
    retries: Whole = Field(default=3, ge=1, le=100)
    startPeriodSeconds: float = Field(default=30, ge=0, le=86400)


class RunRequest(Part):
    """The body of a run; what it does not know is ignored."""

    image: Text = Field(min_length=1, max_length=512)
    names: list[Name] = Field(default_factory=list, max_length=33)
    """The first is what the engine calls it, the others are aliases."""
    ports: list[PortMapping] = Field(default_factory=list)
    hash: Text = ""
    """Empty: that of all fields but `nodeId`."""
    labels: list[Pair] = Field(default_factory=list)
    envs: list[Pair] = Field(default_factory=list)
    assets: list[Asset] = Field(default_factory=list)
    keeps: list[Keep] = Field(default_factory=list)
    capabilities: Capabilities = Field(default_factory=Capabilities)
    resources: Resources = Field(default_factory=Resources)
    restartPolicy: Literal["no", "on-failure", "always"] = "on-failure"
    healthCheck: HealthCheck | None = None
    registrySecret: Text = ""
    nodeId: Text = ""


def spec_hash(wanted: RunRequest) -> str:
    """The caller's own, else SHA-256 in hex of the canonical spec."""
    return wanted.hash or hashlib.sha256(canonical(wanted).encode()).hexdigest()


def canonical(wanted: RunRequest) -> str:
    """JSON with sorted keys and every default, lists sorted except `names`."""
    plain = wanted.model_dump(mode="json", exclude={"hash", "nodeId"})
    if wanted.capabilities.gpuEnabled:
        plain["capabilities"]["gpuCount"] = gpus(wanted)
    for name, value in plain.items():
        if isinstance(value, list) and name != "names":
            plain[name] = sorted(value, key=_json)
    return _json(plain)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def gpus(wanted: RunRequest) -> int:
    return max(1, wanted.capabilities.gpuCount) if wanted.capabilities.gpuEnabled else 0


def names_of(wanted: RunRequest) -> list[str]:
    """Those that were given, or one that follows from the hash."""
    if wanted.names:
        return list(dict.fromkeys(wanted.names))
    return [f"c-{hashlib.sha256(spec_hash(wanted).encode()).hexdigest()[:24]}"]


def container_spec(wanted: RunRequest, *, image: str, node: str | None) -> core.ContainerSpec:
    """In the words of the core. Raises InvalidInput."""
    name, *aliases = names_of(wanted)
    check = wanted.healthCheck
    return core.ContainerSpec(
        image=image,
        name=name,
        engine_name=name,
        aliases=aliases,
        env=_pairs(wanted.envs, "envs"),
        labels=_pairs(wanted.labels, "labels"),
        ports=[core.PortSpec(**port.model_dump()) for port in wanted.ports],
        publish_exposed=False,
        gpus=gpus(wanted),
        resources=core.Resources(
            cpus=wanted.resources.cpu, memory_bytes=wanted.resources.memoryMB * MEBI
        ),
        node=node,
        restart=core.RestartPolicy(wanted.restartPolicy),
        health=None if check is None else _health(check),
        volumes=[core.VolumeMount(path=k.path, read_only=k.readOnly) for k in wanted.keeps],
        assets=[
            core.Asset(env_key=a.envVarKey, url=a.url, sha256=a.sha256 or None)
            for a in wanted.assets
        ],
    )


def _health(check: HealthCheck) -> core.HealthCheck:
    return core.HealthCheck(
        port=check.port,
        path=check.path,
        interval_s=check.intervalSeconds,
        timeout_s=check.timeoutSeconds,
        retries=check.retries,
        start_period_s=check.startPeriodSeconds,
    )


def _pairs(given: Sequence[Pair], field: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        if not pair.key:
            raise InvalidInput(f"{field}: every key is some text.", field=field)
        if pair.key in found:
            raise InvalidInput(f"{field}: {pair.key[:255]} is given twice.", field=field)
        found[pair.key] = pair.value
    return found


def require_sound(wanted: RunRequest) -> None:
    """What can be said of it before anybody is asked. Raises InvalidInput."""
    if CUDA in wanted.image and not wanted.capabilities.gpuEnabled:
        raise InvalidInput(
            f"{CUDA} asks for the version of a GPU's driver: set capabilities.gpuEnabled.",
            field="image",
        )
    _pairs(wanted.envs, "envs")
    _pairs(wanted.labels, "labels")
