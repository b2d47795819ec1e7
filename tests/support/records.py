"""Records as tests need them: complete, and boring where the test does not look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.records.idempotency import new_id
from schemas.container import Container, ContainerSpec
from schemas.deployment import Deployment, Template
from schemas.image import Image, Platform, ReferenceParts
from schemas.message import Message
from schemas.node import Gpu, Inventory, Node
from schemas.registries.catalog import CatalogEntry

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ORG = "acme"
GIB = 2**30
AMD64 = Platform(architecture="amd64")


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def image(*, at: datetime = AT, org: str = ORG, **values: Any) -> Image:
    given: dict[str, Any] = {
        "uuid": new_id(),
        "name": "model",
        "reference": "registry.test/model:1",
        "parts": ReferenceParts(registry="registry.test", repository="model", tag="1"),
    }
    return Image(org=org, created_at=at, updated_at=at, **given | values)


def container(*, at: datetime = AT, org: str = ORG, **values: Any) -> Container:
    given: dict[str, Any] = {
        "uuid": new_id(),
        "name": new_id(),
        "spec": ContainerSpec(image="model"),
        "spec_hash": "0" * 64,
        "image": "image",
        "pull": "registry.test/model@sha256:0",
    }
    return Container(org=org, created_at=at, updated_at=at, **given | values)


def template(generation: int = 1) -> Template:
    spec = ContainerSpec(image=f"image-{generation}")
    return Template(generation=generation, hash=f"hash-{generation}", spec=spec, made_at=AT)


def deployment(*, at: datetime = AT, org: str = ORG, **values: Any) -> Deployment:
    """Of two replicas, none of which is there."""
    given: dict[str, Any] = {
        "uuid": new_id(),
        "name": "model",
        "template": template(),
        "rollout_since": at,
        "rollout_timeout_s": 100,
        "in_place": False,
        "min_replicas": 0,
        "max_replicas": 10,
        "replicas": 2,
    }
    return Deployment(org=org, created_at=at, updated_at=at, **given | values)


def gpu(uuid: str, **values: Any) -> Gpu:
    given: dict[str, Any] = {
        "index": 0,
        "model": "NVIDIA A100-SXM4-80GB",
        "memory_bytes": 80 * GIB,
        "compute_capability": "8.0",
    }
    return Gpu(uuid=uuid, **given | values)


def inventory(*gpus: Gpu, **values: Any) -> Inventory:
    given: dict[str, Any] = {
        "engine_version": "26.1.5",
        "platform": AMD64,
        "cpus": 16,
        "memory_bytes": 64 * GIB,
        "driver": "550.54.14" if gpus else None,
        "cuda": "12.4" if gpus else None,
    }
    return Inventory(gpus=list(gpus), **given | values)


def node(name: str = "node-1", *gpus: Gpu, at: datetime = AT, **values: Any) -> Node:
    given: dict[str, Any] = {
        "uuid": new_id(),
        "org": "installation",
        "name": name,
        "address": "127.0.0.1",
        "inventory": inventory(*gpus),
        "last_heartbeat": at,
        "agent_started_at": at,
    }
    return Node(created_at=at, updated_at=at, **given | values)


def catalog_entry(*, at: datetime = AT, org: str = ORG, **values: Any) -> CatalogEntry:
    """Of an image that runs on CPUs."""
    given: dict[str, Any] = {
        **{"pk": 1, "name": "model", "version": "1"},
        **{"url": "registry.test/model:1", "registry_url": "registry.test"},
        **dict.fromkeys(("cuda_version", "framework", "domain", "licence"), 1),
        **{"tasks": [], "cpu": True, "reference": "registry.test/model:1", "changed_at": at},
    }
    given |= values
    return CatalogEntry(uuid=str(given["pk"]), org=org, created_at=at, updated_at=at, **given)


def message(id: str = "m1", *, at: datetime = AT) -> Message:
    return Message(id=id, subject="yard.evt.acme.image.x.created", type="test", time=at)
