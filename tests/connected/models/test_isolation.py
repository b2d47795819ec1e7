"""Whatever belongs to one organisation does not exist for another one."""

from __future__ import annotations

import base64
from typing import Any

from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.models.models_door import Door
from tests.support.systems.system import System

FILE: dict[str, Any] = {"files": {"file": b"\x89PNG"}}
LINK: dict[str, Any] = {"json": {"registry": {"url": "r.example/a:1"}}}
TAR: dict[str, Any] = {
    "content": docker_archive(busybox_image(), "a:1"),
    "headers": {"Content-Type": "application/x-tar"},
}
OF_MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "", {}),
    ("PATCH", "", {"json": {"description": "theirs"}}),
    ("GET", "/versions", {}),
    ("POST", "/versions", {"json": {"version": "2.0.0"}}),
    ("POST", "/image", FILE),
    ("GET", "/image", {}),
]
OF_VERSIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "", {}),
    ("PATCH", "", {"json": {"longDescription": "theirs"}}),
    ("PATCH", "", {"json": {"status": "active"}}),
    ("POST", "/container-image", LINK),
    ("POST", "/container-image", TAR),
    ("GET", "/container-image", {}),
    ("POST", "/load-process", {}),
    ("GET", "/load-process", {}),
    ("POST", "/testInput", {"params": {"name": "input"}, **FILE}),
    ("POST", "/run-process", {}),
    ("GET", "/run-process", {}),
    ("PUT", "/sample-input", {"json": {"a": 1}}),
    ("GET", "/sample-input", {}),
    ("PUT", "/sample-output", {"json": {"a": 1}}),
    ("GET", "/sample-output", {}),
    ("POST", "/run", {"json": {"a": 1}}),
    ("POST", "/shutdown", {}),
]


async def test_no_route_knows_the_identifier_of_another_organisation(
    door: Door, stranger: Door, well: str
) -> None:
    made = await door.create("hidden")
    await made.delivered(well)
    assert (await made.load()).status_code == 200
    before = [await made.get(), (await door.call("GET", f"/models/{made.identifier}")).json()]
    routes = [("", each) for each in OF_MODELS]
    routes += [(f"/versions/{made.version}", each) for each in OF_VERSIONS]
    for at, (method, path, options) in routes:
        answer = await stranger.call(method, f"/models/{made.identifier}{at}{path}", **options)
        told = (answer.status_code, answer.json()["code"])
        assert told == (404, "not_found"), f"{method} {at}{path}: {answer.text}"
        assert "hidden" not in answer.text
    assert [
        await made.get(),
        (await door.call("GET", f"/models/{made.identifier}")).json(),
    ] == before


async def test_lists_show_only_what_is_ones_own(door: Door, stranger: Door) -> None:
    made, theirs = await door.create("shared name"), await stranger.create("shared name")
    for params in ({}, {"name": "shared name"}, {"modelId": made.identifier}):
        found = (await stranger.call("GET", "/models", params=params)).json()
        mine = [] if "modelId" in params else [theirs.identifier]
        assert [each["identifier"] for each in found] == mine
    ours = (await door.call("GET", "/models", params={"name": "shared name"})).json()
    assert theirs.identifier not in [each["identifier"] for each in ours]


async def test_an_upload_cannot_be_attached_to_a_version_of_somebody_else(
    door: Door, stranger: Door
) -> None:
    made = await door.create()
    told = {"model": made.identifier, "version": made.version}
    metadata = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in told.items())
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "100", "Upload-Metadata": metadata}
    assert (await stranger.http.post("/yard/v1/uploads", headers=headers)).status_code == 404
    assert (await door.http.post("/yard/v1/uploads", headers=headers)).status_code == 201


async def test_the_images_of_others_cannot_be_linked_or_submitted(
    door: Door, stranger: Door, models_system: System
) -> None:
    """For the platform's own registry, workers vouch for whoever submits."""
    registry_host = models_system.settings["REGISTRY"]
    made, theirs = await door.create(), await stranger.create()
    sent = await made.call("POST", "container-image", **TAR)
    assert sent.status_code == 201, sent.text
    pushed = await door.http.post("/yard/v1/images", params={"name": "team/hidden:1"}, **TAR)
    kept = [pushed.json()["reference"], f"{registry_host}/models/{made.identifier}:1.0.0"]
    port = registry_host.rpartition(":")[2]
    for reference in (*kept, *(each.replace(registry_host, f"localhost:{port}") for each in kept)):
        link = {"registry": {"url": reference}}
        answer = await theirs.call("POST", "container-image", json=link)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_reference")
        submitted = await stranger.http.post("/yard/v1/images", json={"reference": reference})
        assert submitted.status_code == 422, submitted.text
    await made.delivered(kept[0])
    await made.delivered(kept[1])
