"""What takes long, what is away, and which of several things is meant."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from schemas.node import Node
from schemas.states import NodeStatus
from tests.support import records as made
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.systems.service_yard import Svc
from tests.support.waiting import eventually


@pytest.fixture
async def lost(svc: Svc) -> AsyncIterator[Node]:
    store = svc.yard.services.records.store
    node = made.node(f"{svc.name}-lost", status=NodeStatus.LOST, reason="silent")
    yield await store.insert(node)
    await store.delete(Node, node.uuid, org=node.org)


async def test_what_takes_longer_than_its_answer_waits_is_an_operation(
    svc: Svc, monkeypatch: pytest.MonkeyPatch
) -> None:
    await svc.run()
    with monkeypatch.context() as patch:
        patch.setattr(svc.yard.services.settings, "wait_max_s", 0.01)
        answer = await svc.call("PUT", "/container", json=svc.spec(hash="another"))
    assert answer.status_code == 504, answer.text
    path = f"/operations/{answer.json()['operationId']}"

    async def has_gone_on() -> bool:
        return (await svc.ok("GET", path))["status"] == "succeeded"

    await eventually(has_gone_on, timeout_s=60)
    assert (await svc.one())["hash"] == "another"


async def test_a_node_that_is_lost_is_told_at_once_and_keeps_nobody_else_waiting(
    svc: Svc, lost: Node
) -> None:
    for wanted in (lost.uuid, lost.name):
        assert "LOST" in await svc.refused(503, nodeId=wanted)
        told = await svc.ok("GET", "/daemon/info", params={"nodeId": wanted})
        assert told["available"] is False
        assert "silent" in told["error"]
        stop = {"name": svc.name, "nodeId": wanted}
        assert (await svc.call("PUT", "/container/stop", json=stop)).status_code == 503
        body = {"name": svc.name, "contextPath": "/a", "nodeId": wanted}
        assert (await svc.call("PUT", "/image", json=body)).status_code == 503
    told = await svc.ok("GET", "/daemon/info")
    assert told["available"] is True
    assert lost.name in told["error"]
    await svc.run()


async def test_an_id_wins_over_a_name(svc: Svc) -> None:
    other = f"{svc.name}-other"
    await svc.run()
    await svc.run(names=[other])
    one = await svc.one()
    await svc.change("stop", id=one["id"], name=other)
    assert not await svc.is_running(name=svc.name)
    assert await svc.is_running(name=other)
    await svc.change("remove", name=other)


async def test_the_newest_cuda_of_the_driver_that_the_registry_has_is_chosen(
    svc: Svc, registry_host: str
) -> None:
    for version in ("11.8", "12.2.0", "12.10.1", "99.0"):
        push(busybox_image(), registry_host, "svc/cuda", f"cuda-{version}-latest")
    driver = svc.yard.settings.simulated_cuda
    image = f"{registry_host}/svc/cuda:cuda-$cudaVersion-latest"
    await svc.run(image=image, capabilities={"gpuEnabled": True})
    chosen = (await svc.one())["image"]
    expected = "12.10.1" if tuple(map(int, driver.split("."))) >= (12, 10) else "12.2.0"
    assert chosen == image.replace("$cudaVersion", expected), driver
    none = image.replace("svc/cuda:cuda-", "svc/cuda:none-")
    assert "CUDA" in await svc.refused(
        422, image=none, names=[f"{svc.name}-none"], capabilities={"gpuEnabled": True}
    )
