"""Sending a container back to where it is placed: its node, or a GPU of it, is gone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.core import records
from pipeline.core.containers import announce
from schemas.container import Container
from schemas.states import ContainerStatus as Status

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

NOWHERE: Final[dict[str, Any]] = {
    "node": None,
    "engine_id": None,
    "ports": [],
    "gpus": [],
    "restart_at": None,
    "started_at": None,
    "healthy_since": None,
}


async def place_anew(
    store: Store, outbox: Outbox, container: Container, *, at: datetime, actor: str, reason: str
) -> Container:
    """Make it REQUESTED and have it placed; its lease is the caller's to free afterwards.

    Raises LostRace, and IllegalTransition for a container that is deleted.
    """
    revision = container.revision + 1
    messages = [
        announce(
            container,
            "requested",
            at=at,
            actor=actor,
            revision=revision,
            status=Status.REQUESTED,
            reason=reason,
            node=None,
        ),
        records.command(container, "place", at=at, actor=actor, revision=revision),
    ]
    changed = await store.change(
        container, NOWHERE, at=at, status=Status.REQUESTED, reason=reason, messages=messages
    )
    await outbox.send(changed)
    return changed
