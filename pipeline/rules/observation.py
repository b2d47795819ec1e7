"""What a container's record should say, given what the engine shows. Level-triggered: an event of
the engine is only a reason to look, so a missed or repeated one changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipeline.ports import EngineContainer
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


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    reason: str | None
    values: dict[str, Any] = field(default_factory=dict)


def judge(
    record: Container, seen: EngineContainer | None, *, now: datetime, rules: RestartRules
) -> Verdict | None:
    """The move to make, or None when the record is true already or a launch is under way."""
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
    return _exited(record, seen, now, rules)


def next_backoff(record: Container, *, now: datetime, rules: RestartRules) -> float:
    """Seconds to wait before the next restart."""
    stable = record.healthy_since and now - record.healthy_since >= timedelta(seconds=rules.reset_s)
    if stable or record.backoff_s <= 0:
        return rules.first_s
    return min(record.backoff_s * 2, rules.max_s)


def _absent(record: Container) -> Verdict | None:
    if record.desired is Desired.DELETED:
        return Verdict(Status.DELETED, "deleted")
    if record.desired is Desired.STOPPED:
        return Verdict(Status.STOPPED, "stopped as requested; nothing is left on the engine")
    if record.status in LAUNCHING:
        return None
    gone = "the container was removed from the engine by somebody else"
    return Verdict(Status.FAILED, gone, {"restart_at": None})


def _unstarted(record: Container, seen: EngineContainer) -> Verdict | None:
    if record.desired is Desired.STOPPED:
        return Verdict(Status.STOPPED, "stopped as requested before it was started")
    if record.status in LAUNCHING or record.desired is Desired.DELETED or not seen.error:
        return None
    return Verdict(Status.FAILED, f"the engine could not start it: {seen.error}")


def _alive(
    record: Container, seen: EngineContainer, now: datetime, rules: RestartRules
) -> Verdict | None:
    if record.desired is not Desired.RUNNING:
        return None
    probed = record.spec.health is not None
    sick = record.status is Status.UNHEALTHY if probed else seen.health == "unhealthy"
    if sick:
        return None if record.status is Status.UNHEALTHY else unhealthy(record, None, now, rules)
    if record.status is Status.RUNNING and record.engine_id == seen.id:
        return None
    return Verdict(
        Status.RUNNING,
        None,
        {
            "engine_id": seen.id,
            "ports": [port.model_dump() for port in seen.ports],
            "started_at": seen.started_at,
            "healthy_since": now,
            "exit_code": None,
            "restart_at": None,
        },
    )


def unhealthy(record: Container, why: str | None, now: datetime, rules: RestartRules) -> Verdict:
    """It runs and its probe fails: restarted after the backoff, unless its policy says no."""
    values: dict[str, Any] = {"healthy_since": None}
    if record.spec.restart is not RestartPolicy.NO:
        wait = next_backoff(record, now=now, rules=rules)
        values |= {"backoff_s": wait, "restart_at": now + timedelta(seconds=wait)}
    return Verdict(Status.UNHEALTHY, why or "its health check fails", values)


def not_started(record: Container, why: str, now: datetime, rules: RestartRules) -> Verdict:
    """A restart that failed: tried again after the backoff."""
    wait = next_backoff(record, now=now, rules=rules)
    again = {"backoff_s": wait, "restart_at": now + timedelta(seconds=wait), "healthy_since": None}
    return Verdict(Status.RESTARTING, f"{why} Tried again in {wait:g} s.", again)


def _exited(
    record: Container, seen: EngineContainer, now: datetime, rules: RestartRules
) -> Verdict | None:
    code = {"exit_code": seen.exit_code, "restart_at": None, "healthy_since": None}
    if record.desired is Desired.DELETED:
        return None
    if record.desired is Desired.STOPPED:
        return Verdict(Status.STOPPED, "stopped as requested", code)
    if record.status is Status.RESTARTING and record.restart_at is not None:
        return None
    failed = seen.oom_killed or seen.exit_code != 0
    why = "killed: out of memory" if seen.oom_killed else f"exited with code {seen.exit_code}"
    if _restarts(record.spec.restart, failed):
        wait = next_backoff(record, now=now, rules=rules)
        again = {"backoff_s": wait, "restart_at": now + timedelta(seconds=wait)}
        return Verdict(Status.RESTARTING, f"{why}; restarts in {wait:g} s", code | again)
    return Verdict(Status.FAILED if failed else Status.STOPPED, why, code)


def _restarts(policy: RestartPolicy, failed: bool) -> bool:
    return policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and failed)
