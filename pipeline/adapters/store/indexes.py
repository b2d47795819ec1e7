"""Which collections there are and which indexes each one has: a new record kind is a new row.

An index is listed here because a query needs it or because a rule holds through it. Every kind
also gets the ones in `indexes_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from schemas.access import AuditEntry, Token, User
from schemas.base import Record, StatefulRecord
from schemas.container import Container, Desired, Volume
from schemas.deployment import Deployment
from schemas.image import Build, Image, Upload
from schemas.model import Model, ModelFile, ModelVersion
from schemas.node import Node
from schemas.organisation import Organisation
from schemas.registries.catalog import CatalogEntry, CatalogRow
from schemas.registries.registry import Registry, RegistryHistory, RegistrySpace
from schemas.registries.secret import Secret
from schemas.states import (
    ContainerStatus,
    DeploymentStatus,
    ImageStatus,
    NodeStatus,
    VolumeStatus,
    WebhookDeliveryStatus,
    WebhookStatus,
)
from schemas.webhook import Webhook, WebhookDelivery


@dataclass(frozen=True, slots=True)
class Index:
    """`only` makes it partial: records that do not match are not in it."""

    name: str
    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    only: Mapping[str, Any] | None = None


def _ascending(*fields: str) -> tuple[tuple[str, int], ...]:
    return tuple((field, 1) for field in fields)


def _living(states: type[StrEnum]) -> dict[str, list[str]]:
    # A partial index knows `$in` and no `$ne`.
    return {"$in": [state.value for state in states if state.value != "DELETED"]}


def _set(field: str) -> dict[str, dict[str, str]]:
    """Some text. `$type` would say it better, but no query is known to imply that."""
    return {field: {"$gt": ""}}


def _present(field: str) -> dict[str, dict[str, bool]]:
    return {field: {"$exists": True}}


SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Before all others: what is later is a time and not null. Queries name it, too."""
_NEWEST = (("created_at", -1), ("_id", -1))
_LISTED = (("org", 1), ("deleted", 1))
_OLDEST = (("created_at", 1), ("id", 1))

_LAUNCHING = (
    ContainerStatus.REQUESTED,
    ContainerStatus.PLACED,
    ContainerStatus.PULLING,
    ContainerStatus.CREATED,
)

_PAGES = Index("org_newest", (("org", 1), *_NEWEST))
_PAGES_BY_STATUS = Index("status_org_newest", (("status", 1), ("org", 1), *_NEWEST))
_PAGES_BY_NAME = Index("name_org_newest", (*_ascending("name", "org"), *_NEWEST))
_UNSENT = Index("unsent", _ascending("outbox.time"), only=_present("outbox.time"))
"""Holds only what waits to be sent, so that a sweep that finds nothing reads nothing."""

INDEXES: dict[type[Record], tuple[Index, ...]] = {
    Image: (
        _PAGES_BY_NAME,
        Index(
            "name_taken",
            _ascending("org", "name"),
            unique=True,
            only={"named": True, "status": _living(ImageStatus)},
        ),
        Index("reference", (*_ascending("reference", "org"), *_NEWEST)),
        Index("digest", _ascending("digest", "org"), only=_set("digest")),
        Index("secret", _ascending("secret", "org"), only=_set("secret")),
        Index("unregistered", _ascending("status", "unregistered_at", "source")),
        Index("catalog", _ascending("catalog", "org"), only={"catalog": {"$gt": 0}}),
        Index("repository", _ascending("parts.repository", "org")),
    ),
    Upload: (Index("ended", _ascending("status_since")),),
    Container: (
        _PAGES_BY_NAME,
        Index(
            "name_taken",
            _ascending("org", "name"),
            unique=True,
            only={
                "status": _living(ContainerStatus),
                "desired": {"$in": [Desired.RUNNING.value, Desired.STOPPED.value]},
                "replaces": None,
            },
        ),
        Index(
            "replaced_once",
            _ascending("replaces", "org"),
            unique=True,
            only={**_set("replaces"), "status": _living(ContainerStatus)},
        ),
        Index(
            "waiting",
            _ascending("status", "updated_at"),
            only={"status": {"$in": [state.value for state in _LAUNCHING]}},
        ),
        Index(
            "line",
            (("org", 1), ("spec.priority", -1), ("status_since", 1)),
            only={"queue_position": {"$gt": 0}},
        ),
        Index("node_status", _ascending("node", "status")),
        Index("image_status", _ascending("image", "status")),
        Index("aliases", _ascending("spec.aliases", "org"), only=_present("spec.aliases.0")),
        Index("hash", _ascending("spec_hash", "org")),
        Index("engine", _ascending("engine_id", "org"), only=_set("engine_id")),
        Index("deployment", _ascending("deployment", "status"), only=_set("deployment")),
        Index("drained", _ascending("drain_until"), only={"drain_until": {"$gt": SOME_TIME}}),
        Index("unordered_ends", _ascending("updated_at"), only={"delete_volumes": True}),
    ),
    Build: (
        Index("node_status", _ascending("node", "status")),
        Index("over", _ascending("updated_at"), only={"status": {"$in": ["DONE", "FAILED"]}}),
    ),
    Volume: (
        Index(
            "path_taken",
            _ascending("org", "name", "path"),
            unique=True,
            only={"status": VolumeStatus.READY.value},
        ),
        Index("node_status", _ascending("node", "status")),
    ),
    Deployment: (
        _PAGES_BY_NAME,
        Index(
            "name_taken",
            _ascending("org", "name"),
            unique=True,
            only={"status": _living(DeploymentStatus)},
        ),
        Index("image", _ascending("template.spec.image", "org")),
        Index(
            "ruled", _ascending("autoscale.cooldown_s"), only={"autoscale.cooldown_s": {"$gte": 0}}
        ),
        Index("idle", _ascending("idle_at"), only={"idle_at": {"$gt": SOME_TIME}}),
        Index("owner", _ascending("owner.model", "owner.version"), only=_set("owner.model")),
    ),
    Node: (
        Index("name_taken", _ascending("name"), unique=True, only={"status": _living(NodeStatus)}),
        Index("drained", _ascending("drain.since"), only={"drain.since": {"$gt": SOME_TIME}}),
    ),
    Model: (_PAGES_BY_NAME,),
    ModelVersion: (
        Index("model", _ascending("model", "org")),
        Index("loading", _ascending("load.alive_at"), only={"load.phase": "running"}),
        Index("running", _ascending("run.alive_at"), only={"run.phase": "running"}),
        # What a version before wrote: empty, so that looking for it is free.
        Index("earlier_version", _ascending("serve.phase"), only=_present("serve.phase")),
        Index("superseded", _ascending("superseded.0"), only=_present("superseded.0")),
    ),
    ModelFile: (Index("owner", _ascending("owner", "org")),),
    # Of deleted ones, too: `OrganisationStatus.DELETED`.
    Organisation: (Index("slug_taken", _ascending("slug"), unique=True),),
    User: (
        Index("name_taken", _ascending("name", "org"), unique=True),
        Index("disabled", _ascending("active"), only={"active": False}),
        Index("changed", _ascending("generation"), only={"generation": {"$gt": 0}}),
    ),
    Token: (
        Index("ended", _ascending("org", "kind", "expires_at")),
        Index("revoked", _ascending("expires_at"), only={"revoked_at": {"$gt": SOME_TIME}}),
    ),
    Secret: (Index("name_taken", _ascending("name", "org"), unique=True),),
    Registry: (
        Index(
            "id_used", _ascending("org", "id"), unique=True, only={"deleted": False, **_set("id")}
        ),
        # What a version before wrote, see `renaming`: empty, so that looking for it is free.
        Index(
            "earlier_version",
            _ascending("container_registry_id"),
            only=_set("container_registry_id"),
        ),
        # `deleted` is a key, not a condition, so that counting needs no documents.
        Index("oldest", (*_LISTED, *_OLDEST)),
        # Read backwards, the one above has the ids in the wrong order.
        Index("newest", (*_LISTED, ("created_at", -1), ("id", 1))),
        Index("tags", (*_LISTED, ("tags", 1), *_OLDEST)),
        Index("name", (*_LISTED, ("name", 1), *_OLDEST)),
        Index("metadata", (("metadata.$**", 1),)),
        Index("host", _ascending("host", "org"), only={"deleted": False}),
        Index("due", _ascending("check_at"), only={"deleted": False}),
        Index("gone", _ascending("changed_at"), only={"deleted": True}),
        Index("secret", _ascending("secret", "org"), only=_set("secret")),
    ),
    Webhook: (
        Index(
            "name_taken",
            _ascending("org", "name"),
            unique=True,
            only={"status": _living(WebhookStatus)},
        ),
    ),
    WebhookDelivery: (
        Index("webhook_newest", (*_ascending("webhook", "org"), *_NEWEST)),
        Index(
            "line",
            _ascending("webhook", "about", "sequence"),
            only={"status": WebhookDeliveryStatus.PENDING.value},
        ),
        Index("due", _ascending("next_at"), only={"next_at": {"$gt": SOME_TIME}}),
        Index("old", _ascending("created_at")),
    ),
    CatalogRow: (
        Index("claims", _ascending("claims"), unique=True, only={"deleted": False}),
        Index("origin", _ascending("origin"), unique=True, only=_set("origin")),
    ),
    CatalogEntry: (
        Index(
            "name_taken", _ascending("org", "name", "version"), unique=True, only={"deleted": False}
        ),
        # `deleted` is a key, not a condition, so that counting needs no documents.
        Index("keys", (*_LISTED, ("pk", 1))),
        *(
            Index(field, (*_LISTED, (field, 1), ("pk", 1)))
            for field in (
                *("name", "version", "url", "registry_url", "registry_username", "cpu"),
                *("cuda_version", "framework", "domain", "tasks"),
                *("min_hardware_generation", "licence"),
            )
        ),
        *(
            Index(f"{field}_used", _ascending(field), only={"deleted": False})
            for field in (
                *("cuda_version", "framework", "domain", "tasks"),
                *("min_hardware_generation", "licence"),
            )
        ),
        Index("reference", _ascending("reference", "org"), only=_set("reference")),
        Index("key_used", _ascending("key"), unique=True, only=_set("key")),
        Index("unvalidated", _ascending("validation.status", "updated_at")),
        Index("retried", _ascending("retry_at"), only={"retry_at": {"$gt": SOME_TIME}}),
        Index("gone", _ascending("changed_at"), only={"deleted": True}),
    ),
    AuditEntry: (
        *(Index(each, ((each, 1), ("org", 1), *_NEWEST)) for each in ("actor", "action", "target")),
        Index("old", _ascending("created_at")),
    ),
    RegistryHistory: (),
    RegistrySpace: (),
}


def indexes_of(kind: type[Record]) -> tuple[Index, ...]:
    by_status = (_PAGES_BY_STATUS,) if issubclass(kind, StatefulRecord) else ()
    return (_PAGES, *by_status, _UNSENT, *INDEXES[kind])
