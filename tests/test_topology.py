"""Subjects: made from parts, taken apart again, never with a meaning that somebody smuggled in."""

from __future__ import annotations

import pytest

from pipeline import topology
from pipeline.errors import InvalidInput


def test_subjects_are_made_of_their_parts() -> None:
    assert topology.command("acme", "image", "create") == "yard.cmd.acme.image.create"
    assert topology.event("a", "image", "i", "pull.done") == "yard.evt.a.image.i.pull.done"
    assert topology.node_order("n1", "launch") == "yard.node.n1.launch"
    assert topology.dead("yard.cmd.a.b.c") == "yard.dead.yard.cmd.a.b.c"
    assert topology.attempt("YARD_NODES", "4-ab") == "yard.attempt.YARD_NODES.4-ab"
    assert topology.agent_service("n1", "logs") == "yard.agent.n1.logs"
    assert topology.events_of(None) == "yard.evt.>"
    assert topology.events_of("acme") == "yard.evt.acme.>"


@pytest.mark.parametrize("text", ["", "a.b", "*", ">", "a b", "a\r\nPUB x 0", "é", "x" * 129])
def test_a_part_that_would_change_the_meaning_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        topology.command(text, "image", "create")
    with pytest.raises(InvalidInput):
        topology.events_of(text)
    with pytest.raises(InvalidInput):
        topology.node_stage(text)


def test_subjects_are_taken_apart() -> None:
    assert topology.parse_command("yard.cmd.a.image.create") == ("a", "image", "create")
    assert topology.parse_command("yard.ask.a.image.create") == ("a", "image", "create")
    assert topology.parse_event("yard.evt.a.image.i.x.y") == ("a", "image", "i", "x.y")
    for subject in ("yard.cmd.a.b", "yard.evt.a.b.c", "other"):
        with pytest.raises(InvalidInput):
            topology.parse_command(subject)
        with pytest.raises(InvalidInput):
            topology.parse_event(subject)


@pytest.mark.parametrize(
    ("subject", "org"),
    [
        ("yard.cmd.acme.image.create", "acme"),
        ("yard.evt.acme.image.i.created", "acme"),
        ("yard.node.acme.launch", None),
        ("yard.cmd", None),
        ("other.cmd.acme.x", None),
    ],
)
def test_the_organisation_comes_from_the_subject(subject: str, org: str | None) -> None:
    assert topology.org_of(subject) == org


def test_stages_of_a_work_queue_do_not_share_a_subject_and_names_are_unique() -> None:
    plans = topology.DURABLES
    assert len({plan.durable for plan in plans}) == len(plans)
    assert len({plan.subject for plan in plans}) == len(plans)
    assert all(plan.ack_wait_s > 3 and plan.max_deliver > 1 for plan in plans)


def test_live_subjects_belong_to_no_stream() -> None:
    prefixes = [subject.removesuffix(">") for plan in topology.STREAMS for subject in plan.subjects]
    assert topology.EVENTS.live
    assert not [prefix for prefix in prefixes if f"{topology.EVENTS.live}.a".startswith(prefix)]


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.d", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
    ],
)
def test_wildcards_mean_what_they_mean_to_the_broker(
    pattern: str, subject: str, expected: bool
) -> None:
    assert topology.matches(pattern, subject) is expected
