"""Commands that automation publishes, in the order in which they happen to arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.core import records
from pipeline.rules import topology
from pipeline.stack.nats import NatsPiece
from schemas.container import Container
from schemas.message import Message
from tests.support.image_delivery import push
from tests.support.images import busybox_image
from tests.support.waiting import eventually
from tests.support.whole_yard import WholeYard, whole_yard


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
    uuid = records.id_for(yard.org, Container.resource, "made-late")
    await publish(yard, "container", "delete", "early", id=uuid)

    async def tried_in_vain() -> bool:
        return await attempts(yard) == 1

    await eventually(tried_in_vain)
    await publish(yard, "container", "create", "made-late", image=served, name="late")

    async def is_gone() -> bool:
        found = await yard.services.store.find_one(Container, org=yard.org, where={"_id": uuid})
        return found is not None and found.status == "DELETED"

    await eventually(is_gone)
    await publish(yard, "container", "create", "made-late", image=served, name="late")
    assert await yard.engine_containers() == []
    assert await letters(yard) == []


async def test_a_stop_that_arrives_before_its_creation_is_not_lost(
    yard: WholeYard, served: str
) -> None:
    await yard.image(served)
    uuid = records.id_for(yard.org, Container.resource, "made-late")
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
    uuid = records.id_for(yard.org, Container.resource, "c")
    await yard.until(f"/containers/{uuid}", lambda c: c.get("status") == "RUNNING")
    await publish(yard, "container", "delete", "d", id=uuid)
    await until_idle(yard)

    async def is_gone() -> bool:
        return (await yard.services.store.get(Container, uuid, org=yard.org)).status == "DELETED"

    await eventually(is_gone)
    revision = (await yard.services.store.get(Container, uuid, org=yard.org)).revision
    await publish(yard, "container", "stop", "s", id=uuid)
    await publish(yard, "container", "place", "p", id=uuid)
    await publish(yard, "container", "delete", "again", id=uuid)
    await publish(yard, "container", "create", "c", image=served, name="short")
    await until_idle(yard)
    assert (await yard.services.store.get(Container, uuid, org=yard.org)).revision == revision
    assert await yard.engine_containers() == []
    assert await letters(yard) == []


async def test_a_container_may_be_ordered_together_with_its_image(
    yard: WholeYard, served: str
) -> None:
    await publish(yard, "container", "create", "c", image="together", name="together")
    await publish(yard, "image", "create", "i", reference=served, name="together")
    uuid = records.id_for(yard.org, Container.resource, "c")
    await yard.until(f"/containers/{uuid}", lambda c: c.get("status") == "RUNNING", 20)
    assert len(await yard.engine_containers()) == 1
    assert await letters(yard) == []


async def test_a_command_that_makes_no_sense_is_answered_with_a_letter(
    yard: WholeYard, served: str
) -> None:
    await publish(yard, "container", "create", "bad", image=served, name="bad", colour="red")

    async def is_buried() -> bool:
        return len(await letters(yard)) == 1

    await eventually(is_buried, timeout_s=20)
    (letter,) = await letters(yard)
    assert letter["code"] == "poison_message"
    assert "colour" in letter["reason"]
