"""Entries are made, read and removed."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.registries.registry_door import URL, Door, P, data, entry, kinds
from tests.support.waiting import eventually

SAMPLE = {
    "container_registry_id": "b3c38f52-8f2e-43a3-9aa9-bd9a4c75e509",
    "container_registry_name": "internal-ai-registry",
    "container_registry_metadata": {
        "environment": "production",
        "owner": "mlops-team",
        "region": "us-west-2",
    },
    "container_registry_tags": ["ai", "training", "internal", "fast-pull"],
    "container_registry_public_url": "http://10.13.21.22:32633",
    "container_registry_image_prefix": "10.13.21.22:32633",
    "container_registry_config": {
        "auth_required": True,
        "mirror_enabled": False,
        "storage_backend": "s3",
        "max_layer_size_mb": 500,
    },
    "container_registry_storage_info": {
        "storage_type": "s3",
        "storage_size": -1,
        "memory_size": 8192,
        "registry_type": "aios",
    },
}


async def test_the_documented_entry_comes_back_as_it_was_sent(door: Door) -> None:
    answer = await door.call("POST", "/container_registry", json=SAMPLE)
    assert answer.status_code == 201
    assert answer.json()["data"] == {
        "message": "Container registry created",
        "id": SAMPLE["container_registry_id"],
    }
    document = await door.get(SAMPLE["container_registry_id"])
    assert {name: document[name] for name in SAMPLE} == SAMPLE
    assert set(document) - set(SAMPLE) == {
        "container_registry_secret",
        "container_registry_health",
        "created_at",
        "updated_at",
    }
    assert document["created_at"] == document["updated_at"]
    assert document["created_at"].endswith("Z")


async def test_only_the_url_is_needed_and_the_rest_reads_as_defaults(door: Door) -> None:
    id = await door.create()
    uuid.UUID(id)
    document = await door.get(id)
    expected = {
        "id": id,
        "name": "",
        "metadata": {},
        "config": {},
        "tags": [],
        "public_url": URL,
        "image_prefix": "",
        "storage_info": {},
        "secret": None,
    }
    assert {name: document[P + name] for name in expected} == expected


async def test_unknown_fields_are_dropped_and_read_only_ones_are_not_set(door: Door) -> None:
    id = await door.create(health={"reachable": True}, created_at="2001-01-01", _id="x", owner=1)
    document = await door.get(id)
    assert "owner" not in document
    assert "_id" not in document
    assert not document["created_at"].startswith("2001")


@pytest.mark.parametrize(
    "value",
    [
        {"a": 2**63 - 1, "b": -(2**63), "c": 1.5, "d": True, "e": None, "f": 1e300, "g": 0},
        {"unicode ☃ key": ["\U0001f600", "é", ""], "spaces in": {"deep": [[[{}]]]}},
        {"a": [1, "1", 1.0, None, {}, []]},
    ],
)
async def test_any_json_value_comes_back_exactly(door: Door, value: Any) -> None:
    id = await door.create(metadata=value, config=value)
    document = await door.get(id)
    assert json.dumps(document[f"{P}metadata"]) == json.dumps(value)
    assert json.dumps(document[f"{P}config"]) == json.dumps(value)


async def test_the_body_is_json_whatever_its_content_type(door: Door) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/xml"):
        answer = await door.call(
            "POST",
            "/container_registry",
            content=json.dumps(entry()),
            headers={"Content-Type": kind},
        )
        assert answer.status_code == 201, kind


async def test_an_id_is_taken_within_the_organisation_only(door: Door, other: Door) -> None:
    await door.create(id="mine")
    answer = await door.call("POST", "/container_registry", json=entry(id="mine"))
    assert answer.status_code == 409
    assert answer.json()["error"] == "Container registry already exists"
    await other.create(id="mine")


async def test_of_twenty_concurrent_creations_one_succeeds(door: Door) -> None:
    answers = await asyncio.gather(
        *(door.call("POST", "/container_registry", json=entry(id="one")) for _ in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert await door.found({}) == ["one"]
    assert kinds(await door.events("one")).count("created") == 1


async def test_a_deleted_id_is_unknown_and_free_again(door: Door) -> None:
    await door.create(id="gone", tags=["a"])
    answer = await door.call("DELETE", "/container_registry/gone")
    assert answer.json() == {"success": True, "data": {"message": "Container registry deleted"}}
    for method, path, error in (
        ("GET", "/container_registry/gone", "No document found"),
        ("PUT", "/container_registry/gone", "No document found to update"),
        ("DELETE", "/container_registry/gone", "No document found to delete"),
        ("GET", "/check_container_health/gone", "Container registry not found"),
    ):
        answer = await door.call(method, path, json={f"{P}name": "x"})
        assert (answer.status_code, answer.json()["error"]) == (404, error)
    assert await door.found({}) == []
    await door.create(id="gone")
    assert await door.found({}) == ["gone"]


async def test_another_organisations_entry_is_unknown(door: Door, other: Door) -> None:
    await door.create(id="private")
    for method, path in (
        ("GET", "/container_registry/private"),
        ("PUT", "/container_registry/private"),
        ("DELETE", "/container_registry/private"),
        ("GET", "/check_container_health/private"),
    ):
        answer = await other.call(method, path, json={f"{P}name": "x"})
        assert answer.status_code == 404, path
    assert await other.found({}) == []
    assert (await door.get("private"))[f"{P}name"] == ""


async def test_every_step_of_an_entrys_life_is_an_event(door: Door, yard: Any) -> None:
    id = await door.create(name="first", tags=["a"])
    await door.updated(id, {f"{P}name": "second", f"{P}tags": ["b"]})
    record = await door.record(id)
    await door.call("DELETE", f"/container_registry/{id}")
    events = await door.events(id)
    told = dict(zip(kinds(events), events, strict=True))
    assert [kind for kind in kinds(events) if "check" not in kind and "health" not in kind] == [
        "created",
        "updated",
        "deleted",
    ]
    for kind in ("created", "updated", "deleted"):
        assert data(told[kind])["id"] == id
        assert told[kind].headers["ce-actor"].startswith("token:")
        assert told[kind].headers["ce-time"]
    assert data(told["updated"])["fields"] == [f"{P}name", f"{P}tags"]
    assert record.created_by == told["created"].headers["ce-actor"]


async def test_what_was_deleted_keeps_no_content_and_is_purged(door: Door, yard: Any) -> None:
    id = await door.create(metadata={"secret-plan": 1}, tags=["a"])
    await door.call("DELETE", f"/container_registry/{id}")
    left = await door.record(id)
    assert left.deleted
    assert left.metadata == {}
    assert left.tags == []


async def test_an_offline_registry_is_accepted_and_gets_its_first_result(door: Door) -> None:
    id = await door.create(public_url="http://127.0.0.1:9")

    async def is_checked() -> bool:
        return (await door.get(id))[f"{P}health"] is not None

    await eventually(is_checked)
    health = (await door.get(id))[f"{P}health"]
    assert health["reachable"] is False
    assert health["error_kind"] == "refused"


def test_the_ready_entry_of_the_deployment_is_the_documented_one() -> None:
    ready = Path(__file__).parents[3] / "deploy/container-registry/entry.json"
    assert json.loads(ready.read_text()) == SAMPLE
