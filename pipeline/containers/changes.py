"""Changes of a container that several stages write, and what is ordered of its node."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pipeline import topology
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.containers.observation import LAUNCHING
from pipeline.containers.volumes import Volumes
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import Draft, command, event
from pipeline.records.sweeping import one_by_one
from pipeline.settings import Settings
from schemas.base import Record
from schemas.commands import NodeOrder
from schemas.container import Container, Desired
from schemas.image import Image, ImageSource
from schemas.message import Message
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus

log = logging.getLogger(__name__)

OFF_NODE: Final = frozenset({Status.REQUESTED, Status.LOST})
"""No agent is there that could carry out an order."""
VERBS: Final = {Desired.RUNNING: "launch", Desired.STOPPED: "stop", Desired.DELETED: "remove"}
"""What the agent of its node must do for what its owner wants."""

_NOWHERE: Final[dict[str, Any]] = {
    "node": None,
    "node_name": None,
    "was_placed": True,
    "engine_id": None,
    "ports": [],
    "gpus": [],
    "queue_position": None,
    "restart_at": None,
    "started_at": None,
    "healthy_since": None,
}

R = TypeVar("R", bound=Record)

SWEEPER: Final = "worker:stuck"
REMINDED = 200
_UNCHECKED: Final = {
    # Whoever receives the bytes of an archive ends it, too.
    "source": {"$nin": [ImageSource.ARCHIVE.value, ImageSource.UPLOAD.value]},
    "status": {"$in": [ImageStatus.PENDING.value, ImageStatus.VALIDATING.value]},
}
_UNPLACED: Final = {"status": Status.REQUESTED.value}
_WAITING: Final = _UNPLACED | {"queue_position": {"$gt": 0}}
_UNENDED: Final = {"delete_volumes": True}
_UP: Final = [Status.RUNNING.value, Status.UNHEALTHY.value]
_UNEXCHANGED: Final = {"replaces": {"$gt": ""}, "status": {"$in": _UP}}
_LAUNCHING: Final = {"status": {"$in": [status.value for status in LAUNCHING - {Status.REQUESTED}]}}


def moved(
    status: Status,
    reason: str | None = None,
    values: Mapping[str, Any] | None = None,
    kind: str | None = None,
) -> Change:
    """A state, announced as `kind`, by default its name, with the ports or exit code it brings."""
    values = values or {}
    facts = {name: values[name] for name in ("ports", "exit_code") if name in values}
    return Change(values, status, reason, [event(kind or status.lower(), **facts)])


def node_order(verb: str) -> Draft:
    """What the agent of the container's node must do, fenced by the newest launch."""

    def draft(container: Container, at: datetime, actor: str | None) -> Message:
        assert container.node is not None, "only a placed container has an agent"
        fenced = NodeOrder(container=container.uuid, org=container.org, fence=container.fence)
        return Message(
            id=f"{container.uuid}.{container.revision}.node-{verb}",
            subject=topology.node_order(container.node, verb),
            type=f"modelyard.node.{verb}",
            time=at,
            actor=actor,
            data=fenced.model_dump(),
        )

    return draft


def place_again(reason: str, **values: Any) -> Change:
    """For a container that has no node any more, or lost a GPU of it: REQUESTED, and placed anew.

    Its lease is for the caller to free after the write.
    """
    send = [event("requested"), command("place")]
    return Change(_NOWHERE | values, status=Status.REQUESTED, reason=reason, send=send)


def restart_at_once(at: datetime, reason: str) -> Change:
    """For a container that is up: its agent stops it and starts it again, where it is."""
    send = [event("restart-requested"), node_order("restart")]
    return Change({"restart_at": at}, reason=reason, send=send)


class OverdueContainers:
    """State is truth and messages are hints: what stands still too long is asked for again."""

    def __init__(self, records: Records, settings: Settings) -> None:
        self._records = records
        self._volumes = Volumes(records)
        self._overdue_after = timedelta(seconds=settings.stuck_after_s)
        self._retry_placement = timedelta(seconds=settings.sweep_interval_s)

    async def sweep(self) -> None:
        """Safe to repeat and to run in several workers at once."""
        overdue = self._overdue_after
        images = await self._find(Image, _UNCHECKED, overdue)
        await one_by_one(images, lambda each: self._remind(each, command("validate")))
        # The command of one that nobody has looked at yet is still on its way, among many others.
        for which, age in ((_WAITING, self._retry_placement), (_UNPLACED, overdue)):
            waiting = await self._find(Container, which, age)
            await one_by_one(waiting, lambda each: self._remind(each, command("place")))
        ordered = await self._find(Container, _LAUNCHING, overdue)
        await one_by_one(ordered, lambda each: self._remind(each, node_order(VERBS[each.desired])))
        halfway = await self._find(Container, _UNEXCHANGED, overdue)
        await one_by_one(halfway, lambda each: self._remind(each, node_order("launch")))
        await one_by_one(await self._find(Container, _UNENDED, overdue), self._end_volumes)

    async def _find(self, kind: type[R], where: dict[str, Any], age: timedelta) -> list[R]:
        """Those that were asked for longest ago first, so that each has its turn. What still has
        something to send waits for the broker, not for us."""
        idle = where | {"updated_at": {"$lt": self._records.clock() - age}, "outbox": []}
        return await self._records.store.find(
            kind, org=EVERY_ORG, where=idle, sort=[("updated_at", 1)], limit=REMINDED
        )

    async def _end_volumes(self, container: Container) -> None:
        await self._volumes.end_with(container, actor=SWEEPER)

    async def _remind(self, record: Record, send: Draft) -> None:
        if await self._records.remind(record, send, actor=SWEEPER):
            log.info("%s %s stood still: reminded", record.resource, record.uuid)
