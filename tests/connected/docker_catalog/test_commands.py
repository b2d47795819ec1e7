"""Images of the catalogue by queue alone: the same rules, the same record, the same events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline import topology
from schemas.registries.catalog import CatalogEntry
from tests.support import records as made
from tests.support.registries.catalog_door import CatalogDoor, image
from tests.support.tenants import principal

HIDDEN = "hunter-2-of-the-queue"
LOGIN = {"registry_username": "ci", "registry_password": HIDDEN}


async def first_kind(door: CatalogDoor, cause: str) -> str:
    return topology.parse_event((await door.told(cause))[0].subject).kind


async def refusal(door: CatalogDoor, cause: str) -> dict[str, Any]:
    """What is told of a command that was refused."""
    told = (await door.told(cause))[0]
    assert told.subject.endswith(".rejected"), told.subject
    return dict(json.loads(told.data))


async def test_an_image_lives_by_commands_alone(door: CatalogDoor) -> None:
    body = image(**LOGIN, ignored=1)
    assert await first_kind(door, await door.send("create", body)) == "created"
    [listed] = (await door.call("POST", "/docker/list")).json()
    by_http = await door.create(**{**body, "name": "by http"})
    assert listed == by_http | {name: listed[name] for name in ("pk", "name")}
    assert listed["registry_password"] == HIDDEN
    id = str(listed["pk"])
    change = {"id": id, "update": {"cpu": "yes", "tasks": []}}
    assert await first_kind(door, await door.send("update", change)) == "updated"
    assert await door.get(listed["pk"]) == listed | {"cpu": True, "tasks": []}
    assert await first_kind(door, await door.send("delete", {"id": id})) == "deleted"
    assert (await door.call("GET", f"/docker/{id}")).status_code == 404


async def test_a_creation_that_comes_again_makes_nothing_new(door: CatalogDoor) -> None:
    body = image()
    cause = await door.send("create", body)
    await door.told(cause)
    await door.send("create", body, id=cause)
    later = await door.send("create", image(name="later"))
    await door.told(later)
    await door.send("create", body, id=cause)
    await door.told(await door.send("create", image(name="last")))
    names = [each["name"] for each in (await door.call("POST", "/docker/list")).json()]
    assert names == [body["name"], "later", "last"]


@pytest.mark.parametrize(
    ("verb", "data", "code", "words"),
    [
        ("create", {**LOGIN, "name": ""}, "invalid_input", "name: This field may not be blank."),
        ("create", image(**LOGIN, cuda_version="99"), "invalid_input", "cuda_version: There is no"),
        ("update", {"id": "99999999", "update": LOGIN}, "not_found", "There is no such image"),
        ("update", {"id": "x", "update": LOGIN}, "not_found", "There is no such image"),
        ("delete", {"id": "99999999"}, "not_found", "There is no such image"),
    ],
)
async def test_a_command_that_is_refused_tells_its_sender_why_and_shows_no_password(
    door: CatalogDoor, verb: str, data: dict[str, Any], code: str, words: str
) -> None:
    cause = await door.send(verb, data)
    told = await refusal(door, cause)
    assert (told["code"], told["verb"], told["command"]) == (code, verb, cause)
    assert words in told["reason"]
    assert HIDDEN not in json.dumps(told)
    [letter] = (await door.services.dead_letters.list(principal(door.org))).items
    shown = await door.services.dead_letters.get(principal(door.org), letter.id)
    assert HIDDEN not in shown.model_dump_json()
    assert (await door.call("POST", "/docker/list")).json() == []


async def test_what_is_in_use_is_not_deleted_by_queue_either(door: CatalogDoor) -> None:
    entry = await door.create()
    reference = {"registry": "registry.test:5000", "repository": "team/model", "tag": "1"}
    used = made.image(org=door.org, reference=entry["url"], parts=reference, status="READY")
    store = door.services.records.store
    await store.insert(used)
    await store.insert(made.container(org=door.org, image=used.uuid, status="RUNNING", name="busy"))
    told = await refusal(door, await door.send("delete", {"id": str(entry["pk"])}))
    assert (told["code"], "container busy" in told["reason"]) == ("conflict", True)
    assert await store.get(CatalogEntry, str(entry["pk"]), org=door.org)


async def test_a_deletion_that_comes_again_finds_nothing_to_do(door: CatalogDoor) -> None:
    pk = (await door.create())["pk"]
    await door.idle()
    cause = await door.send("delete", {"id": str(pk)})
    await door.told(cause)
    await door.send("delete", {"id": str(pk)})
    await door.idle()
    assert (await door.services.dead_letters.list(principal(door.org))).items == []
    assert await door.kinds(pk) == ["created", "validated", "deleted"]
