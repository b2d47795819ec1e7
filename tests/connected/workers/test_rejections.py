"""What the sender of a command learns: that it was refused, and which events follow from it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.errors import InvalidInput, NotFound
from pipeline.telemetry import current_cause
from schemas.message import Message
from tests.support.events import stored_events
from tests.support.systems.working import TRIAL, Order, Worker, command, working
from tests.support.waiting import eventually


async def rejections(bus: Bus, org: str = "acme") -> list[Message]:
    return [
        Message.from_wire(each.subject, each.headers, each.data, received_at=each.time)
        async for each in stored_events(bus, org)
    ]


async def refuse(order: Order, _: Message) -> None:
    raise InvalidInput("There is no such colour.")


async def miss(order: Order, _: Message) -> None:
    raise NotFound("There is no image nowhere.")


@pytest.mark.parametrize(
    ("id", "data", "about"),
    [
        ("c-1", {}, "c-1"),
        ("c-1", {"id": "0b9c"}, "0b9c"),
        ("c-1", {"id": "a.b *"}, "c-1"),
        ("c.1 >", {}, None),
    ],
)
async def test_a_refused_command_tells_its_sender(
    bus: Bus, id: str, data: dict[str, Any], about: str | None
) -> None:
    sent = command(1, **data).model_copy(update={"id": id})
    async with working(bus, Worker(refuse)) as worker:
        await bus.publish(sent)
        await eventually(lambda: worker.count("buried") == 1)
    [told] = await rejections(bus)
    subject = topology.parse_event(told.subject)
    assert (subject.resource, subject.kind) == ("trial", "rejected")
    # An id that cannot stand in a subject is named in the data alone.
    assert subject.id == (about or str(uuid.UUID(subject.id)))
    assert told.data == {
        "id": subject.id, "org": "acme", "command": id, "verb": "run", "code": "invalid_input",
        "reason": "There is no such colour.", "attempts": 1,
    }  # fmt: skip
    assert (told.type, told.causation_id) == ("modelyard.trial.rejected", id)
    assert len(worker.begun) == 1


async def test_what_is_not_found_is_looked_for_once_more_and_then_refused(bus: Bus) -> None:
    async with working(bus, Worker(miss), replace(TRIAL, max_deliver=6)) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.count("buried") == 1)
    [told] = await rejections(bus)
    assert (told.data["code"], told.data["attempts"]) == ("not_found", 2)


async def test_what_is_not_found_is_waited_for_while_its_creation_waits(bus: Bus) -> None:
    made = command(2).model_copy(update={"subject": topology.command("acme", "thing", "create")})
    async with working(bus, Worker(miss), replace(TRIAL, max_deliver=6)) as worker:
        await bus.publish(made)
        await bus.publish(command(1))
        await bus.publish(command(1, org="other"))
        await eventually(lambda: worker.count("buried") == 2)
    attempts = {org: (await rejections(bus, org))[0].data["attempts"] for org in ("acme", "other")}
    assert attempts == {"acme": 6, "other": 2}


async def test_what_is_no_event_at_all_is_refused_under_its_message_id(bus: Bus) -> None:
    async with working(bus, Worker()) as worker:
        subject = topology.command("acme", "trial", "run")
        await bus.publish_raw(subject, b"{", {"Nats-Msg-Id": "mine"})
        await eventually(lambda: worker.count("buried") == 1)
    [told] = await rejections(bus)
    assert (told.data["command"], told.data["code"]) == ("mine", "poison_message")


async def test_what_a_command_does_is_caused_by_the_first_of_its_chain(bus: Bus) -> None:
    seen: list[str | None] = []

    async def look(order: Order, _: Message) -> None:
        await asyncio.sleep(0)
        seen.append(current_cause())

    async with working(bus, Worker(look)):
        await bus.publish(command(1))
        await eventually(lambda: seen == ["acme-1"])
        await bus.publish(command(2).model_copy(update={"causation_id": "the-first"}))
        await eventually(lambda: seen == ["acme-1", "the-first"])
    assert current_cause() is None
