"""Commands that automation publishes, in the order in which they happen to arrive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline import topology
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.records.idempotency import id_for
from pipeline.stack.pieces.nats import NatsPiece
from schemas.container import Container
from schemas.message import Message
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.events import stored_events
from tests.support.systems.whole_yard import WholeYard, whole_yard
from tests.support.waiting import eventually


@pytest.fixture
async def yard(own_nats: NatsPiece, mongo_url: str, docker_host: str) -> AsyncIterator[WholeYard]:
    async with whole_yard(own_nats.url, mongo_url, docker_host) as yard:
        yield yard


@pytest.fixture
def served(registry_host: str) -> str:
    push(busybox_image(), registry_host, "commands/serves", "1")
    return f"{registry_host}/commands/serves:1"


async def publish(yard: WholeYard, resource: str, verb: str, key: str, **data: Any) -> None:
    command = Message(
        id=key,
        subject=topology.command(yard.org, resource, verb),
        type=f"modelyard.cmd.{resource}.{verb}",
        source="automation",
        time=datetime.now(UTC),
        data=data,
    )
    await yard.services.bus.publish(command)


async def until_idle(yard: WholeYard) -> None:
    """Every command of the organisation is done."""

    async def is_idle() -> bool:
        batch = await yard.services.bus.read_batch(
            topology.COMMANDS.name, after=0, subject=f"yard.cmd.{yard.org}.>"
        )
        return not batch.messages

    await eventually(is_idle)


async def attempts(yard: WholeYard) -> int:
    notes = yard.services.bus.read_stored(topology.ATTEMPTS.name, topology.ATTEMPTS.subjects[0])
    return len([note async for note in notes])


async def letters(yard: WholeYard) -> list[Any]:
    return list((await yard.http.get("/yard/v1/dead-letters")).json()["items"])


async def test_a_deletion_that_arrives_before_its_creation_is_not_lost(
    yard: WholeYard, served: str
) -> None:
    await yard.image(served)
    uuid = id_for(yard.org, Container.resource, "made-late")
    await publish(yard, "container", "delete", "early", id=uuid)

    async def tried_in_vain() -> bool:
        return await attempts(yard) == 1

    await eventually(tried_in_vain)
    await publish(yard, "container", "create", "made-late", image=served, name="late")

    async def is_gone() -> bool:
        found = await yard.services.records.store.find_one(
            Container, org=yard.org, where={"_id": uuid}
        )
        return found is not None and found.status == "DELETED"

    await eventually(is_gone)
    await publish(yard, "container", "create", "made-late", image=served, name="late")
    assert await yard.engine_containers() == []
    assert await letters(yard) == []


async def test_a_stop_that_arrives_before_its_creation_is_not_lost(
    yard: WholeYard, served: str
) -> None:
    await yard.image(served)
    uuid = id_for(yard.org, Container.resource, "made-late")
    await publish(yard, "container", "stop", "early", id=uuid)

    async def tried_in_vain() -> bool:
        return await attempts(yard) == 1

    await eventually(tried_in_vain)
    await publish(yard, "container", "create", "made-late", image=served, name="late")
    await yard.until(f"/containers/{uuid}", lambda c: c.get("status") == "STOPPED")
    assert not [each for each in await yard.engine_containers() if each.running]
    assert await letters(yard) == []


async def test_what_arrives_after_a_deletion_changes_nothing(yard: WholeYard, served: str) -> None:
    await yard.image(served)
    await publish(yard, "container", "create", "c", image=served, name="short")
    uuid = id_for(yard.org, Container.resource, "c")
    await yard.until(f"/containers/{uuid}", lambda c: c.get("status") == "RUNNING")
    await publish(yard, "container", "delete", "d", id=uuid)
    await until_idle(yard)

    async def is_gone() -> bool:
        return (
            await yard.services.records.store.get(Container, uuid, org=yard.org)
        ).status == "DELETED"

    await eventually(is_gone)
    revision = (await yard.services.records.store.get(Container, uuid, org=yard.org)).revision
    await publish(yard, "container", "stop", "s", id=uuid)
    await publish(yard, "container", "place", "p", id=uuid)
    await publish(yard, "container", "delete", "again", id=uuid)
    await publish(yard, "container", "create", "c", image=served, name="short")
    await until_idle(yard)
    assert (
        await yard.services.records.store.get(Container, uuid, org=yard.org)
    ).revision == revision
    assert await yard.engine_containers() == []
    assert await letters(yard) == []


async def test_a_container_may_be_ordered_together_with_its_image(
    yard: WholeYard, served: str
) -> None:
    await publish(yard, "container", "create", "c", image="together", name="together")
    await publish(yard, "image", "create", "i", reference=served, name="together")
    uuid = id_for(yard.org, Container.resource, "c")
    await yard.until(f"/containers/{uuid}", lambda c: c.get("status") == "RUNNING", 20)
    assert len(await yard.engine_containers()) == 1
    assert await letters(yard) == []


async def events(yard: WholeYard) -> list[StoredEvent]:
    """Of images and containers; those of the caller's own token are about the test."""
    told = [event async for event in stored_events(yard.services.bus, yard.org)]
    return [event for event in told if event.subject.split(".")[3] in ("container", "image")]


async def events_until(yard: WholeYard, seen: int, end: str) -> list[StoredEvent]:
    """Those after the first `seen`, once one is there whose subject ends in `end`."""
    told: list[StoredEvent] = []

    async def is_over() -> bool:
        nonlocal told
        told = (await events(yard))[seen:]
        return any(event.subject.endswith(end) for event in told)

    await eventually(is_over)
    return told


async def test_every_event_names_the_command_or_request_that_it_follows_from(
    yard: WholeYard, served: str
) -> None:
    image = await yard.http.post(
        "/yard/v1/images", json={"reference": served}, headers={"X-Request-Id": "asked-for"}
    )
    assert image.headers["X-Request-Id"] == "asked-for"
    await yard.until(f"/images/{image.json()['uuid']}", lambda i: i.get("status") == "READY")
    told = await events(yard)
    assert told
    assert {event.headers.get("ce-causationid") for event in told} == {"asked-for"}

    seen = len(told)
    await publish(yard, "container", "create", "my create", image=served, name="caused")
    uuid = id_for(yard.org, Container.resource, "my create")
    shown = await yard.until(f"/containers/{uuid}", lambda c: c.get("status") == "RUNNING")
    assert "cause" not in shown
    told = await events_until(yard, seen, f".{uuid}.running")
    assert len({event.subject for event in told}) > 3
    # Percent-encoded, as all attributes are.
    assert {event.headers.get("ce-causationid") for event in told} == {"my%20create"}

    seen += len(told)
    await publish(yard, "container", "stop", "my stop", id=uuid)
    told = await events_until(yard, seen, f".{uuid}.stopped")
    assert {event.headers.get("ce-causationid") for event in told} == {"my%20stop"}


async def test_an_unknown_image_is_refused_to_the_sender_within_two_attempts(
    yard: WholeYard,
) -> None:
    await publish(yard, "container", "create", "hopeless", image="there-is-none", name="x")

    async def is_told() -> bool:
        return bool(await events(yard))

    await eventually(is_told, timeout_s=10)
    [told] = await events(yard)
    assert told.subject == f"yard.evt.{yard.org}.container.hopeless.rejected"
    data = json.loads(told.data)
    assert (data["command"], data["code"], data["attempts"]) == ("hopeless", "not_found", 2)
    assert "there-is-none" in data["reason"]


async def test_a_command_that_makes_no_sense_is_answered_with_a_letter(
    yard: WholeYard, served: str
) -> None:
    await publish(yard, "container", "create", "bad", image=served, name="bad", colour="red")

    async def is_given_up() -> bool:
        return len(await letters(yard)) == 1

    await eventually(is_given_up, timeout_s=20)
    (letter,) = await letters(yard)
    assert letter["code"] == "poison_message"
    assert "colour" in letter["reason"]


async def test_nodes_are_changed_by_queue_for_the_installation_only(yard: WholeYard) -> None:
    (node,) = (await yard.http.get("/yard/v1/nodes")).json()["items"]
    await publish(yard, "node", "cordon", "stranger", id=node["name"])

    async def is_given_up() -> bool:
        return [letter["code"] for letter in await letters(yard)] == ["permission_denied"]

    await eventually(is_given_up, timeout_s=20)
    own = replace(yard, org=yard.settings.org)
    steps = (("cordon", True), ("uncordon", False), ("drain", True), ("resume", False))
    for verb, cordoned in steps:
        await publish(own, "node", verb, verb, id=node["name"])
        await yard.until(f"/nodes/{node['uuid']}", lambda n, is_so=cordoned: n["cordoned"] is is_so)


async def test_a_command_runs_in_a_container_and_is_told_of_without_its_output(
    yard: WholeYard, served: str
) -> None:
    await yard.image(served)
    volumes = [{"path": "/data"}]
    container = await yard.run(served, name="keeper", volumes=volumes)
    path = f"/yard/v1/containers/{container['uuid']}"

    async def answer(*command: str, **spec: Any) -> list[Any]:
        said = await yard.http.post(f"{path}/exec", json={"command": command, **spec})
        assert said.status_code == 200, said.text
        return [json.loads(line) for line in said.text.splitlines() if line]

    said = await answer("sh", "-c", "echo secret > /data/a; cat /data/a; exit 3")
    assert said == [{"stream": "stdout", "text": "secret\n"}, {"exit_code": 3, "timed_out": False}]
    assert (await answer("sleep", "4711", timeout_s=0.2))[-1]["timed_out"]
    told = [each for each in await events(yard) if ".exec." in each.subject]
    facts = [json.loads(each.data) for each in told]
    assert [
        (each.subject.rpartition(".")[2], fact.get("exit_code"))
        for each, fact in zip(told, facts, strict=True)
    ] == [("started", None), ("ended", 3), ("started", None), ("ended", 137)]
    assert [(fact["program"], fact["arguments"]) for fact in facts[1:3]] == [
        ("sh", 2),
        ("sleep", 1),
    ]
    assert not any("text" in fact or "secret" in str(fact) for fact in facts)
    # What it wrote is there for the next of its name, and ends when that is asked for.
    await yard.http.delete(path, params={"wait": 20})
    container = await yard.run(served, name="keeper", volumes=volumes)
    path = f"/yard/v1/containers/{container['uuid']}"
    assert (await answer("cat", "/data/a"))[0]["text"] == "secret\n"
    await publish(yard, "container", "delete", "gone", id=container["uuid"], volumes=True)
    await yard.until("/volumes", lambda page: page["items"] == [])
    refused = await yard.http.post(f"{path}/exec", json={"command": ["true"]})
    assert refused.status_code == 404
