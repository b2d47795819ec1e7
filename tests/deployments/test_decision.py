"""The decision about a deployment: examples, and a world in which anything may happen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.deployments.decision import (
    CRASHES,
    MAX_DELAY_S,
    SURGE,
    Decision,
    Health,
    Replica,
    decide,
    retemplated,
)
from schemas.container import Desired
from schemas.deployment import KEPT_TEMPLATES, Deployment, Slot
from schemas.states import DEPLOYMENT_TRANSITIONS
from schemas.states import DeploymentStatus as Status
from tests.support.records import AT, deployment, template

NOW = AT
TIMEOUT_S = 100


def slots(*numbers: int, generation: int = 1) -> list[Slot]:
    return [Slot(number=number, template=f"hash-{generation}") for number in numbers]


def replicas(health: Health, *numbers: int, **values: Any) -> list[Replica]:
    return [Replica(number, health, **values) for number in numbers]


def after(record: Deployment, decision: Decision | None) -> Deployment:
    """As the write of the decision leaves the record; a status must be one that may follow."""
    if decision is None:
        return record
    if decision.status is not record.status:
        assert decision.status in DEPLOYMENT_TRANSITIONS[record.status]
    changed = {"status": decision.status, "reason": decision.reason}
    return Deployment.model_validate(dict(record) | dict(decision.values) | changed)


def look(record: Deployment, seen: Iterable[Replica], *, later_s: float = 0) -> Deployment:
    return after(record, decide(record, list(seen), NOW + timedelta(seconds=later_s)))


def numbers(record: Deployment) -> list[int]:
    return [slot.number for slot in record.slots]


DEPLOYED = {"slots": slots(1, 2), "good": "hash-1", "status": Status.DEPLOYED, "next_number": 3}


def test_a_new_deployment_gets_as_many_replicas_as_are_wanted() -> None:
    made = look(deployment(), [])
    assert (numbers(made), made.status, made.reason) == (
        [1, 2],
        Status.DEPLOYING,
        "0 of 2 replicas ready",
    )


def test_it_is_deployed_when_all_are_ready_and_not_before() -> None:
    made = look(deployment(), [])
    half = look(made, replicas(Health.READY, 1) + replicas(Health.STARTING, 2))
    assert (half.status, half.ready) == (Status.DEPLOYING, 1)
    whole = look(half, replicas(Health.READY, 1, 2))
    assert (whole.status, whole.good, whole.reason) == (Status.DEPLOYED, "hash-1", None)
    assert decide(whole, replicas(Health.READY, 1, 2), NOW) is None


@pytest.mark.parametrize("health", [Health.FAILING, Health.OVER])
def test_it_is_not_deployed_while_a_replica_fails(health: Health) -> None:
    record = deployment(**DEPLOYED)
    seen = replicas(Health.READY, 1) + replicas(health, 2, why="exited with code 1")
    worse = look(record, seen)
    assert worse.status is Status.DEGRADED
    assert worse.reason == "1 of 2 replicas ready: replica 2 exited with code 1"


def test_a_replica_that_ended_is_replaced_at_once_and_then_ever_later() -> None:
    record = deployment(**DEPLOYED)
    delays = []
    for number in range(2, 9):
        seen = replicas(Health.READY, 1) + replicas(Health.OVER, number)
        record = look(record, seen)
        if number == 2:
            assert numbers(record) == [1, 3]
            continue
        assert numbers(record) == [1]
        assert record.replace_at is not None
        delays.append((record.replace_at - NOW).total_seconds())
        record = look(record, replicas(Health.READY, 1), later_s=delays[-1])
        assert numbers(record) == [1, number + 1]
    assert delays == [20, 40, 80, 160, MAX_DELAY_S, MAX_DELAY_S]


def rolling(**values: Any) -> Deployment:
    """Generation 2 was asked for while two replicas of generation 1 are ready."""
    record = deployment(**DEPLOYED)
    edited = retemplated(record, template(2), NOW)
    return Deployment.model_validate(dict(record) | edited | values)


def test_an_edit_makes_one_new_replica_ready_before_an_old_one_goes() -> None:
    ready = replicas(Health.READY, 1, 2)
    record = look(rolling(), ready)
    assert numbers(record) == [1, 2, 3]
    assert numbers(look(record, ready + replicas(Health.STARTING, 3))) == [1, 2, 3]
    record = look(record, ready + replicas(Health.READY, 3))
    assert numbers(record) == [1, 3], "the next one waits until there is room for it"
    record = look(record, replicas(Health.READY, 1, 2, 3))
    assert numbers(record) == [1, 3], "2 has not ended yet"
    record = look(record, replicas(Health.READY, 1, 3))
    assert numbers(record) == [1, 3, 4]
    record = look(record, replicas(Health.READY, 1, 3, 4))
    assert (numbers(record), record.status, record.good) == ([3, 4], Status.DEPLOYED, "hash-2")


def test_a_rollout_in_place_ends_an_old_one_when_the_new_one_finds_no_room() -> None:
    seen = replicas(Health.READY, 1, 2) + replicas(Health.WAITING, 3, why="no GPU is free")
    beside, in_place = look(rolling(), seen[:2]), look(rolling(in_place=True), seen[:2])
    assert numbers(look(beside, seen)) == [1, 2, 3]
    assert numbers(look(in_place, seen)) == [1, 3]


@pytest.mark.parametrize(
    ("seen", "later_s", "why"),
    [
        (replicas(Health.OVER, 3, why="exited with code 1"), 0, "replica 3: exited with code 1"),
        (
            replicas(Health.FAILING, 3, why="restarts", restarts=CRASHES),
            0,
            "replica 3: restarts (restarted 3 times)",
        ),
        (replicas(Health.STARTING, 3), TIMEOUT_S, "not ready within 100 s"),
        (
            replicas(Health.WAITING, 3, why="no GPU is free"),
            TIMEOUT_S,
            "not ready within 100 s (replica 3 no GPU is free)",
        ),
    ],
    ids=["ended", "crashes", "too slow", "no room"],
)
def test_a_template_that_does_not_become_ready_is_rolled_back(
    seen: list[Replica], later_s: float, why: str
) -> None:
    ready = replicas(Health.READY, 1, 2)
    record = look(rolling(), ready)
    back = look(record, ready + seen, later_s=later_s)
    assert back.template.generation == 1
    assert back.reason == f"rolled back from generation 2 to 1: {why}"
    settled = look(back, ready + seen, later_s=later_s)
    assert (numbers(settled), settled.status) == ([1, 2], Status.DEPLOYED)
    assert settled.reason == back.reason, "whoever looks later reads what happened"


def test_a_template_is_never_given_up_for_what_somebody_ended() -> None:
    ready = replicas(Health.READY, 1, 2)
    record = look(rolling(), ready)
    for number in (3, 4):
        ended = replicas(Health.OVER, number, why="stopped by ada", is_excused=True)
        record = look(record, ready + ended)
        assert (record.template.generation, record.status) == (2, Status.DEPLOYING)
        record = look(record, ready, later_s=20)
    assert numbers(record) == [1, 2, 5]


def test_without_a_good_template_it_fails_and_recovers_when_the_replicas_do() -> None:
    record = look(deployment(replicas=1), [])
    crashing = replicas(Health.FAILING, 1, why="exited with code 1", restarts=CRASHES)
    failed = look(record, crashing)
    assert failed.status is Status.FAILED
    assert (
        failed.reason == "0 of 1 replicas ready: replica 1: exited with code 1 (restarted 3 times)"
    )
    assert look(failed, replicas(Health.STARTING, 1)).status is Status.FAILED
    assert look(failed, replicas(Health.READY, 1)).status is Status.DEPLOYED


def test_fewer_replicas_keep_those_that_are_ready() -> None:
    record = deployment(**DEPLOYED | {"replicas": 1})
    seen = replicas(Health.FAILING, 1) + replicas(Health.READY, 2)
    assert numbers(look(record, seen)) == [2]


def test_a_stopped_one_has_no_replicas_and_says_while_they_end() -> None:
    record = look(
        deployment(**DEPLOYED | {"desired": Desired.STOPPED}), replicas(Health.READY, 1, 2)
    )
    assert (numbers(record), record.status) == ([], Status.SCALED_DOWN)
    assert record.reason == "2 replicas are ending"
    assert look(record, []).reason is None


def test_a_deleted_one_is_gone_with_its_last_replica() -> None:
    asked = {"desired": Desired.DELETED, "status": Status.DELETING}
    record = look(deployment(**DEPLOYED | asked), replicas(Health.READY, 1, 2))
    assert (numbers(record), record.status) == ([], Status.DELETING)
    assert look(record, replicas(Health.READY, 2)).status is Status.DELETING
    assert look(record, []).status is Status.DELETED


def test_a_deleted_one_waits_for_those_that_may_just_be_made() -> None:
    asked = {"desired": Desired.DELETED, "status": Status.DELETING}
    record = look(deployment(**DEPLOYED | asked), replicas(Health.READY, 1))
    assert (numbers(record), record.status) == ([2], Status.DELETING)
    assert record.reason == "2 replicas are ending"
    made = look(record, replicas(Health.STARTING, 2))
    assert (numbers(made), made.status) == ([], Status.DELETING)
    assert look(made, []).status is Status.DELETED


def test_the_last_good_template_outlives_any_number_of_edits() -> None:
    record = deployment(**DEPLOYED)
    for generation in range(2, 20):
        edited = retemplated(record, template(generation), NOW)
        record = Deployment.model_validate(dict(record) | edited)
    assert len(record.history) == KEPT_TEMPLATES
    assert record.history[-1].generation == 1


def test_replicas_leave_a_drained_node_one_after_the_other() -> None:
    leaving = replicas(Health.READY, 1, 2, leaves="gpu-1")
    record = look(deployment(**DEPLOYED), leaving)
    assert (numbers(record), record.status) == ([1, 2, 3], Status.DEPLOYED)
    assert record.reason == "2 replicas are to leave gpu-1, which is drained"
    record = look(record, leaving + replicas(Health.READY, 3))
    assert numbers(record) == [1, 3]
    record = look(record, leaving[:1] + replicas(Health.READY, 3))
    assert numbers(record) == [1, 3, 4]
    record = look(record, leaving[:1] + replicas(Health.READY, 3, 4))
    assert (numbers(record), record.status, record.reason) == ([3, 4], Status.DEPLOYED, None)


def test_one_that_serves_nobody_leaves_a_drained_node_at_once() -> None:
    seen = replicas(Health.READY, 1) + replicas(Health.STARTING, 2, leaves="gpu-1")
    assert numbers(look(deployment(**DEPLOYED), seen)) == [1, 3]


@pytest.mark.parametrize("in_place", [True, False])
def test_with_nowhere_to_go_a_replica_stays_and_says_why(in_place: bool) -> None:
    seen = replicas(Health.READY, 1) + replicas(Health.READY, 2, leaves="gpu-1")
    record = look(deployment(**DEPLOYED, in_place=in_place), seen)
    seen += replicas(Health.WAITING, 3, why="no GPU is free")
    record = look(record, seen)
    assert (numbers(record), record.status) == ([1, 2, 3], Status.DEPLOYED)
    why = "1 replica is to leave gpu-1, which is drained: replica 3 no GPU is free"
    assert record.reason == why
    assert decide(record, seen, NOW + timedelta(seconds=10 * TIMEOUT_S)) is None
    resumed = look(record, replicas(Health.READY, 1, 2) + seen[2:])
    assert (numbers(resumed), resumed.reason) == ([1, 2], None)


class World(RuleBasedStateMachine):
    """Containers follow the slots with delay, on one of two nodes; templates are sound or not;
    owners interfere, and nodes are drained."""

    @initialize(wanted=st.integers(0, 4), in_place=st.booleans())
    def begin(self, wanted: int, in_place: bool) -> None:
        self.drained: set[str] = set()
        self.nodes: dict[int, str] = {}
        self.now = NOW
        self.record = deployment(replicas=wanted, in_place=in_place)
        self.containers: dict[int, Replica] = {}
        self.sound = {"hash-1": True}
        self.generation = 1

    @rule()
    def reconcile(self) -> None:
        before = self.record
        seen = [
            replace(each, leaves=self.nodes[number])
            if self.nodes.get(number) in self.drained
            else each
            for number, each in self.containers.items()
        ]
        self.record = after(before, decide(before, seen, self.now))
        made = set(numbers(self.record)) - set(numbers(before))
        if made:
            there = set(self.containers) | set(numbers(self.record))
            assert len(there) <= before.wanted + SURGE

    @rule()
    def containers_follow(self) -> None:
        wanted = set(numbers(self.record))
        for number in wanted - set(self.containers):
            self.containers[number] = Replica(number, self.place(number))
        for number in set(self.containers) - wanted:
            del self.containers[number]

    @rule(health=st.sampled_from(list(Health)), data=st.data())
    @precondition(lambda self: self.containers)
    def something_happens_to_one(self, health: Health, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.containers)))
        self.containers[number] = Replica(number, health, restarts=data.draw(st.integers(0, 4)))

    def place(self, number: int) -> Health:
        """Nodes a and b are filled in turns; without one it waits."""
        open_ones = sorted({"a", "b"} - self.drained)
        if not open_ones:
            return Health.WAITING
        self.nodes[number] = open_ones[number % len(open_ones)]
        return Health.STARTING

    @rule(node=st.sampled_from("ab"))
    def drain_or_resume(self, node: str) -> None:
        self.drained ^= {node}

    @rule(wanted=st.integers(0, 4))
    def scale(self, wanted: int) -> None:
        self.record = self.record.model_copy(update={"replicas": wanted})

    @rule(desired=st.sampled_from([Desired.RUNNING, Desired.STOPPED]))
    def start_or_stop(self, desired: Desired) -> None:
        self.record = self.record.model_copy(update={"desired": desired})

    @rule(is_sound=st.booleans())
    def edit(self, is_sound: bool) -> None:
        self.generation += 1
        self.sound[f"hash-{self.generation}"] = is_sound
        edited = retemplated(self.record, template(self.generation), self.now)
        self.record = Deployment.model_validate(dict(self.record) | edited)

    @rule(seconds=st.integers(1, 400))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def it_says_deployed_only_of_what_is_ready(self) -> None:
        if self.record.status is Status.DEPLOYED:
            assert self.record.good is not None

    def settle(self) -> None:
        """The world holds still: sound replicas become ready, others crash."""
        for _ in range(200):
            before = (self.record, dict(self.containers))
            self.reconcile()
            self.containers_follow()
            for slot in self.record.slots:
                if slot.number not in self.nodes and self.place(slot.number) is Health.WAITING:
                    self.containers[slot.number] = Replica(slot.number, Health.WAITING)
                    continue
                health = Health.READY if self.sound[slot.template] else Health.FAILING
                self.containers[slot.number] = Replica(slot.number, health, restarts=CRASHES)
            due = self.record.replace_at
            if (self.record, self.containers) == before and (due is None or due <= self.now):
                return
            self.now += timedelta(seconds=30)
        raise AssertionError(f"it does not settle: {self.record}")

    def teardown(self) -> None:
        if not hasattr(self, "record"):
            return
        self.settle()
        record, current = self.record, self.record.template.hash
        if record.wanted == 0:
            assert (record.status, record.slots) == (Status.SCALED_DOWN, [])
        elif self.sound[current] and self.drained != {"a", "b"}:
            assert record.status is Status.DEPLOYED
            assert [slot.template for slot in record.slots] == [current] * record.wanted
            assert not {self.nodes[slot.number] for slot in record.slots} & self.drained
        elif self.sound[current] or self.drained == {"a", "b"}:
            # With every node drained a replica waits, and nobody knows yet whether it is sound.
            assert record.ready <= record.wanted
        else:
            assert record.status in (Status.FAILED, Status.DEGRADED)


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
