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
    _N.DELETED: frozenset(),
}

_U = UploadStatus
UPLOAD_TRANSITIONS: dict[StrEnum, frozenset[StrEnum]] = {
    _U.RECEIVING: frozenset({_U.INGESTING, _U.FAILED, _U.DELETED}),
    _U.INGESTING: frozenset({_U.COMPLETED, _U.FAILED, _U.DELETED}),
    _U.COMPLETED: frozenset({_U.DELETED}),
    _U.FAILED: frozenset({_U.DELETED}),
    _U.DELETED: frozenset(),
}
