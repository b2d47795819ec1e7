"""What owners ask of a container: what is refused, and the change that it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.containers.changes import OFF_NODE, VERBS, moved, node_order
from pipeline.containers.observation import OVER
from pipeline.errors import Conflict, NotFound
from pipeline.records.kernel import Change
from pipeline.records.messages import event
from schemas.access import Principal
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

NOT_THERE: Final = frozenset({Status.STOPPED, Status.FAILED, Status.LOST})
UP: Final = frozenset({Status.RUNNING, Status.UNHEALTHY, Status.RESTARTING})
AFRESH: Final[Mapping[str, Any]] = {
    "desired": Desired.RUNNING.value,
    "restarts": 0,
    "backoff_s": 0,
    "exit_code": None,
    "failure": None,
    "refusals": {},
}


def refuse_ending(container: Container) -> None:
    """Raises NotFound for what is deleted, and Conflict for what will be, or is being stopped."""
    if container.status is Status.DELETED:
        raise NotFound(f"There is no container {container.uuid}.")
    if container.desired is Desired.DELETED:
        raise Conflict(f"The container {container.name} is being deleted.")
    if container.desired is Desired.STOPPED and container.status not in NOT_THERE:
        raise Conflict(f"The container {container.name} is being stopped: start it afterwards.")


def refuse_irreplaceable(old: Container) -> None:
    """Raises Conflict."""
    if old.deployment is not None:
        raise Conflict(f"The container {old.name} is a replica: edit its deployment instead.")
    if old.replaces is not None or old.desired is Desired.DELETED:
        raise Conflict(f"The container {old.name} takes another one's place, or is being deleted.")
    if old.status not in UP | {Status.STOPPED, Status.FAILED}:
        raise Conflict(f"The container {old.name} is {old.status}: wait until it runs.")


def is_asked(container: Container, desired: Desired) -> bool:
    if container.status is Status.DELETED or container.desired is Desired.DELETED:
        return True
    return desired is Desired.STOPPED and (container.desired is desired or container.status in OVER)


def ask_for(
    container: Container, desired: Desired, caller: Principal, *, volumes: bool = False
) -> Change:
    """The end state at once when no agent has to do anything for it, or none can."""
    verb = VERBS[desired]
    values: dict[str, Any] = {"desired": desired.value, "restart_at": None, "queue_position": None}
    reason = f"{verb} requested by {caller.id}"
    if desired is Desired.DELETED:
        is_replica = container.deployment is not None and bool(container.spec.volumes)
        values["delete_volumes"] = volumes or is_replica
    if container.status in OFF_NODE or container.node is None:
        status = Status.DELETED if desired is Desired.DELETED else Status.STOPPED
        return moved(status, reason, values)
    return Change(values, reason=reason, send=[event(f"{verb}-requested"), node_order(verb)])
