"""What events tell of, by resource: the last tokens of `yard.evt.<org>.<resource>.<id>.<kind>`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

REJECTED: Final = "rejected"
"""Of every resource: a command about it was given up (`schemas.message.Rejection`)."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "build": ("queued", "building", "output", "pushing", "done", "failed"),
        "catalog": ("created", "updated", "validated", "deleted"),
        "catalog-row": ("created", "updated", "deleted"),
        "container": (
            *("requested", "waiting", "placed", "pulling", "pull.started", "pull.progressed"),
            *("asset.progressed", "asset.fetched", "created", "running", "healthy", "unhealthy"),
            *("stop-requested", "restart-requested", "remove-requested", "restarting"),
            *("exec.started", "exec.ended", "draining", "replaced"),
            *("stopped", "failed", "lost", "deleted"),
        ),
        "dead-letter": ("revealed", "requeued", "dropped"),
        "deployment": (
            *("created", "edited", "scaled", "started", "stopped", "restarted", "rolled-back"),
            *("deploying", "deployed", "degraded", "demanded", "rested", "scaled-down"),
            *("failed", "deleting", "deleted"),
        ),
        "image": (
            *("created", "upload.started", "upload.progressed", "upload.completed"),
            *("upload.failed", "validating", "retrying", "ready", "failed", "superseded"),
            *("load.started", "load.progressed", "load.completed", "load.failed"),
            *("run.started", "run.progressed", "run.completed", "run.failed"),
            *("container.stopped", "deleted"),
        ),
        "model": ("created", "changed"),
        "model-file": ("created",),
        "model-version": ("created", "changed"),
        "node": (
            *("registered", "ready", "not-ready", "lost", "cordoned", "uncordoned"),
            *("draining", "drained", "resumed", "deleted"),
        ),
        "organisation": ("created", "edited", "deleted"),
        "registry": ("created", "updated", "checked", "health.changed", "deleted"),
        "secret": ("created", "checked", "deleted"),
        "token": ("created", "revoked"),
        "user": (
            *("created", "logged-in", "role-changed", "password-changed"),
            *("enabled", "disabled"),
        ),
        "volume": ("created", "deleting", "deleted"),
        "webhook": ("created", "edited", "disabled", "secret-rotated", "deleted"),
        "webhook-delivery": ("dead",),
    }
)
"""Every kind there is, but `rejected`."""
