"""What workers find out about images of the catalogue, what uses them, and where they can run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from pipeline.bootstrap.control_plane import Services as Yard
from schemas.container import Container
from schemas.image import Image
from schemas.node import Node
from schemas.states import ContainerStatus
from tests.support import records as made
from tests.support.events import stored_events
from tests.support.registries.catalog_door import CatalogDoor
from tests.support.registries.locked_registry import PASSWORD, USER

SETTLED = {"READY", "FAILED"}
LOGIN = {"registry_username": USER, "registry_password": PASSWORD}


async def validated(door: CatalogDoor, pk: int, revision: int = 1) -> dict[str, Any]:
    """The validation of this revision, once it is over."""
    async with asyncio.timeout(60):
        while True:
            answer = await door.http.get(f"/yard/v1/catalog/{pk}")
            known: dict[str, Any] = answer.json()["validation"]
            if known["status"] in SETTLED and known["revision"] == revision:
                return known
            await asyncio.sleep(0.1)


async def test_an_image_is_proved_with_the_credentials_of_its_entry(
    door: CatalogDoor, locked_host: str
) -> None:
    right = {"url": f"{locked_host}/team/model:1", "registry_url": f"http://{locked_host}"}
    pk = (await door.create(**right, **LOGIN))["pk"]
    found = await validated(door, pk)
    assert (found["status"], found["code"]) == ("READY", None)
    assert found["digest"].startswith("sha256:")
    assert "cuda_undeclared" in [each["code"] for each in found["findings"]]
    shown = (await door.http.get(f"/yard/v1/catalog/{pk}")).json()
    assert (shown["revision"], shown["image"]["registry_password"]) == (1, None)
    assert (await door.call("GET", f"/docker/{pk}")).headers["etag"] == '"1"'
    for change, code in (
        ({"registry_password": "wrong"}, "denied"),
        ({"registry_password": PASSWORD, "url": f"{locked_host}/team/model:9"}, "not_found"),
        ({"url": f"{locked_host}/Team"}, "invalid_reference"),
        ({"url": "elsewhere.test/team/model:1"}, "registry_mismatch"),
    ):
        answer = await door.call("PATCH", f"/docker/{pk}", json=change)
        revision = int(answer.headers["etag"].strip('"'))
        found = await validated(door, pk, revision)
        assert (found["status"], found["code"]) == ("FAILED", code), found
    told = [event async for event in stored_events(door.services.bus, door.org)]
    kinds = [event.subject.split(".")[5] for event in told if f".catalog.{pk}." in event.subject]
    assert kinds == ["created", "validated", *["updated", "validated"] * 4]
    assert not any(PASSWORD.encode() in event.data for event in told)


@pytest.fixture
async def used(door: CatalogDoor, yard: Yard) -> tuple[int, Image]:
    """An entry, and an image with its reference."""
    reference = "registry.test:5000/team/used:1"
    pk = (await door.create(url=reference, registry_url="registry.test"))["pk"]
    image = made.image(
        org=door.org,
        reference=reference,
        status="READY",
        parts={"registry": "registry.test:5000", "repository": "team/used", "tag": "1"},
    )
    await yard.records.store.insert(image)
    return pk, image


async def test_what_uses_an_image_keeps_it_in_the_catalogue(
    door: CatalogDoor, yard: Yard, used: tuple[int, Image]
) -> None:
    pk, image = used
    store = yard.records.store
    container = made.container(
        org=door.org, image=image.uuid, status=ContainerStatus.RUNNING, name="busy"
    )
    await store.insert(container)
    status, told = await door.refusal("DELETE", f"/docker/{pk}")
    assert (status, list(told)) == (409, ["detail"])
    assert "container busy" in told["detail"]
    assert (await door.call("GET", f"/docker/{pk}")).status_code == 200
    await store.delete(Container, container.uuid, org=door.org)
    assert (await door.call("DELETE", f"/docker/{pk}")).status_code == 204


async def test_a_launch_and_a_removal_exclude_each_other(
    door: CatalogDoor, yard: Yard, used: tuple[int, Image]
) -> None:
    pk, image = used
    launched, removed = await asyncio.gather(
        door.http.post("/yard/v1/containers", json={"image": image.uuid}),
        door.call("DELETE", f"/docker/{pk}"),
    )
    assert (launched.status_code, removed.status_code) != (202, 204) or (
        # It was removed before the launch began.
        await yard.records.store.get(Container, launched.json()["uuid"], org=door.org)
    ).spec.gpus == 0


async def test_a_launch_that_contradicts_its_entry_is_refused(
    door: CatalogDoor, used: tuple[int, Image]
) -> None:
    pk, image = used
    asked = {"image": image.uuid, "gpus": 0}
    answer = await door.http.post("/yard/v1/containers", json=asked)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "gpus")
    await door.call("PATCH", f"/docker/{pk}", json={"cpu": True})
    answer = await door.http.post("/yard/v1/containers", json=asked | {"gpus": 1})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "gpus")


async def test_nodes_are_told_with_every_reason_against_them(
    door: CatalogDoor, yard: Yard, used: tuple[int, Image]
) -> None:
    pk, image = used
    later = yard.records.clock() + timedelta(days=1)
    nodes = {
        name: made.node(f"{name}-{door.org}", *gpus, at=later, org=yard.settings.org)
        for name, gpus in (
            ("good", [made.gpu("GPU-1", compute_capability="8.0")]),
            ("old", [made.gpu("GPU-1", compute_capability="7.0")]),
            ("bare", []),
        )
    }
    nodes["old"].inventory.driver = "515.65.01"
    nodes["good"].inventory.driver = "520.61.5"
    nodes["bare"].inventory.driver = None
    store = yard.records.store
    try:
        for node in nodes.values():
            await store.insert(node)
        codes = await told_of(door, f"/yard/v1/catalog/{pk}/nodes", nodes)
        assert codes == {
            "good": [],
            "old": ["compute_capability_too_low", "driver_too_old"],
            "bare": ["driver_unknown", "no_gpu"],
        }
        assert await told_of(door, f"/yard/v1/images/{image.uuid}/nodes", nodes) == codes
        await door.call("PATCH", f"/docker/{pk}", json={"cpu": True})
        shown = (await door.http.get(f"/yard/v1/catalog/{pk}/nodes")).json()
        needless = dict.fromkeys(("cuda_version", "min_driver_version", "min_compute_capability"))
        assert shown["requirements"] == {"gpu": False, **needless}
        eligible = await told_of(door, f"/yard/v1/catalog/{pk}/nodes", nodes)
        assert list(eligible.values()) == [[], [], []]
    finally:
        for node in nodes.values():
            await store.delete(Node, node.uuid, org=node.org)


async def told_of(door: CatalogDoor, path: str, nodes: dict[str, Node]) -> dict[str, list[str]]:
    """Codes of the reasons, by the names of these nodes."""
    answer = await door.http.get(path)
    assert answer.status_code == 200, answer.text
    found = {each["id"]: each for each in answer.json()["nodes"]}
    for each in found.values():
        assert each["eligible"] is (not each["reasons"])
    return {
        name: sorted({reason["code"] for reason in found[node.uuid]["reasons"]})
        for name, node in nodes.items()
    }
