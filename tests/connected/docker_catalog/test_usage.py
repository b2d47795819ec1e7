"""What uses images of the catalogue, and where these can run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from pipeline.bootstrap.control_plane import Services as Yard
from schemas.base import Record
from schemas.image import CLIENTS_OWN, Image, Platform
from schemas.node import Node
from schemas.registries.catalog import CatalogEntry
from schemas.states import ContainerStatus, NodeStatus
from tests.support import records as made
from tests.support.registries.catalog_door import CatalogDoor
from tests.support.waiting import eventually

REFERENCE = "registry.test:5000/team/used:1"
PARTS = {"registry": "registry.test:5000", "repository": "team/used", "tag": "1"}


@pytest.fixture
async def used(door: CatalogDoor, yard: Yard) -> tuple[int, Image]:
    """An entry, and an image with its reference."""
    pk = (await door.create(url=REFERENCE, registry_url="registry.test"))["pk"]
    image = made.image(
        org=door.org,
        reference=REFERENCE,
        parts=PARTS,
        status="READY",
        platform=made.AMD64,
        digest=f"sha256:{'a' * 64}",
    )
    await yard.records.store.insert(image)
    return pk, image


WAYS: dict[str, dict[str, Any]] = {
    "its key": {"reference": "elsewhere.test/team/used:1"},
    "its reference": {"reference": REFERENCE},
    "its reference in other words": {"reference": f"http://{REFERENCE}", "parts": PARTS},
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_uses_an_image_keeps_it_in_the_catalogue(
    door: CatalogDoor, yard: Yard, way: str
) -> None:
    store = yard.records.store
    pk = (await door.create(url=REFERENCE, registry_url="registry.test"))["pk"]
    before = await door.call("GET", f"/docker/{pk}")
    image = made.image(org=door.org, status="READY", **WAYS[way])
    image.catalog = pk if way == "its key" else None
    imported = made.image(org=door.org, name="mine", annotations={CLIENTS_OWN: "{}"}, **WAYS[way])
    imported.catalog = image.catalog
    template = made.template()
    template.spec.image = image.uuid
    users: dict[str, Record] = {
        "container busy": made.container(
            org=door.org, image=image.uuid, status=ContainerStatus.RUNNING, name="busy"
        ),
        "deployment model": made.deployment(org=door.org, template=template),
        "imported container mine": imported,
    }
    await store.insert(image)
    stopped = made.container(org=door.org, image=image.uuid, status=ContainerStatus.STOPPED)
    await store.insert(stopped)
    for named, user in users.items():
        await store.insert(user)
        status, told = await door.refusal("DELETE", f"/docker/{pk}")
        assert (status, list(told)) == (409, ["detail"])
        assert told["detail"] == f"It is in use: delete or stop first {named}."
        kept = await door.call("GET", f"/docker/{pk}")
        assert (kept.json(), kept.headers["etag"]) == (before.json(), before.headers["etag"])
        await store.delete(type(user), user.uuid, org=door.org)
    assert (await door.call("DELETE", f"/docker/{pk}")).status_code == 204
    assert await store.find_by_id(CatalogEntry, str(pk), org=door.org) is None


@pytest.mark.parametrize("path", ["containers", "deployments"])
async def test_what_is_made_of_an_image_and_its_removal_exclude_each_other(
    door: CatalogDoor, used: tuple[int, Image], path: str
) -> None:
    pk, image = used
    spec = {"image": image.uuid}
    asked = spec if path == "containers" else {"name": "kept", "template": spec}
    launched, removed = await asyncio.gather(
        door.http.post(f"/yard/v1/{path}", json=asked), door.call("DELETE", f"/docker/{pk}")
    )
    assert launched.status_code in (201, 202, 404), launched.text
    if removed.status_code == 204 and launched.status_code != 404:
        # It was removed before: then nothing of it holds any more.
        shown = launched.json()
        assert (shown["spec"] if path == "containers" else shown["template"]["spec"])["gpus"] == 0
    else:
        assert removed.status_code == (204 if launched.status_code == 404 else 409)


async def test_a_launch_is_placed_by_what_its_entry_requires(
    door: CatalogDoor, yard: Yard, used: tuple[int, Image]
) -> None:
    pk, image = used
    async with nodes_of(door, yard) as nodes:
        for name in ("good", "arm", "busy", "away"):
            await yard.records.store.delete(Node, nodes.pop(name).uuid, org=yard.settings.org)
        failed = await settled(door, image, ContainerStatus.FAILED)
        assert failed["refusals"][nodes["old"].name] == [
            "NVIDIA driver 520.61.05 needed, the node has 515.65.01",
            "compute capability 7.5 needed, the best GPU has 7.0",
        ]
        assert failed["spec"]["gpus"] == 1
        await door.call("PATCH", f"/docker/{pk}", json={"cpu": True})
        placed = await settled(door, image, ContainerStatus.PLACED)
        assert (placed["spec"]["gpus"], placed["gpus"]) == (0, [])


async def settled(door: CatalogDoor, image: Image, status: ContainerStatus) -> dict[str, Any]:
    """A new container of the image, as it is shown once it has this status."""
    asked = {"image": image.uuid}
    launched = (await door.http.post("/yard/v1/containers", json=asked)).json()
    shown: dict[str, Any] = {}

    async def is_settled() -> bool:
        shown.update((await door.http.get(f"/yard/v1/containers/{launched['uuid']}")).json())
        return bool(shown["status"] == status)

    await eventually(is_settled, timeout_s=60)
    return shown


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


@asynccontextmanager
async def nodes_of(door: CatalogDoor, yard: Yard) -> AsyncIterator[dict[str, Node]]:
    later = yard.records.clock() + timedelta(days=1)
    turing = made.gpu("GPU-1", compute_capability="7.5")
    volta = made.gpu("GPU-1", compute_capability="7.0")
    gpus = {"good": [turing], "busy": [turing], "away": [turing], "arm": [turing]}
    gpus |= {"old": [volta], "bare": [], "headless": []}
    nodes = {
        name: made.node(f"{name}-{door.org}", *each, at=later, org=yard.settings.org)
        for name, each in gpus.items()
    }
    nodes["good"].inventory.driver = "520.61.5"
    nodes["old"].inventory.driver = "515.65.01"
    nodes["headless"].inventory.driver = "550.54.14"
    nodes["away"].status, nodes["away"].reason = NodeStatus.LOST, "silent"
    nodes["arm"].inventory.platform = Platform(architecture="arm64")
    nodes["busy"].held = {"GPU-1": "somebody"}
    store = yard.records.store
    try:
        for node in nodes.values():
            await store.insert(node)
        yield nodes
    finally:
        for node in nodes.values():
            await store.delete(Node, node.uuid, org=node.org)


async def test_nodes_are_told_with_every_reason_against_them(
    door: CatalogDoor, yard: Yard, used: tuple[int, Image]
) -> None:
    pk, image = used
    paths = (f"/yard/v1/catalog/{pk}/nodes", f"/yard/v1/images/{image.uuid}/nodes")
    proved = {"$set": {"image": image.uuid}}
    await yard.records.store.update(CatalogEntry, str(pk), org=door.org, guard={}, update=proved)
    async with nodes_of(door, yard) as nodes:
        for path in paths:
            reasons = await told_of(door, path, nodes)
            assert {name: sorted(each) for name, each in reasons.items()} == {
                "good": [],
                "busy": ["no_free_gpu"],
                "away": ["offline"],
                "arm": ["platform"],
                "old": ["compute_capability_too_low", "driver_too_old"],
                "bare": ["driver_unknown", "no_gpu"],
                "headless": ["no_gpu"],
            }
            assert reasons["old"] == {
                "compute_capability_too_low": ("7.5", "7.0"),
                "driver_too_old": ("520.61.05", "515.65.01"),
            }
            assert reasons["bare"]["driver_unknown"] == ("520.61.05", None)
            assert reasons["busy"] == {"no_free_gpu": (1, 0)}
            assert reasons["arm"] == {"platform": ("linux/amd64", "linux/arm64")}
        shown = (await door.http.get(paths[0])).json()
        assert shown["image"] == {
            name: (await door.get(pk))[name] for name in ("pk", "name", "version")
        }
        assert shown["requirements"] == {
            "gpu": True,
            "cuda_version": "11.8",
            "min_driver_version": "520.61.05",
            "min_compute_capability": 7.5,
        }
        await door.call("PATCH", f"/docker/{pk}", json={"cpu": True})
        shown = (await door.http.get(paths[0])).json()
        needless = dict.fromkeys(("cuda_version", "min_driver_version", "min_compute_capability"))
        assert shown["requirements"] == {"gpu": False, **needless}
        eligible = await told_of(door, paths[0], nodes)
        assert {name for name, reasons in eligible.items() if reasons} == {"away", "arm"}


@pytest.mark.parametrize("pk", ["0", "99999999", "x", "1.0", "%201"])
@pytest.mark.parametrize("path", ["", "/nodes"])
async def test_an_unknown_image_is_a_problem(door: CatalogDoor, pk: str, path: str) -> None:
    answer = await door.http.get(f"/yard/v1/catalog/{pk}{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def told_of(
    door: CatalogDoor, path: str, nodes: dict[str, Node]
) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Reasons by the names of these nodes: code → what is required, and what there is."""
    answer = await door.http.get(path)
    assert answer.status_code == 200, answer.text
    found = {each["id"]: each for each in answer.json()["nodes"]}
    for each in found.values():
        assert each["eligible"] is (not each["reasons"])
        assert all(reason["detail"] for reason in each["reasons"])
        assert len({reason["code"] for reason in each["reasons"]}) == len(each["reasons"])
    return {
        name: {
            reason["code"]: (reason["required"], reason["actual"])
            for reason in found[node.uuid]["reasons"]
        }
        for name, node in nodes.items()
    }
