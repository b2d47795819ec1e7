"""Which events make entries of the audit trail, and what of them is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.adapters.bus.reading import StoredEvent
from pipeline.audit.service import entry_of
from schemas.message import Message

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 5, 1, 12, 1, tzinfo=UTC)


def stored(kind: str = "deleted", **values: Any) -> StoredEvent:
    given: dict[str, Any] = {
        "id": f"i1.4.{kind}",
        "subject": f"yard.evt.acme.image.i1.{kind}",
        "type": f"modelyard.image.{kind}",
        "time": AT,
        "actor": "user:ada",
        "origin": "203.0.113.9",
        "causation_id": "request-1",
        "data": {"id": "i1", "name": "classifier", "password": "hunter2"},
    }
    message = Message(**given | values)
    return StoredEvent(7, message.subject, message.headers(), message.body(), LATER)


def test_an_entry_says_who_did_what_to_what_when_and_from_where() -> None:
    entry = entry_of(stored())
    assert entry is not None
    assert (entry.org, entry.actor, entry.origin) == ("acme", "user:ada", "203.0.113.9")
    assert (entry.action, entry.target, entry.name) == ("image.deleted", "i1", "classifier")
    assert (entry.created_at, entry.cause, entry.event) == (AT, "request-1", "i1.4.deleted")


def test_an_event_makes_the_same_entry_however_often_it_is_read() -> None:
    first, again, other = entry_of(stored()), entry_of(stored()), entry_of(stored("ready"))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.uuid == again.uuid != other.uuid


def test_nothing_of_an_event_is_kept_but_the_name() -> None:
    entry = entry_of(stored())
    assert entry is not None
    assert "hunter2" not in entry.model_dump_json()


@pytest.mark.parametrize("actor", ["worker:validation", "node:n1", "system:bootstrap", None])
def test_what_the_system_does_makes_no_entry(actor: str | None) -> None:
    assert entry_of(stored(actor=actor)) is None


@pytest.mark.parametrize("actor", ["user:ada", "token:ci"])
def test_what_goes_on_for_somebody_who_asks_for_nothing_now_makes_no_entry(actor: str) -> None:
    assert entry_of(stored(actor=actor, origin=None)) is None


def test_mere_progress_makes_no_entry() -> None:
    assert entry_of(stored("pull.progressed")) is None


def test_a_command_came_by_the_queue_whatever_it_says() -> None:
    entry = entry_of(stored(actor="queue:ci", origin="198.51.100.1"))
    assert entry is not None
    assert (entry.actor, entry.origin) == ("queue:ci", "nats")


def test_an_event_without_a_time_happened_when_it_was_stored() -> None:
    event = stored()
    headers = {name: value for name, value in event.headers.items() if name != "ce-time"}
    entry = entry_of(StoredEvent(7, event.subject, headers, json.dumps([]).encode(), LATER))
    assert entry is not None
    assert (entry.created_at, entry.name) == (LATER, None)
