"""The transition tables, and that a record moves along them and in no other way."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pipeline.adapters.store.documents import KEEP, planned_update
from pipeline.errors import IllegalTransition
from schemas import states
from schemas.base import StatefulRecord, Transitions
from schemas.container import Container
from schemas.image import Image
from schemas.node import Node
from schemas.states import ContainerStatus, ImageStatus, NodeStatus
from tests.support.records import after, container, image, node

RECORDS = [image(), container(), node()]
C, I, N = ContainerStatus, ImageStatus, NodeStatus  # noqa: E741

every_table = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.resource)


def kind_of(record: StatefulRecord) -> type[StrEnum]:
    return type(record.status)


def reachable(table: Transitions, start: StrEnum) -> set[StrEnum]:
    found, fresh = {start}, {start}
    while fresh:
        fresh = {after for state in fresh for after in table[state]} - found
        found |= fresh
    return found


# --- the tables -------------------------------------------------------------------------------


@every_table
def test_a_table_has_a_row_for_every_state_and_no_other_state(record: StatefulRecord) -> None:
    assert set(record.transitions) == set(kind_of(record))
    assert {state for row in record.transitions.values() for state in row} <= set(kind_of(record))


@every_table
def test_every_state_can_be_reached_from_the_first(record: StatefulRecord) -> None:
    assert reachable(record.transitions, record.status) == set(kind_of(record))


@every_table
def test_everything_can_be_deleted_and_nothing_comes_back(record: StatefulRecord) -> None:
    deleted = kind_of(record)("DELETED")
    for state, row in record.transitions.items():
        assert (deleted in row) == (state is not deleted)
    # A machine that was given up may be switched on again.
    comes_back = {N.NOT_READY} if isinstance(record, Node) else set()
    assert record.transitions[deleted] == comes_back


@every_table
def test_staying_is_no_move(record: StatefulRecord) -> None:
    assert all(state not in row for state, row in record.transitions.items())


def test_the_tables_are_those_of_the_records() -> None:
    assert Image.transitions is states.IMAGE_TRANSITIONS
    assert Container.transitions is states.CONTAINER_TRANSITIONS
    assert Node.transitions is states.NODE_TRANSITIONS


def test_an_image_is_judged_once() -> None:
    for settled in (I.READY, I.FAILED):
        assert Image.transitions[settled] == {I.DELETED}


def test_a_container_runs_only_after_it_was_placed() -> None:
    without = {state: row - {C.PLACED} for state, row in Container.transitions.items()}
    assert reachable(without, C.REQUESTED) == {C.REQUESTED, C.STOPPED, C.FAILED, C.DELETED}


def test_a_container_that_is_over_starts_only_by_a_new_request() -> None:
    for over in (C.STOPPED, C.FAILED):
        assert Container.transitions[over] == {C.REQUESTED, C.DELETED}


def test_every_container_on_a_node_can_be_lost_with_it_and_placed_anew() -> None:
    for state in (C.PLACED, C.PULLING, C.CREATED, C.RUNNING, C.UNHEALTHY, C.RESTARTING):
        assert {C.LOST, C.REQUESTED} <= Container.transitions[state]


def test_a_lost_node_may_come_back() -> None:
    assert {N.READY, N.NOT_READY} <= Node.transitions[N.LOST]


# --- a record moves along its table -----------------------------------------------------------


class Moving(RuleBasedStateMachine):
    """Orders in any order; the model is the table alone."""

    record: StatefulRecord
    status: StrEnum
    since: datetime | None = None
    moment = 0

    @initialize(record=st.sampled_from(RECORDS))
    def begin(self, record: StatefulRecord) -> None:
        self.record = record.model_copy()
        self.status = record.status

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        self._write(data.draw(st.sampled_from(list(kind_of(self.record)))))

    @rule(data=st.data())
    def follow_the_table(self, data: st.DataObject) -> None:
        row = self.record.transitions[self.status]
        if row:
            self._write(data.draw(st.sampled_from(sorted(row))))

    @rule()
    def write_something_else(self) -> None:
        self._write(None)

    @invariant()
    def the_record_is_where_the_model_is(self) -> None:
        assert self.record.status is self.status
        assert self.record.status_since == self.since

    def _write(self, wanted: StrEnum | None) -> None:
        self.moment += 1
        at = after(self.moment)
        legal = wanted in {None, self.status} | self.record.transitions[self.status]
        try:
            update = planned_update(self.record, {}, at, wanted, KEEP, [])
        except IllegalTransition:
            assert not legal
            return
        assert legal
        if wanted is not None and wanted is not self.status:
            self.status, self.since = wanted, at
        self.record = type(self.record).model_validate(self.record.model_dump() | update["$set"])


def test_a_record_moves_along_its_table_and_in_no_other_way() -> None:
    run_state_machine_as_test(Moving, settings=settings(deadline=None))


@every_table
def test_every_pair_of_states_is_judged_by_the_table(record: StatefulRecord) -> None:
    for now in kind_of(record):
        for wanted in kind_of(record):
            moved = record.model_copy(update={"status": now})
            if wanted is now:
                assert "status" not in planned_update(moved, {}, after(1), wanted, KEEP, [])["$set"]
            elif wanted in record.transitions[now]:
                written = planned_update(moved, {}, after(1), wanted, KEEP, [])["$set"]
                assert (written["status"], written["status_since"]) == (wanted, after(1))
            else:
                with pytest.raises(IllegalTransition):
                    planned_update(moved, {}, after(1), wanted, KEEP, [])
