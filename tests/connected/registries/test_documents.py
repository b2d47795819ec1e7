"""The rules of an entry's fields, over HTTP: what is refused leaves nothing, what is kept comes
back as it was sent."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from api.registry_db import documents
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.registries import wire
from tests.support.registries.registry_door import URL, Door, P, entry, kinds
from tests.support.registries.registry_values import FORBIDDEN, RIGHT, WRONG
from tests.support.tenants import principal

KEYS = [{"": 1}, {"$set": 1}, {"a.b": 1}, {"a": {"b": [{"$c": 1}]}}, {"a": [[{"": 1}]]}, {".": 1}]


async def is_refused(door: Door, body: Any) -> bool:
    answer = await door.call("POST", "/container_registry", json=body)
    return answer.status_code == 400


@pytest.mark.parametrize("field", WRONG)
async def test_a_wrong_value_is_400_by_the_name_of_its_field_and_leaves_nothing(
    door: Door, field: str
) -> None:
    id = await door.create(id="there")
    before = await door.get(id)
    for value in WRONG[field]:
        answer = await door.call("POST", "/container_registry", json=entry(**{field: value}))
        assert answer.status_code == 400, value
        assert P + field in answer.json()["error"], value
        if field != "id":
            answer = await door.put(id, {P + field: value})
            assert answer.status_code == 400, value
    assert await door.found({}) == ["there"]
    assert (await door.get(id))["updated_at"] == before["updated_at"]


@pytest.mark.parametrize("field", [field for field in RIGHT if field not in ("id", "secret")])
async def test_a_right_value_comes_back_as_it_was_sent(door: Door, field: str) -> None:
    for value in RIGHT[field]:
        by_create = await door.get(await door.create(**{field: value}))
        by_update = await door.updated(await door.create(), {P + field: value})
        assert json.dumps(by_create[P + field]) == json.dumps(value)
        assert json.dumps(by_update[P + field]) == json.dumps(value)


@pytest.mark.parametrize("field", ["metadata", "config", "storage_info"])
async def test_keys_that_a_store_would_take_for_more_are_refused_at_any_depth(
    door: Door, field: str
) -> None:
    for value in KEYS:
        assert await is_refused(door, entry(**{field: value})), value
    assert await door.found({}) == []


async def test_an_id_may_have_every_allowed_character_and_is_found_by_it(door: Door) -> None:
    for id in ("A.b_c:d-9", "x" * 128, "0", "a%3Ab"):
        spelled = id.replace("%3A", ":")
        assert await door.create(id=spelled) == spelled
        answer = await door.call("GET", f"/container_registry/{id}")
        assert answer.json()["data"][f"{P}id"] == spelled
        await door.call("DELETE", f"/container_registry/{id}")
    assert await door.found({}) == []


async def test_the_url_may_have_2048_characters(door: Door) -> None:
    longest = "http://registry.test/" + "x" * (2048 - len("http://registry.test/"))
    assert (await door.get(await door.create(public_url=longest)))[f"{P}public_url"] == longest
    assert await is_refused(door, entry(public_url=longest + "x"))


async def test_strange_top_level_keys_are_dropped_on_creation(door: Door) -> None:
    strange = {"$set": {"a": 1}, "$where": "1", "a.b": 1, "": 2, "org": "other", "deleted": True}
    answer = await door.call("POST", "/container_registry", json=entry(id="x") | strange)
    assert answer.status_code == 201
    plain = await door.get(await door.create(id="y"))
    assert (await door.get("x")).keys() == plain.keys()
    assert await door.found({}) == ["x", "y"]


async def test_a_document_nested_as_deep_as_json_may_be_comes_back(door: Door) -> None:
    value: Any = 1
    for _ in range(61):
        value = {"a": value}
    id = await door.create(metadata={"deep": value})
    assert (await door.get(id))[f"{P}metadata"] == {"deep": value}
    (found,) = (await door.query({f"{P}id": id})).json()["data"]
    assert found[f"{P}metadata"] == {"deep": value}
    assert await is_refused(door, entry(metadata={"deep": {"a": {"a": value}}}))
    repeated = await door.updated(id, {f"{P}metadata": {"deep": value}})
    assert repeated["updated_at"] == repeated["created_at"]
    assert (await door.put(id, {f"{P}metadata.deep": {"a": {"a": value}}})).status_code == 400
    assert await door.updated(await door.create(), {f"{P}metadata": {"deep": value}})


async def test_only_a_living_secret_can_be_named(door: Door) -> None:
    """An unknown one, one of another kind of record, and one that was deleted."""
    gone = await door.secret("registry.test:5000")
    await door.http.delete(f"/accounts/secrets/{gone}/")
    record = (await door.record(await door.create(id="there"))).uuid
    for wrong in (str(uuid.uuid4()), gone, record):
        answer = await door.call("POST", "/container_registry", json=entry(secret=wrong))
        assert answer.status_code == 400
        assert answer.json()["error"] == f"{P}secret names no registry secret of yours."
    assert await door.found({}) == ["there"]


async def test_a_secret_is_kept_in_one_spelling_whatever_is_sent(door: Door) -> None:
    secret = await door.secret("registry.test:5000")
    id = await door.create(secret=secret.upper())
    before = await door.get(id)
    assert before[f"{P}secret"] == secret
    after = await door.updated(id, {f"{P}secret": "{" + secret.replace("-", "") + "}"})
    assert (after[f"{P}secret"], after["updated_at"]) == (secret, before["updated_at"])
    assert "updated" not in kinds(await door.events(id))


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_no_forbidden_address_gets_in(door: Door, url: str) -> None:
    assert await is_refused(door, entry(public_url=url))
    id = await door.create()
    assert (await door.put(id, {f"{P}public_url": url})).status_code == 400
    assert (await door.get(id))[f"{P}public_url"] == URL


async def test_before_the_first_check_health_is_null(yard: Yard, org: str) -> None:
    made = await yard.registries.service.create(principal(org), wire.read(entry()))
    assert documents.shown(made.model_dump())[f"{P}health"] is None


async def test_what_a_stored_entry_lacks_reads_as_its_default(door: Door, yard: Yard) -> None:
    """As after an update of Modelyard that brought a new field."""
    id = await door.create(name="x", tags=["a"])
    whole = await door.check(id) and await door.get(id)
    record = await door.record(id)
    fields = [f"{P}{name}" for name in ("config", "storage_info", "secret", "image_prefix")]
    unset = {"$unset": dict.fromkeys(fields, "")}
    await yard.records.store.update(type(record), record.uuid, org=door.org, guard={}, update=unset)
    assert await door.get(id) == whole
    assert (await door.query({})).json()["data"] == [whole]
