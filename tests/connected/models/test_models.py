"""§2: models and versions."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.models.models_door import Door

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")


async def test_a_model_gets_an_identifier_and_its_first_version(door: Door) -> None:
    answer = await door.call("POST", "/models", json={"name": "classifier", "version": "1.0.0"})
    assert answer.status_code == 201
    body = answer.json()
    assert re.fullmatch(r"[a-z0-9]{10}", body["identifier"])
    assert body["version"] == "1.0.0"
    assert body["status"] == "partial"
    assert TIME.fullmatch(body["createdAt"])


async def test_a_version_exists_once(door: Door) -> None:
    first = await door.create()
    path = f"/models/{first.identifier}/versions"
    added = await door.call("POST", path, json={"version": "1.1.0+build.7"})
    assert added.status_code == 201
    assert (added.json()["identifier"], added.json()["version"]) == (
        first.identifier,
        "1.1.0+build.7",
    )
    again = await door.call("POST", path, json={"version": "1.0.0"})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    read = await door.call("GET", f"{path}/1.1.0+build.7")
    assert read.json()["version"] == "1.1.0+build.7"


@pytest.mark.parametrize(
    "version", ["1", "1.0", "01.0.0", "latest", "1.0.0 ", "", "1.0.0-" + "a" * 200]
)
async def test_a_version_that_is_not_semantic_is_refused(door: Door, version: str) -> None:
    answer = await door.call("POST", "/models", json={"name": "m", "version": version})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_versions_are_listed_from_old_to_new(door: Door) -> None:
    first = await door.create(version="2.0.0")
    path = f"/models/{first.identifier}/versions"
    for version in ("10.0.0", "2.0.0-rc.1"):
        await door.call("POST", path, json={"version": version})
    listed = await door.call("GET", path)
    assert [each["version"] for each in listed.json()] == ["2.0.0-rc.1", "2.0.0", "10.0.0"]
    model = await door.call("GET", f"/models/{first.identifier}")
    assert model.json()["latestVersion"] == "10.0.0"
    assert model.json()["latestActiveVersion"] is None


async def test_a_model_is_described_and_tagged(door: Door) -> None:
    made = await door.create("tagged")
    path = f"/models/{made.identifier}"
    patch = {"description": "reads files", "tags": ["vision", "fast"], "unknown": 1}
    answer = await door.call("PATCH", path, json=patch)
    assert answer.status_code == 200
    assert (answer.json()["description"], answer.json()["tags"]) == (
        "reads files",
        ["vision", "fast"],
    )
    unchanged = await door.call("PATCH", path, json={"description": None, "tags": None})
    assert unchanged.json()["tags"] == ["vision", "fast"]
    assert (await door.call("GET", path)).json() == unchanged.json()


async def test_models_are_found_by_name_and_in_pages(door: Door) -> None:
    name = f"paged-{(await door.create()).identifier}"
    made = [(await door.create(name)).identifier for _ in range(3)]

    async def listed(**query: object) -> list[str]:
        answer = await door.call("GET", "/models", params={"name": name, **query})
        assert answer.status_code == 200
        return [each["identifier"] for each in answer.json()]

    assert await listed() == list(reversed(made))
    assert await listed(**{"per-page": 2}) == made[:0:-1]
    assert await listed(**{"per-page": 2, "page": 2}) == made[:1]
    assert await listed(**{"per-page": 2, "page": 3}) == []
    assert await listed(**{"sort-by": "identifier", "direction": "asc"}) == sorted(made)
    assert await listed(**{"sort-by": "createdAt", "direction": "DESC"}) == list(reversed(made))


@pytest.mark.parametrize(
    "query",
    [{"page": 0}, {"per-page": 0}, {"per-page": "x"}, {"sort-by": "$where"}, {"direction": "up"}],
)
async def test_a_list_that_cannot_be_made_is_refused(door: Door, query: dict[str, object]) -> None:
    assert (await door.call("GET", "/models", params=query)).status_code == 422


async def test_requirements_are_listed_in_whole_gibibytes(door: Door) -> None:
    answer = await door.call("GET", "/models/requirements/account")
    assert answer.status_code == 200
    for each in answer.json():
        assert each["status"] == "ACTIVE"
        assert re.fullmatch(r"\d+m", each["cpuAmount"])
        assert re.fullmatch(r"\d+Gi", each["memoryAmount"])
        assert each["requirementId"] > 0


async def test_a_new_version_has_defaults(door: Door) -> None:
    version = await (await door.create()).get()
    assert version["requirement"]["requirementId"] == 1
    assert version["timeout"] == {"run": 60000, "status": 60000}
    assert [each["name"] for each in version["inputs"]] == ["input"]
    assert [each["name"] for each in version["outputs"]] == ["results.json"]
    assert version["loadStatus"] == {
        "step": 0,
        "stepName": "Uploading container image",
        "percentage": 0,
    }
    assert version["containerImage"] is None
    assert version["sampleInput"] is None


async def test_a_version_is_described(door: Door) -> None:
    made = await door.create()
    patch = {
        "requirement": {"requirementId": 2},
        "timeout": {"run": 5000, "status": 7000},
        "inputs": [
            {
                "name": "photo.png",
                "acceptedMediaTypes": "image/png",
                "maximumSize": 5,
                "description": "a photo",
            }
        ],
        "outputs": [{"name": "labels.json"}],
        "statistics": [{"$label": "accuracy", "a.b": 10**18}],
        "processing": {"minimumParallelCapacity": 1, "maximumParallelCapacity": 4},
        "longDescription": "long",
        "technicalDetails": "details",
        "performanceSummary": "fast",
        "colour": "blue",
    }
    whole = await made.patch(**patch)
    assert whole["requirement"]["requirementId"] == 2
    for name in ("timeout", "inputs", "statistics", "processing", "longDescription"):
        assert whole[name] == patch[name]
    assert whole["outputs"][0] == {
        "name": "labels.json",
        "mediaType": "application/json",
        "maximumSize": 1000000,
        "description": "",
    }
    nothing = dict.fromkeys(patch) | {"timeout": {"run": None}}
    assert await made.patch(**nothing) == {**whole}
    assert (await made.patch(timeout={"status": 8000}))["timeout"] == {"run": 5000, "status": 8000}
    assert (await made.patch(inputs=[]))["inputs"][0]["name"] == "input"


@pytest.mark.parametrize(
    "patch",
    [
        {"requirement": {"requirementId": 12345}},
        {"requirement": {"requirementId": "1"}},
        {"timeout": {"run": 0}},
        {"timeout": {"run": 2**62}},
        {"inputs": [{"name": "../etc/passwd"}]},
        {"inputs": [{"name": ".."}]},
        {"inputs": [{"name": ""}]},
        {"inputs": [{"name": "a"}, {"name": "a"}]},
        {"inputs": [{}]},
        {"inputs": "input"},
        {"outputs": [{"name": "a/b"}]},
        {"statistics": {}},
        {"statistics": [2**70]},
        {"processing": {"minimumParallelCapacity": 5, "maximumParallelCapacity": 2}},
        {"processing": {"minimumParallelCapacity": -1}},
        {"longDescription": 7},
        {"longDescription": "\ud800"},
        {"longDescription": "a\0b"},
        {"status": "loaded"},
    ],
)
async def test_a_description_that_cannot_be_is_refused(door: Door, patch: object) -> None:
    made = await door.create()
    before = await made.get()
    kind = {"Content-Type": "application/json"}
    answer = await made.call("PATCH", content=json.dumps(patch).encode(), headers=kind)
    assert answer.status_code == 422
    assert answer.json()["message"]
    assert await made.get() == before


@pytest.mark.parametrize("requirement", [1, -6, -99])
async def test_requirements_that_clients_know_by_heart_are_accepted(
    door: Door, requirement: int
) -> None:
    whole = await (await door.create()).patch(requirement={"requirementId": requirement})
    assert whole["requirement"]["requirementId"] == requirement


async def test_a_version_is_not_activated_before_its_image_was_proved(door: Door) -> None:
    answer = await (await door.create()).call("PATCH", json={"status": "active"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    "path",
    [
        "/models/nosuchmodl",
        "/models/nosuchmodl/versions",
        "/models/nosuchmodl/versions/1.0.0",
        f"/models/{'m' * 500}",
        f"/models/{'m' * 500}/versions/{'1' * 500}",
    ],
)
async def test_what_is_not_there_is_not_found(door: Door, path: str) -> None:
    for method in ("GET", "PATCH") if not path.endswith("versions") else ("GET", "POST"):
        answer = await door.call(
            method, path, json={"version": "1.0.0"} if method != "GET" else None
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
