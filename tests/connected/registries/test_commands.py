"""Commands without HTTP: same validation, same record, same events; one effect however often."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import pytest

from pipeline import topology
from pipeline.adapters.store.store import KINDS
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.errors import BusUnavailable
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.registries import wire
from pipeline.registries.service import Registries
from schemas.access import Role
from schemas.message import Message
from tests.support.registries.registry_door import Door, P, data, entry, kinds
from tests.support.tenants import principal
from tests.support.waiting import eventually


class BrokenBus:
    async def publish(self, message: Message, *, timeout_s: float = 0) -> int:
        raise BusUnavailable("It is away.")


def command(door: Door, verb: str, body: dict[str, Any], id: str | None = None) -> Message:
    return Message(
        id=id or uuid.uuid4().hex,
        subject=topology.command(door.org, "registry", verb),
        type=f"modelyard.cmd.registry.{verb}",
        source="ci",
        time=door.services.records.clock(),
        data=body,
    )


async def send(door: Door, verb: str, body: dict[str, Any], id: str | None = None) -> str:
    message = command(door, verb, body, id)
    await door.services.bus.publish(message)
    return message.id


async def again(door: Door, verb: str, body: dict[str, Any], id: str) -> None:
    """The same command outside the window in which the broker drops it."""
    message = command(door, verb, body, id)
    headers = message.headers() | {"Nats-Msg-Id": uuid.uuid4().hex}
    await door.services.bus.publish_raw(message.subject, message.body(), headers)


async def until_idle(door: Door) -> None:
    """Every command of the organisation is done."""

    async def is_idle() -> bool:
        batch = await door.services.bus.read_batch(
            topology.COMMANDS.name, after=0, subject=f"yard.cmd.{door.org}.>"
        )
        return not batch.messages

    await eventually(is_idle)


async def dead_letters(door: Door) -> list[tuple[str, str]]:
    """Verb and code of this organisation's dead letters."""
    await until_idle(door)
    caller = principal(door.org, Role.ADMIN)
    page = await door.services.dead_letters.list(caller)
    return [(letter.subject.rpartition(".")[2], letter.code) for letter in page.items]


async def until_tried_in_vain(door: Door, id: str) -> None:
    """The command with this id came before what it is about, and waits for its next attempt."""
    name = hashlib.sha256(id.encode()).hexdigest()[:16]
    stream = topology.ATTEMPTS

    async def has_failed() -> bool:
        notes = door.services.bus.read_stored(stream.name, stream.subjects[0])
        return any([note.subject.endswith(name) async for note in notes])

    await eventually(has_failed)


async def checkers(door: Door, id: str) -> list[str]:
    """Who had the entry looked at: `token` or `queue`, oldest first."""
    checked = [event for event in await door.events(id) if event.subject.endswith(".checked")]
    return [event.headers["ce-actor"].partition(":")[0] for event in checked]


async def test_an_entry_lives_by_commands_alone(door: Door) -> None:
    await send(door, "create", entry(id="by-queue", name="first", tags=["a"]))
    await until_idle(door)
    assert (await door.get("by-queue"))[f"{P}name"] == "first"
    await send(door, "update", {"id": "by-queue", "update": {"$push": {f"{P}tags": "b"}}})
    await until_idle(door)
    assert (await door.get("by-queue"))[f"{P}tags"] == ["a", "b"]
    before = (await door.get("by-queue"))[f"{P}health"]
    await send(door, "health", {"id": "by-queue"})
    await until_idle(door)
    assert (await door.get("by-queue"))[f"{P}health"]["checked_at"] > before["checked_at"]
    await send(door, "delete", {"id": "by-queue"})
    await until_idle(door)
    assert await door.found({}) == []
    events = await door.events("by-queue")
    told = [kind for kind in kinds(events) if kind in ("created", "updated", "deleted")]
    assert told == ["created", "updated", "deleted"]
    assert {event.headers["ce-actor"] for event in events if "check" not in event.subject} >= {
        "queue:ci"
    }
    assert await dead_letters(door) == []


async def test_a_created_entry_is_the_same_as_one_that_came_by_http(door: Door) -> None:
    given = entry(name="x", tags=["a"], metadata={"n": 2**40}, storage_info={"storage_size": 1})
    by_http = await door.get(await door.create(**given))
    key = await send(door, "create", given)
    await until_idle(door)
    (by_queue,) = [
        each
        for each in (await door.query({})).json()["data"]
        if each[f"{P}id"] != by_http[f"{P}id"]
    ]
    assert by_queue.keys() == by_http.keys()
    own = {f"{P}id", f"{P}health", "created_at", "updated_at"}
    assert {k: v for k, v in by_queue.items() if k not in own} == {
        k: v for k, v in by_http.items() if k not in own
    }
    await again(door, "create", given, key)
    await until_idle(door)
    assert len(await door.found({})) == 2


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("create", {}),
        ("create", entry(public_url="nonsense")),
        ("create", entry(name=7)),
        ("create", entry(public_url="http://169.254.169.254")),
        ("create", entry(metadata={"$where": 1})),
        ("create", entry(metadata={"n": 2**64})),
        ("create", entry(secret="4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d")),
        ("update", {"id": "there", "update": {"$bump": {"a": 1}}}),
        ("update", {"id": "there", "update": {f"{P}id": "other"}}),
    ],
    ids=str,
)
async def test_what_http_would_refuse_is_given_up_and_leaves_nothing(
    door: Door, verb: str, body: dict[str, Any]
) -> None:
    await door.create(id="there")
    before = await door.get("there")
    await send(door, verb, body)
    assert await dead_letters(door) == [(verb, "invalid_input")]
    assert await door.found({}) == ["there"]
    assert (await door.get("there"))["updated_at"] == before["updated_at"]


async def test_a_command_about_nothing_is_given_up_and_anothers_entry_is_nothing(
    door: Door, other: Door
) -> None:
    """It is tried again first: the creation may come late."""
    await door.create(id="theirs")
    before = await door.get("theirs")
    await send(other, "update", {"id": "theirs", "update": {f"{P}name": "x"}})
    await send(other, "delete", {"id": "theirs"})
    await send(other, "health", {"id": "theirs"})
    assert sorted(await dead_letters(other)) == [
        ("delete", "not_found"),
        ("health", "not_found"),
        ("update", "not_found"),
    ]
    assert (await door.get("theirs"))["updated_at"] == before["updated_at"]


async def test_an_update_that_overtakes_the_creation_is_applied_after_it(door: Door) -> None:
    await send(door, "update", {"id": "late", "update": {f"{P}name": "x"}})
    await send(door, "create", entry(id="late"))
    await until_idle(door)
    assert (await door.get("late"))[f"{P}name"] == "x"


async def test_a_check_that_overtakes_the_creation_is_carried_out_after_it(door: Door) -> None:
    key = await send(door, "health", {"id": "late"})
    await until_tried_in_vain(door, key)
    await door.create(id="late", public_url="http://127.0.0.1:9")
    await until_idle(door)
    assert sorted(await checkers(door, "late")) == ["queue", "token"]
    assert (await door.get("late"))[f"{P}health"]["reachable"] is False
    assert await dead_letters(door) == []


async def test_a_deletion_that_overtakes_the_creation_is_carried_out_after_it(door: Door) -> None:
    key = await send(door, "delete", {"id": "late"})
    await until_tried_in_vain(door, key)
    await send(door, "create", entry(id="late"))
    await until_idle(door)
    assert await door.found({}) == []
    assert (await door.record("late")).deleted
    assert await dead_letters(door) == []


async def test_a_check_that_comes_after_the_deletion_looks_at_nothing_and_brings_nothing_back(
    door: Door,
) -> None:
    await send(door, "create", entry(id="gone", public_url="http://127.0.0.1:9"))
    await until_idle(door)
    await send(door, "delete", {"id": "gone"})
    await until_idle(door)
    before = await door.record("gone")
    await send(door, "health", {"id": "gone"})
    assert await dead_letters(door) == [("health", "not_found")]
    assert await checkers(door, "gone") == ["queue"]
    assert (await door.record("gone")).revision == before.revision
    assert await door.found({}) == []


async def test_a_check_of_what_was_deleted_meanwhile_is_dropped(door: Door) -> None:
    id = await door.create()
    await door.call("DELETE", f"/container_registry/{id}")
    await send(door, "health", {"id": id, "ask": "of-the-deleted-one"})
    assert await dead_letters(door) == []


async def test_a_taken_id_is_given_up(door: Door) -> None:
    await door.create(id="mine", name="first")
    await send(door, "create", entry(id="mine", name="second"))
    assert await dead_letters(door) == [("create", "already_exists")]
    assert (await door.get("mine"))[f"{P}name"] == "first"


async def test_an_update_that_comes_again_is_applied_once(door: Door) -> None:
    await door.create(id="one", metadata={"n": 0})
    body = {"id": "one", "update": {"$inc": {f"{P}metadata.n": 1}, "$push": {f"{P}tags": "x"}}}
    key = await send(door, "update", body)
    await until_idle(door)
    await door.updated("one", {f"{P}name": "meanwhile"})
    await again(door, "update", body, key)
    await until_idle(door)
    document = await door.get("one")
    assert (document[f"{P}metadata"], document[f"{P}tags"]) == ({"n": 1}, ["x"])


async def test_a_deletion_that_comes_again_spares_the_successor(door: Door) -> None:
    await door.create(id="one")
    key = await send(door, "delete", {"id": "one"})
    await until_idle(door)
    await door.create(id="one", name="successor")
    await again(door, "delete", {"id": "one"}, key)
    assert await dead_letters(door) == []
    assert (await door.get("one"))[f"{P}name"] == "successor"


async def test_a_creation_that_comes_again_does_not_bring_back_what_was_deleted(door: Door) -> None:
    body = entry(id="one")
    key = await send(door, "create", body)
    await until_idle(door)
    await door.call("DELETE", "/container_registry/one")
    await again(door, "create", body, key)
    assert await dead_letters(door) == []
    assert await door.found({}) == []


async def test_the_organisation_comes_from_the_subject_only(door: Door, other: Door) -> None:
    await send(door, "create", entry(id="mine") | {"org": other.org})
    await until_idle(door)
    assert await door.found({}) == ["mine"]
    assert await other.found({}) == []


async def test_who_acts_is_not_believed_from_a_header(door: Door) -> None:
    message = command(door, "create", entry(id="mine"))
    forged = message.model_copy(update={"actor": "user:root"})
    await door.services.bus.publish(forged)
    await until_idle(door)
    created = (await door.events("mine"))[0]
    assert created.headers["ce-actor"] == "queue:ci"


async def test_a_check_that_nobody_asked_for_names_the_queue_and_one_that_was_asked_its_asker(
    door: Door,
) -> None:
    await door.create(id="mine", public_url="http://127.0.0.1:9")
    await until_idle(door)
    await send(door, "health", {"id": "mine"})
    await until_idle(door)
    assert await checkers(door, "mine") == ["token", "queue"]


async def test_an_outbox_left_by_a_crash_is_sent_by_the_sweep(door: Door, yard: Yard) -> None:
    """Deletion included: its record stays until the event is out."""
    async with Outbox(yard.records.store, BrokenBus()) as outbox:
        entries = Registries(
            Records(yard.records.store, outbox),
            yard.registries.service._search,
            yard.secrets.service,
            yard.settings,
        )
        caller = principal(door.org)
        await entries.create(caller, wire.read(entry(id="crashed")))
        await entries.delete(caller, "crashed")
    assert await door.events("crashed") == []
    await yard.records.outbox.sweep(KINDS, yard.records.clock())
    told = await door.events("crashed")
    assert kinds(told)[:2] == ["created", "deleted"]
    assert json.loads(told[1].data)["id"] == "crashed"
    assert data(told[1])["uuid"] == (await door.record("crashed")).uuid
