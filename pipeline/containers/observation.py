"""What a container's record should say, given what the engine shows. Level-triggered: an event of
the engine is only a reason to look, so a missed or repeated one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pipeline.ports import EngineContainer, EngineEvent
from schemas.container import Container, Desired, RestartPolicy
from schemas.states import ContainerStatus as Status

LAUNCHING = frozenset({Status.REQUESTED, Status.PLACED, Status.PULLING, Status.CREATED})
"""A launch is under way, or will be ordered anew: it finds and says what is there."""
OVER = frozenset({Status.STOPPED, Status.FAILED, Status.DELETED})


@dataclass(frozen=True, slots=True)
class RestartRules:
    """Delay doubles from `first_s` to `max_s`, and starts over after `reset_s` of health."""

    first_s: float = 10
    max_s: float = 300
    reset_s: float = 600


class Move(NamedTuple):
    """What a record should say next: `pipeline.containers.changes.moved(*move)` writes it."""

    status: Status
    reason: str | None
    values: Mapping[str, Any] | None = None
    kind: str | None = None
    """Of the event; by default the status."""


def is_wanted(record: Container) -> bool:
    """Its owner wants it to run, and it has not come to an end."""
    return record.desired is Desired.RUNNING and record.status not in OVER


def is_up(record: Container) -> bool:
    """It should be on its engine, whatever it does there at the moment."""
    return is_wanted(record) and record.status not in LAUNCHING


def has_settled(record: Container) -> bool:
    """Its launch came to its end, and so did what it does in place of another one."""
    if record.status is Status.DELETED or record.failure is not None:
        return True
    return record.status not in LAUNCHING and record.replaces is None


def is_unasked_end(record: Container, seen: EngineContainer | None) -> bool:
    """It does not run although its owner wants it to: `ended_by_itself` says what that means."""
    if seen is None or seen.running or seen.state == "created":
        return False
    return is_wanted(record) and record.status is not Status.REQUESTED


def ended_by_itself(told: Iterable[EngineEvent], *, within_s: float) -> bool:
    """Whether the program came to its end, or was stopped: by us, by hand, or with its engine.

    `told`: its ends and the signals that it was sent since its start, as the engine remembers them.
    An engine that was stopped, killed or lost its power knows no more of what ended with it, and
    says that it signalled what it ends at its own start. A signal counts for `within_s` seconds:
    some programs are told by one to read their files again.
    """
    ends = [event.time for event in told if event.action == "die"]
    signals = [event.time for event in told if event.action == "kill"]
    if not ends:
        return False
    return not any(0 <= (ends[-1] - at).total_seconds() <= within_s for at in signals)


def due_move(
    record: Container,
    seen: EngineContainer | None,
    *,
    now: datetime,
    rules: RestartRules,
    by_itself: bool = True,
) -> Move | None:
    """The move to make, or None when the record is true already or a launch is under way.

    `by_itself`: whether what ended unasked did so itself, see `ended_by_itself`.
    """
    if record.status is Status.DELETED or record.status is Status.REQUESTED:
        return None
    if record.status in OVER and not (seen is None and record.desired is Desired.DELETED):
        return None
    if seen is None:
        return _absent(record)
    if seen.state == "created":
        return _unstarted(record, seen)
    if seen.running:
        return _alive(record, seen, now, rules)
    if not by_itself and is_unasked_end(record, seen):
        return _interrupted(record, seen, now)
    return _exited(record, seen, now, rules)


def next_backoff(record: Container, *, now: datetime, rules: RestartRules) -> float:
    """Seconds to wait before the next restart."""
    stable = record.healthy_since and now - record.healthy_since >= timedelta(seconds=rules.reset_s)
    if stable or record.backoff_s <= 0:
        return rules.first_s
    return min(record.backoff_s * 2, rules.max_s)


def _absent(record: Container) -> Move | None:
    if record.desired is Desired.DELETED:
        return Move(Status.DELETED, "deleted")
    if record.desired is Desired.STOPPED:
        return Move(Status.STOPPED, "stopped as requested; nothing is left on the engine")
    if record.status in LAUNCHING:
        return None
    gone = "the container was removed from the engine by somebody else"
    return Move(Status.FAILED, gone, {"restart_at": None})


def _unstarted(record: Container, seen: EngineContainer) -> Move | None:
    if record.desired is Desired.STOPPED:
        return Move(Status.STOPPED, "stopped as requested before it was started")
    if record.status in LAUNCHING or record.desired is Desired.DELETED or not seen.error:
        return None
    return Move(Status.FAILED, f"the engine could not start it: {seen.error}")


def _alive(
    record: Container, seen: EngineContainer, now: datetime, rules: RestartRules
) -> Move | None:
    if record.desired is not Desired.RUNNING:
        return None
    probed = record.spec.health is not None
    sick = record.status is Status.UNHEALTHY if probed else seen.health == "unhealthy"
    if sick:
        return None if record.status is Status.UNHEALTHY else unhealthy(record, None, now, rules)
    # Of a probe of ours only the probe itself says that it succeeds.
    is_well = not probed and seen.health != "starting"
    if record.status is Status.RUNNING and record.engine_id == seen.id:
        if record.healthy_since is not None or not is_well:
            return None
        return Move(Status.RUNNING, None, {"healthy_since": now}, "healthy")
    return Move(
        Status.RUNNING,
        None,
        {
            "engine_id": seen.id,
            "ports": [port.model_dump() for port in seen.ports],
            "started_at": seen.started_at,
            "healthy_since": now if is_well else None,
            "exit_code": None,
            "restart_at": None,
        },
    )


def unhealthy(record: Container, why: str | None, now: datetime, rules: RestartRules) -> Move:
    """It runs and its probe fails: restarted after the backoff, unless its policy says no."""
    values: dict[str, Any] = {"healthy_since": None}
    if record.spec.restart is not RestartPolicy.NO:
        wait = next_backoff(record, now=now, rules=rules)
        values |= {"backoff_s": wait, "restart_at": now + timedelta(seconds=wait)}
    return Move(Status.UNHEALTHY, why or "its health check fails", values)


def not_started(record: Container, why: str, now: datetime, rules: RestartRules) -> Move:
    """A restart that failed: tried again after the backoff."""
    wait = next_backoff(record, now=now, rules=rules)
    again = {"backoff_s": wait, "restart_at": now + timedelta(seconds=wait), "healthy_since": None}
    return Move(Status.RESTARTING, f"{why} Tried again in {wait:g} s.", again)


def _interrupted(record: Container, seen: EngineContainer, now: datetime) -> Move | None:
    """No exit of the program, whatever its policy and code: it runs again, without a backoff."""
    if record.status is Status.RESTARTING and record.restart_at is not None:
        return None
    again = {"exit_code": seen.exit_code, "restart_at": now, "healthy_since": None}
    return Move(Status.RESTARTING, "it was stopped from outside and starts again", again)


def _exited(
    record: Container, seen: EngineContainer, now: datetime, rules: RestartRules
) -> Move | None:
    code = {"exit_code": seen.exit_code, "restart_at": None, "healthy_since": None}
    if record.desired is Desired.DELETED:
        return None
    if record.desired is Desired.STOPPED:
        return Move(Status.STOPPED, "stopped as requested", code)
    if record.status is Status.RESTARTING and record.restart_at is not None:
        return None
    failed = seen.oom_killed or seen.exit_code != 0
    why = "killed: out of memory" if seen.oom_killed else f"exited with code {seen.exit_code}"
    if _restarts(record.spec.restart, failed):
        wait = next_backoff(record, now=now, rules=rules)
        again = {"backoff_s": wait, "restart_at": now + timedelta(seconds=wait)}
        return Move(Status.RESTARTING, f"{why}; restarts in {wait:g} s", code | again)
    return Move(Status.FAILED if failed else Status.STOPPED, why, code)


def _restarts(policy: RestartPolicy, failed: bool) -> bool:
    return policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and failed)
