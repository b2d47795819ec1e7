from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.containers.observation import (
    OVER,
    RestartRules,
    due_move,
    ended_by_itself,
    next_backoff,
    not_started,
    unhealthy,
)
from pipeline.ports import EngineContainer, EngineEvent
from schemas.container import Container, ContainerSpec, Desired, HealthCheck, RestartPolicy
from schemas.states import CONTAINER_TRANSITIONS
from schemas.states import ContainerStatus as Status

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RULES = RestartRules(first_s=10, max_s=300, reset_s=600)


def a_record(status: Status = Status.RUNNING, **values: Any) -> Container:
    spec = ContainerSpec(image="model", restart=values.pop("restart", RestartPolicy.ON_FAILURE))
    spec.health = values.pop("health", None)
    return Container(
        uuid="c1",
        org="default",
        created_at=NOW,
        updated_at=NOW,
        status=status,
        name="c",
        spec=spec,
        spec_hash="h",
        image="i1",
        pull="r/x@sha256:0",
        engine_id="e1",
        **values,
    )


def seen_as(state: str, **values: Any) -> EngineContainer:
    facts: dict[str, Any] = {
        "id": "e1",
        "name": "my-c1",
        "labels": {},
        "state": state,
        "health": "none",
        "exit_code": None,
        "oom_killed": False,
        "error": "",
        "ports": (),
        "started_at": NOW,
        "finished_at": None,
        "image_id": "sha256:1",
    }
    return EngineContainer(**(facts | values))


def verdict(record: Container, seen: EngineContainer | None) -> Any:
    return due_move(record, seen, now=NOW, rules=RULES)


def test_a_running_container_that_runs_needs_no_move() -> None:
    assert verdict(a_record(healthy_since=NOW), seen_as("running")) is None


@pytest.mark.parametrize(
    ("health", "probe", "is_healthy"),
    [
        ("none", None, True),
        ("healthy", None, True),
        ("starting", None, False),
        ("none", HealthCheck(port=80), False),
    ],
)
def test_it_is_healthy_once_whoever_probes_it_says_so(
    health: str, probe: HealthCheck | None, is_healthy: bool
) -> None:
    seen = seen_as("running", health=health)
    started = verdict(a_record(Status.CREATED, health=probe), seen)
    assert started.values["healthy_since"] == (NOW if is_healthy else None)
    later = verdict(a_record(health=probe), seen)
    assert (later and later.kind) == ("healthy" if is_healthy else None)


def test_a_created_record_whose_container_runs_becomes_running() -> None:
    assert verdict(a_record(Status.CREATED), seen_as("running")).status is Status.RUNNING


def test_a_lost_container_that_still_runs_becomes_running_again() -> None:
    assert verdict(a_record(Status.LOST), seen_as("running")).status is Status.RUNNING


def test_a_failing_image_health_check_makes_it_unhealthy_with_a_time_for_the_restart() -> None:
    found = verdict(a_record(), seen_as("running", health="unhealthy"))
    assert found.status is Status.UNHEALTHY
    assert found.values["restart_at"] == NOW + timedelta(seconds=10)


def test_an_unhealthy_container_that_must_not_restart_gets_no_time() -> None:
    record = a_record(restart=RestartPolicy.NO)
    found = verdict(record, seen_as("running", health="unhealthy"))
    assert found.status is Status.UNHEALTHY
    assert "restart_at" not in found.values


def test_recovered_health_makes_it_running_and_takes_the_restart_back() -> None:
    found = verdict(a_record(Status.UNHEALTHY), seen_as("running", health="healthy"))
    assert found.status is Status.RUNNING
    assert found.values["restart_at"] is None


def test_the_engine_does_not_overrule_a_probe_of_our_own() -> None:
    record = a_record(Status.UNHEALTHY, health=HealthCheck(port=80))
    assert verdict(record, seen_as("running", health="none")) is None


def test_an_exit_after_a_requested_stop_is_stopped_whatever_the_code() -> None:
    found = verdict(a_record(desired=Desired.STOPPED), seen_as("exited", exit_code=137))
    assert found.status is Status.STOPPED
    assert found.values["exit_code"] == 137


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        (RestartPolicy.NO, 0, Status.STOPPED),
        (RestartPolicy.NO, 1, Status.FAILED),
        (RestartPolicy.ON_FAILURE, 0, Status.STOPPED),
        (RestartPolicy.ON_FAILURE, 1, Status.RESTARTING),
        (RestartPolicy.ALWAYS, 0, Status.RESTARTING),
        (RestartPolicy.ALWAYS, 1, Status.RESTARTING),
    ],
)
def test_an_unrequested_exit_follows_the_restart_policy(
    policy: RestartPolicy, code: int, expected: Status
) -> None:
    found = verdict(a_record(restart=policy), seen_as("exited", exit_code=code))
    assert found.status is expected


def test_running_out_of_memory_is_a_failure_and_says_so() -> None:
    record = a_record(restart=RestartPolicy.NO)
    found = verdict(record, seen_as("exited", exit_code=0, oom_killed=True))
    assert found.status is Status.FAILED
    assert "memory" in found.reason


def test_a_container_waiting_for_its_restart_is_left_to_its_timer() -> None:
    record = a_record(Status.RESTARTING, restart_at=NOW + timedelta(seconds=5))
    assert verdict(record, seen_as("exited", exit_code=1)) is None


def test_a_container_removed_by_hand_has_failed() -> None:
    assert verdict(a_record(), None).status is Status.FAILED


def test_a_launch_under_way_without_a_container_is_not_judged() -> None:
    assert verdict(a_record(Status.PLACED), None) is None


def test_a_stop_before_the_container_exists_is_stopped() -> None:
    assert verdict(a_record(Status.PLACED, desired=Desired.STOPPED), None).status is Status.STOPPED


@pytest.mark.parametrize("status", sorted(OVER - {Status.DELETED}))
def test_a_finished_container_is_deleted_once_nothing_is_left_of_it(status: Status) -> None:
    assert verdict(a_record(status, desired=Desired.DELETED), None).status is Status.DELETED


def test_backoff_doubles_up_to_its_cap() -> None:
    waits, wait = [], 0.0
    for _ in range(8):
        wait = next_backoff(a_record(backoff_s=wait), now=NOW, rules=RULES)
        waits.append(wait)
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_backoff_starts_over_after_a_stable_time() -> None:
    record = a_record(backoff_s=160, healthy_since=NOW - timedelta(seconds=600))
    assert next_backoff(record, now=NOW, rules=RULES) == 10


def test_a_failing_probe_says_why() -> None:
    assert unhealthy(a_record(), "answered 500", NOW, RULES).reason == "answered 500"


@given(
    status=st.sampled_from(list(Status)),
    desired=st.sampled_from(list(Desired)),
    policy=st.sampled_from(list(RestartPolicy)),
    state=st.sampled_from([None, "created", "running", "paused", "exited", "dead"]),
    health=st.sampled_from(["none", "starting", "healthy", "unhealthy"]),
    code=st.sampled_from([0, 1, 137]),
    oom=st.booleans(),
    error=st.sampled_from(["", "no such device"]),
    waiting=st.booleans(),
    by_itself=st.booleans(),
)
def test_every_verdict_is_a_legal_move(
    status: Status,
    desired: Desired,
    policy: RestartPolicy,
    state: str | None,
    health: str,
    code: int,
    oom: bool,
    error: str,
    waiting: bool,
    by_itself: bool,
) -> None:
    record = a_record(status, desired=desired, restart=policy)
    record.restart_at = NOW if waiting else None
    seen = state and seen_as(state, health=health, exit_code=code, oom_killed=oom, error=error)
    found = due_move(record, seen or None, now=NOW, rules=RULES, by_itself=by_itself)
    if found is not None and found.status is not status:
        assert found.status in CONTAINER_TRANSITIONS[status]


def test_a_container_that_was_created_only_is_stopped_by_a_requested_stop() -> None:
    for status in (Status.PLACED, Status.PULLING, Status.CREATED):
        found = verdict(a_record(status, desired=Desired.STOPPED), seen_as("created"))
        assert found.status is Status.STOPPED


def test_a_launch_that_failed_to_start_is_left_to_whoever_launches() -> None:
    assert verdict(a_record(Status.CREATED), seen_as("created", error="no port")) is None
    assert verdict(a_record(Status.CREATED), None) is None


def test_an_end_is_the_end_of_the_health_before_it() -> None:
    long_ago = NOW - timedelta(hours=1)
    died = verdict(a_record(healthy_since=long_ago, backoff_s=80), seen_as("exited", exit_code=1))
    assert died.values["backoff_s"] == 10
    assert died.values["healthy_since"] is None
    again = a_record(Status.RESTARTING, backoff_s=10, healthy_since=None)
    assert not_started(again, "no.", NOW, RULES).values["backoff_s"] == 20


def told(*what: tuple[str, float]) -> list[EngineEvent]:
    """Events of a container by the seconds at which they were told."""
    return [
        EngineEvent(action, "e1", "my-c1", {}, None, None, NOW + timedelta(seconds=at), 0)
        for action, at in what
    ]


@pytest.mark.parametrize(
    ("what", "by_itself"),
    [
        ([("die", 0)], True),
        ([], False),
        ([("kill", 0)], False),
        ([("kill", 0), ("die", 1)], False),
        ([("kill", 0), ("kill", 10), ("die", 11)], False),
        # It was told to read its files again, and ended much later.
        ([("kill", 0), ("die", 100)], True),
        ([("die", 0), ("kill", 1)], True),
    ],
)
def test_a_program_ends_by_itself_where_the_engine_tells_its_end_and_no_signal_before_it(
    what: list[tuple[str, float]], by_itself: bool
) -> None:
    assert ended_by_itself(told(*what), within_s=15) is by_itself


@pytest.mark.parametrize("policy", list(RestartPolicy))
@pytest.mark.parametrize("code", [0, 1, 137, 143, 255])
@pytest.mark.parametrize("status", [Status.CREATED, Status.RUNNING, Status.UNHEALTHY, Status.LOST])
def test_what_was_stopped_from_outside_runs_again_at_once_whatever_policy_and_code(
    policy: RestartPolicy, code: int, status: Status
) -> None:
    record, seen = a_record(status, restart=policy), seen_as("exited", exit_code=code)
    found = due_move(record, seen, now=NOW, rules=RULES, by_itself=False)
    assert found is not None
    assert (found.status, found.values["restart_at"]) == (Status.RESTARTING, NOW)
    assert "backoff_s" not in found.values


def test_a_stop_that_its_owner_asked_for_stays_a_stop() -> None:
    record, seen = a_record(desired=Desired.STOPPED), seen_as("exited", exit_code=0)
    found = due_move(record, seen, now=NOW, rules=RULES, by_itself=False)
    assert found is not None
    assert found.status is Status.STOPPED
