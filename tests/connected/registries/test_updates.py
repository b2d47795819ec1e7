"""Entries are changed: operators, partial documents, and all of it or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.registries import wire
from pipeline.registries.service import Registries
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door, P, data, kinds
from tests.support.tenants import principal
from tests.support.waiting import eventually

META = f"{P}metadata"
TAGS = f"{P}tags"
NAME = f"{P}name"
URL = f"{P}public_url"


@pytest.fixture
async def id(door: Door) -> str:
    return await door.create(
        name="first",
        tags=["a", "b"],
        metadata={"region": "eu", "count": 1, "deep": {"list": [1, 2, 3]}},
        storage_info={"storage_type": "s3", "storage_size": 10},
    )


APPLIED: list[tuple[Any, str, Any]] = [
    ({"$set": {NAME: "updated-name"}}, "name", "updated-name"),
    ({NAME: "plain"}, "name", "plain"),
    ({META: {"only": "this"}}, "metadata", {"only": "this"}),
    ({f"{META}.region": "us"}, "metadata.region", "us"),
    ({"$set": {f"{META}.new.path": 1}}, "metadata.new", {"path": 1}),
    ({"$set": {f"{TAGS}.0": "z"}}, "tags", ["z", "b"]),
    ({"$unset": {NAME: ""}}, "name", ""),
    ({"$unset": {META: 1}}, "metadata", {}),
    ({"$unset": {TAGS: 1}}, "tags", []),
    ({"$unset": {f"{P}image_prefix": ""}}, "image_prefix", ""),
    ({"$unset": {f"{P}config": ""}}, "config", {}),
    ({"$unset": {f"{P}storage_info": ""}}, "storage_info", {}),
    ({"$unset": {f"{P}secret": ""}}, "secret", None),
    ({"$unset": {f"{META}.deep.list": ""}}, "metadata.deep", {}),
    ({"$unset": {f"{TAGS}.7": ""}}, "tags", ["a", "b"]),
    ({"$push": {TAGS: "c"}}, "tags", ["a", "b", "c"]),
    ({"$push": {TAGS: {"$each": ["c", "a"]}}}, "tags", ["a", "b", "c", "a"]),
    ({"$push": {f"{META}.log": {"at": 1}}}, "metadata.log", [{"at": 1}]),
    ({"$addToSet": {TAGS: "a"}}, "tags", ["a", "b"]),
    ({"$addToSet": {TAGS: {"$each": ["a", "c", "c"]}}}, "tags", ["a", "b", "c"]),
    ({"$pull": {TAGS: "a"}}, "tags", ["b"]),
    ({"$pull": {TAGS: {"$in": ["a", "x"]}}}, "tags", ["b"]),
    ({"$pull": {f"{META}.deep.list": {"$gte": 2}}}, "metadata.deep.list", [1]),
    ({"$pull": {TAGS: {"$regex": "^b"}}}, "tags", ["a"]),
    ({"$inc": {f"{META}.count": 2}}, "metadata.count", 3),
    ({"$inc": {f"{META}.fresh": -1.5}}, "metadata.fresh", -1.5),
    ({"$inc": {f"{P}storage_info.storage_size": -11}}, "storage_info.storage_size", -1),
    ({"$rename": {f"{META}.region": f"{META}.place"}}, "metadata.place", "eu"),
    ({"$rename": {f"{META}.region": f"{P}config.region"}}, "config", {"region": "eu"}),
    ({"$rename": {META: f"{P}config"}}, "metadata", {}),
    ({"$rename": {META: f"{P}config"}}, "config.region", "eu"),
    ({"$rename": {NAME: f"{P}image_prefix"}}, "image_prefix", "first"),
    ({"$rename": {f"{META}.absent": f"{META}.x"}}, "metadata.region", "eu"),
    ({"$set": {f"{P}storage_info.colour": "red"}}, "storage_info.colour", "red"),
    ({f"{P}storage_info": {"storage_type": "fs"}}, "storage_info", {"storage_type": "fs"}),
    (
        {"$set": {NAME: "both"}, "$push": {TAGS: "c"}, "$inc": {f"{META}.count": 1}},
        "metadata.count",
        2,
    ),
]


@pytest.mark.parametrize(("body", "path", "expected"), APPLIED)
async def test_an_update_does_what_mongodb_would(
    door: Door, id: str, body: Any, path: str, expected: Any
) -> None:
    value: Any = await door.updated(id, body)
    first, *rest = path.split(".")
    value = value[P + first]
    for part in rest:
        value = value[part]
    assert value == expected


REFUSED: list[Any] = [
    {},
    {"$set": {NAME: "x"}, NAME: "y"},
    {"$set": {}},
    {"$set": "x"},
    {"$set": []},
    {"$push": {}},
    {"$setOnInsert": {NAME: "x"}},
    {"$currentDate": {NAME: True}},
    {"$mul": {f"{META}.count": 2}},
    {"$min": {f"{META}.count": 0}},
    {"$pop": {TAGS: 1}},
    {"$pullAll": {TAGS: ["a"]}},
    {"$bit": {f"{META}.count": {"or": 1}}},
    {"$where": "1"},
    {"$$set": {NAME: "x"}},
    {"": 1},
    {"colour": "red"},
    {"$set": {"colour": "red"}},
    {"$set": {"_id": "x"}},
    {"$set": {"org": "other"}},
    {"$set": {"outbox": []}},
    {"$set": {"revision": 1}},
    {"$set": {"deleted": True}},
    {"$set": {f"{P}health": None}},
    {f"{P}health.reachable": True},
    {"$set": {"created_at": "2001-01-01"}},
    {"$set": {"updated_at": "2001-01-01"}},
    {"$set": {f"{TAGS}.$": "x"}},
    {"$set": {f"{TAGS}.$[]": "x"}},
    {"$set": {f"{TAGS}.$[t]": "x"}},
    {"$set": {f"{META}..a": 1}},
    {"$set": {f"{META}.": 1}},
    {"$set": {f".{META}": 1}},
    {"$set": {f"{NAME}.a": 1}},
    {"$set": {f"{URL}.a": 1}},
    {"$set": {META: {}}, "$inc": {f"{META}.count": 1}},
    {"$set": {f"{META}.a": 1, f"{META}.a.b": 1}},
    {"$set": {NAME: "x"}, "$unset": {NAME: 1}},
    {"$rename": {f"{META}.a": f"{META}.a"}},
    {"$rename": {f"{META}.a": 7}},
    {"$rename": {f"{META}.a": "colour"}},
    {"$unset": {URL: ""}},
    {"$rename": {URL: NAME}},
    {"$unset": {"colour": ""}},
    {"$unset": {f"{TAGS}.0": ""}},
    {URL: None},
    {URL: "not a url"},
    {URL: "http://169.254.169.254/latest"},
    {URL: "http://0x7f000001"},
    {NAME: 7},
    {NAME: None},
    {TAGS: "a"},
    {"$push": {TAGS: 7}},
    {"$push": {TAGS: ""}},
    {"$push": {TAGS: {"$each": ["x"] * 99}}},
    {"$push": {TAGS: {"$each": ["x"], "$slice": 1}}},
    {"$push": {TAGS: {"$each": "x"}}},
    {"$push": {NAME: "x"}},
    {"$addToSet": {META: "x"}},
    {"$pull": {TAGS: {"$where": "1"}}},
    {"$pull": {TAGS: {"$regex": "(a+)+$"}}},
    {"$inc": {f"{META}.region": 1}},
    {"$inc": {f"{META}.count": "1"}},
    {"$inc": {f"{META}.count": 2**63 - 1}},
    {"$inc": {f"{META}.count": True}},
    {META: {"$set": 1}},
    {META: {"a.b": 1}},
    {META: {"": 1}},
    {"$set": {f"{META}.a": {"$b": 1}}},
    {f"{P}storage_info.storage_type": "tape"},
    {"$unset": {f"{P}storage_info.storage_size": 1}, f"{P}storage_info": {}},
    {"$inc": {f"{P}storage_info.storage_size": 0.5}},
    {"$inc": {f"{P}storage_info.storage_size": -12}},
    {f"{P}secret": "4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d"},
    {f"{P}secret": "not-a-uuid"},
    {"$set": {f"{META}." + ".".join("a" * 200): 1}},
    {"$rename": {NAME: META}},
]


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: str(body)[:60])
async def test_a_refused_update_changes_nothing(door: Door, id: str, body: Any) -> None:
    before = await door.get(id)
    answer = await door.put(id, body)
    assert answer.status_code == 400, answer.text
    after = await door.get(id)
    del before[f"{P}health"], after[f"{P}health"]
    assert after == before


ID_CHANGES: list[Any] = [
    {f"{P}id": "other"},
    {"$set": {f"{P}id": "other"}},
    {f"{P}id": None},
    {f"{P}id": 7},
    {"$unset": {f"{P}id": ""}},
    {"$push": {f"{P}id": "x"}},
    {"$inc": {f"{P}id": 1}},
    {"$rename": {f"{P}id": NAME}},
    {"$rename": {NAME: f"{P}id"}},
    {f"{P}id.x": 1},
]


@pytest.mark.parametrize("body", ID_CHANGES, ids=str)
async def test_the_id_cannot_be_changed(door: Door, id: str, body: Any) -> None:
    answer = await door.put(id, body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "container_registry_id cannot be changed"
    assert (await door.get(id))[f"{P}id"] == id


async def test_the_present_id_may_be_repeated(door: Door, id: str) -> None:
    document = await door.updated(id, {f"{P}id": id, NAME: "x"})
    assert document[NAME] == "x"


async def test_what_changes_nothing_keeps_the_time_and_says_nothing(door: Door, id: str) -> None:
    before = await door.get(id)
    for body in (
        {NAME: "first"},
        {f"{P}id": id},
        {"$addToSet": {TAGS: "a"}},
        {"$pull": {TAGS: "absent"}},
        {"$unset": {f"{META}.absent": ""}},
        {"$inc": {f"{META}.count": 0}},
        {META: before[META]},
    ):
        answer = await door.put(id, body)
        assert (answer.status_code, answer.json()["data"]) == (
            200,
            {"message": "Container registry updated"},
        )
    after = await door.get(id)
    assert after["updated_at"] == before["updated_at"]
    assert "updated" not in kinds(await door.events(id))


async def test_a_large_number_is_the_same_number_when_it_is_sent_again(door: Door) -> None:
    id = await door.create(metadata={"n": 2**40})
    before = await door.get(id)
    await door.put(id, {META: {"n": 2**40}})
    assert (await door.get(id))["updated_at"] == before["updated_at"]


async def test_the_same_number_of_another_type_is_a_change(door: Door, id: str) -> None:
    document = await door.updated(id, {f"{META}.count": 1.0})
    assert isinstance(document[META]["count"], float)
    assert document["updated_at"] > document["created_at"]


async def test_an_unknown_id_leaves_nothing_behind(door: Door) -> None:
    answer = await door.put("ghost", {NAME: "x", URL: "http://r.test"})
    assert (answer.status_code, answer.json()["error"]) == (404, "No document found to update")
    assert await door.found({}) == []


async def test_fifty_concurrent_updates_all_count(door: Door, id: str) -> None:
    answers = await asyncio.gather(
        *(door.put(id, {"$inc": {f"{META}.count": 1}, "$push": {TAGS: f"t{n}"}}) for n in range(50))
    )
    assert {answer.status_code for answer in answers} == {200}
    document = await door.get(id)
    assert document[META]["count"] == 51
    assert sorted(document[TAGS]) == sorted(["a", "b", *(f"t{n}" for n in range(50))])
    assert kinds(await door.events(id)).count("updated") == 50


async def test_two_processes_do_not_overwrite_each_other(door: Door, id: str, yard: Any) -> None:
    """The guard of the write decides, not the turns that one process takes."""
    known = yard.registries.service

    async def bump(entries: Registries) -> None:
        await entries.update(
            principal(door.org), id, wire.read_update({"$inc": {f"{META}.count": 1}})
        )

    several = [
        Registries(yard.records, known._search, yard.secrets.service, yard.settings)
        for _ in range(8)
    ]
    await asyncio.gather(*(bump(entries) for entries in several for _ in range(3)))
    assert (await door.get(id))[META]["count"] == 25


async def test_the_document_cannot_outgrow_what_one_could_be_made_with(door: Door) -> None:
    id = await door.create(metadata={"text": "x" * 600_000})
    answer = await door.put(id, {f"{META}.more": "x" * 600_000})
    assert answer.status_code == 400
    assert list((await door.get(id))[META]) == ["text"]


async def test_what_was_made_as_large_as_can_be_may_be_sent_again_and_made_smaller(
    door: Door,
) -> None:
    """Bodies are counted as sent, documents as kept: figures and defaults make these longer."""
    figures = ",".join(["1e9"] * 100_000)
    body = f'{{"{P}id":"x","{URL}":"http://registry.test","{META}":{{"figures":[{figures}]}}}}'
    assert (await door.call("POST", "/container_registry", content=body)).status_code == 201
    assert (await door.call("PUT", "/container_registry/x", content=body)).status_code == 200
    assert (await door.put("x", {f"{META}.more": "x"})).status_code == 400
    assert (await door.put("x", {META: {}})).status_code == 200


async def test_a_changed_url_is_checked_anew(door: Door, id: str) -> None:
    assert (await door.check(id))["url"] == "http://registry.test:5000"
    await door.updated(id, {URL: "http://127.0.0.1:9"})

    async def is_new() -> bool:
        found = (await door.get(id))[f"{P}health"]
        return bool(found["url"] == "http://127.0.0.1:9")

    await eventually(is_new)


async def test_a_changed_secret_is_tried_at_once(door: Door, locked_host: str) -> None:
    secret = await door.secret(locked_host, username=USER, password=PASSWORD)
    id = await door.create(public_url=f"http://{locked_host}")

    async def until(credentials_ok: bool | None) -> None:
        async def is_known() -> bool:
            found = (await door.get(id))[f"{P}health"]
            return found is not None and found["credentials_ok"] is credentials_ok

        await eventually(is_known)

    await until(None)
    for body, expected in (({f"{P}secret": secret}, True), ({"$unset": {f"{P}secret": ""}}, None)):
        await door.updated(id, body)
        await until(expected)
    told = [event for event in await door.events(id) if event.subject.endswith(".updated")]
    assert [data(event)["fields"] for event in told] == [[f"{P}secret"]] * 2


async def test_other_changes_ask_for_no_check(door: Door, id: str) -> None:
    await door.check(id)
    await door.updated(id, {NAME: "x", f"{META}.region": "us"})
    assert (await door.record(id)).asked == []


async def test_an_update_event_names_the_fields_and_holds_no_values(door: Door, id: str) -> None:
    await door.updated(id, {f"{P}config.token": "very-private", NAME: "x"})
    told = [event for event in await door.events(id) if event.subject.endswith(".updated")]
    assert data(told[-1])["fields"] == [f"{P}config", NAME]
    assert b"very-private" not in b"".join(event.data for event in await door.events(id))


async def test_an_update_event_tells_the_name_and_url_that_it_has_now(door: Door, id: str) -> None:
    await door.updated(id, {NAME: "renamed", URL: "http://moved.test"})
    told = [event for event in await door.events(id) if event.subject.endswith(".updated")]
    facts = data(told[-1])
    assert (facts["id"], facts["name"], facts["public_url"]) == (id, "renamed", "http://moved.test")
