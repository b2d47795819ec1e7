"""The states of every resource and the only moves between them.

`pipeline.adapters.store` refuses any write of `status` that is not listed here, so a new state is
a new row here and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum


class ImageStatus(StrEnum):
    PENDING = "PENDING"
    UPLOADING = "UPLOADING"
    VALIDATING = "VALIDATING"
    READY = "READY"
    FAILED = "FAILED"
    DELETED = "DELETED"


class UploadStatus(StrEnum):
    RECEIVING = "RECEIVING"
    INGESTING = "INGESTING"
    """All bytes are here and on their way into the registry."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    DELETED = "DELETED"


class ContainerStatus(StrEnum):
    REQUESTED = "REQUESTED"
    PLACED = "PLACED"
    PULLING = "PULLING"
    CREATED = "CREATED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    RESTARTING = "RESTARTING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    LOST = "LOST"
    DELETED = "DELETED"


class NodeStatus(StrEnum):
    READY = "READY"
    NOT_READY = "NOT_READY"
    """The agent beats, its engine does not answer."""
    LOST = "LOST"
    DELETED = "DELETED"


class BuildStatus(StrEnum):
    QUEUED = "QUEUED"
    """Its node has it, or is about to get it, and builds others first."""
    BUILDING = "BUILDING"
    PUSHING = "PUSHING"
    """Built, and on its way into the platform's registry."""
    DONE = "DONE"
    FAILED = "FAILED"


class VolumeStatus(StrEnum):
    READY = "READY"
    DELETING = "DELETING"
    """No container gets it any more; its node removes it."""
    DELETED = "DELETED"


class DeploymentStatus(StrEnum):
    """What is true of all replicas together."""

    DEPLOYING = "DEPLOYING"
    """Replicas are on their way: of a new template, or more of them."""
    DEPLOYED = "DEPLOYED"
    """As many as are wanted are ready, all of the newest template."""
    DEGRADED = "DEGRADED"
    """It was DEPLOYED, and a replica is failing or gone."""
    FAILED = "FAILED"
    """The template does not become ready, and there is none to go back to."""
    SCALED_DOWN = "SCALED_DOWN"
    """No replica is wanted, and none is there."""
    DELETING = "DELETING"
    DELETED = "DELETED"


class OrganisationStatus(StrEnum):
    ACTIVE = "ACTIVE"
    DELETED = "DELETED"
    """Its tokens open nothing, and its slug stays taken: what it left would be its successor's."""


class WebhookStatus(StrEnum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    """By its owner, or because its receiver said that it is gone."""
    DELETED = "DELETED"


class WebhookDeliveryStatus(StrEnum):
    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"
    """Given up after the last try; it can be sent again by hand."""


_I = ImageStatus
IMAGE_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _I.PENDING: frozenset({_I.UPLOADING, _I.VALIDATING, _I.FAILED, _I.DELETED}),
    _I.UPLOADING: frozenset({_I.VALIDATING, _I.READY, _I.FAILED, _I.DELETED}),
    _I.VALIDATING: frozenset({_I.READY, _I.FAILED, _I.DELETED}),
    _I.READY: frozenset({_I.DELETED}),
    _I.FAILED: frozenset({_I.DELETED}),
    _I.DELETED: frozenset(),
}

_C = ContainerStatus
_ENDS = frozenset({_C.STOPPED, _C.FAILED, _C.LOST, _C.DELETED})
# A launch that was cut short is adopted in whatever state its container is found.
_FOUND = frozenset({_C.RUNNING, _C.UNHEALTHY, _C.RESTARTING})
CONTAINER_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _C.REQUESTED: frozenset({_C.PLACED, _C.STOPPED, _C.FAILED, _C.DELETED}),
    _C.PLACED: _ENDS | _FOUND | {_C.PULLING, _C.CREATED, _C.REQUESTED},
    _C.PULLING: _ENDS | _FOUND | {_C.CREATED, _C.REQUESTED},
    _C.CREATED: _ENDS | _FOUND | {_C.REQUESTED},
    _C.RUNNING: _ENDS | {_C.UNHEALTHY, _C.RESTARTING, _C.REQUESTED},
    _C.UNHEALTHY: _ENDS | {_C.RUNNING, _C.RESTARTING, _C.REQUESTED},
    _C.RESTARTING: _ENDS | {_C.RUNNING, _C.UNHEALTHY, _C.REQUESTED},
    _C.STOPPED: frozenset({_C.REQUESTED, _C.DELETED}),
    _C.FAILED: frozenset({_C.REQUESTED, _C.DELETED}),
    # The node may come back with the container still running, or the container is placed anew.
    _C.LOST: frozenset({_C.RUNNING, _C.UNHEALTHY, _C.RESTARTING, _C.STOPPED, _C.FAILED})
    | {_C.REQUESTED, _C.DELETED},
    _C.DELETED: frozenset(),
}

_N = NodeStatus
NODE_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _N.READY: frozenset({_N.NOT_READY, _N.LOST, _N.DELETED}),
    _N.NOT_READY: frozenset({_N.READY, _N.LOST, _N.DELETED}),
    _N.LOST: frozenset({_N.READY, _N.NOT_READY, _N.DELETED}),
    # Its agent beats again: the machine keeps its identity.
    _N.DELETED: frozenset({_N.NOT_READY}),
}

_U = UploadStatus
UPLOAD_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _U.RECEIVING: frozenset({_U.INGESTING, _U.FAILED, _U.DELETED}),
    _U.INGESTING: frozenset({_U.COMPLETED, _U.FAILED, _U.DELETED}),
    _U.COMPLETED: frozenset({_U.DELETED}),
    _U.FAILED: frozenset({_U.DELETED}),
    _U.DELETED: frozenset(),
}

_B = BuildStatus
BUILD_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _B.QUEUED: frozenset({_B.BUILDING, _B.FAILED}),
    _B.BUILDING: frozenset({_B.PUSHING, _B.FAILED}),
    _B.PUSHING: frozenset({_B.DONE, _B.FAILED}),
    _B.DONE: frozenset(),
    _B.FAILED: frozenset(),
}

_V = VolumeStatus
VOLUME_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _V.READY: frozenset({_V.DELETING}),
    _V.DELETING: frozenset({_V.DELETED}),
    _V.DELETED: frozenset(),
}

_D = DeploymentStatus
_LIVE = frozenset({_D.DEPLOYING, _D.DEPLOYED, _D.DEGRADED, _D.FAILED, _D.SCALED_DOWN})
DEPLOYMENT_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    **{status: _LIVE - {status} | {_D.DELETING, _D.DELETED} for status in _LIVE},
    _D.DELETING: frozenset({_D.DELETED}),
    _D.DELETED: frozenset(),
}

_O = OrganisationStatus
ORGANISATION_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _O.ACTIVE: frozenset({_O.DELETED}),
    _O.DELETED: frozenset(),
}

_W = WebhookStatus
WEBHOOK_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _W.ACTIVE: frozenset({_W.DISABLED, _W.DELETED}),
    _W.DISABLED: frozenset({_W.ACTIVE, _W.DELETED}),
    _W.DELETED: frozenset(),
}

_T = WebhookDeliveryStatus
DELIVERY_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _T.PENDING: frozenset({_T.DELIVERED, _T.DEAD}),
    _T.DELIVERED: frozenset({_T.PENDING}),
    _T.DEAD: frozenset({_T.PENDING}),
}
