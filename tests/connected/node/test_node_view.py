"""What a worker knows of nodes follows the store: cheaply, and whatever was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from pipeline.adapters.store.documents import ChangedFields
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import YardError
from pipeline.nodes.leases import Leases
from pipeline.placement.node_view import NodeView
from pipeline.records.kernel import now
from schemas.container import ContainerSpec
from schemas.node import Lease, Node
from schemas.states import ContainerStatus, NodeStatus
from tests.support.engines.node_rig import ORG, NodeRig
from tests.support.records import gpu, node
from tests.support.waiting import eventually

GRACE_S = 20


class Counting(NodeView):
    """Counts the nodes that it reads."""

    read = 0

    async def _read(self) -> None:
        await super()._read()
        self.read += len(self.capacity)

    async def _read_some(self, uuids: list[str]) -> None:
        await super()._read_some(uuids)
        self.read += len(uuids)


@pytest.fixture
def view(store: Store) -> Counting:
    return Counting(store, grace_s=GRACE_S, clock=now)


@asynccontextmanager
async def following(view: NodeView) -> AsyncIterator[list[ChangedFields]]:
    heard: list[ChangedFields] = []
    running = asyncio.create_task(view.follow(heard.append))
    try:
        await eventually(lambda: bool(heard) or running.done())
        yield heard
    finally:
        running.cancel()
        await asyncio.wait([running])


async def machine(store: Store, name: str = "one") -> Node:
    return await store.insert(node(name, gpu(f"{name}-0"), gpu(f"{name}-1"), at=now()))


def known(view: NodeView, node: Node) -> Node | None:
    return view.capacity.get(node.uuid)


async def beat(store: Store, node: Node) -> Node:
    """As its agent does it: all that it knows, of which only the time is new."""
    values = {"last_heartbeat": now(), "inventory": node.inventory.model_dump(), "had": None}
    update = {"$set": values}
    found = await store.update(Node, node.uuid, org=EVERY_ORG, guard={}, update=update)
    assert found is not None
    return found


async def test_a_change_costs_one_read_of_its_node_and_a_heartbeat_none(
    store: Store, view: Counting
) -> None:
    one, _ = await machine(store), await machine(store, "two")
    async with following(view) as heard:
        assert (view.is_followed, view.read) == (True, 2)
        await beat(store, one)
        assert await Leases(store).acquire(one, container="c", fence=1, gpus=["one-0"])
        await eventually(lambda: (known(view, one) or one).held == {"one-0": "c"})
        three = await machine(store, "three")
        await eventually(lambda: known(view, three) is not None)
        assert view.read == 4
        assert [each.uuid for each in heard] == ["", one.uuid, three.uuid]
        beaten = await beat(store, one)
        await view.check()
        assert view.read == 4
        assert (known(view, one) or one).last_heartbeat == beaten.last_heartbeat
    assert not view.is_followed


async def test_a_stream_that_was_cut_goes_on_where_it_was(store: Store, view: Counting) -> None:
    one, two = await machine(store), await machine(store, "two")
    async with following(view):
        await store.change(two, {"cordoned": True}, at=now())
        await eventually(lambda: (known(view, two) or two).cordoned)
    before = view.read
    await Leases(store).acquire(one, container="c", fence=1, gpus=["one-0"])
    async with following(view):
        await eventually(lambda: (known(view, one) or one).held == {"one-0": "c"})
        assert view.read == before + 1


async def test_all_nodes_are_read_when_nobody_remembers_what_was_missed(
    store: Store, view: Counting
) -> None:
    one = await machine(store)
    async with following(view):
        pass
    view._place.token = {"_data": "82000"}
    await Leases(store).acquire(one, container="c", fence=1, gpus=["one-0"])
    with pytest.raises(YardError):
        await view.follow(lambda changed: None)
    async with following(view):
        assert (known(view, one) or one).held == {"one-0": "c"}


async def test_what_went_wrong_unnoticed_is_found_by_comparing(
    store: Store, view: Counting
) -> None:
    one, two, three = [await machine(store, name) for name in ("one", "two", "three")]
    async with following(view):
        view.capacity.lease(one.uuid, Lease(container="c", fence=1, gpus=["one-0"]))
        view.capacity.drop(two.uuid)
        view.capacity.put(node("ghost"))
        before = view.read
        await view.check()
        assert {each.name: each.held for each in view.capacity.nodes} == {
            "one": {}, "two": {}, "three": {},
        }  # fmt: skip
        assert view.read == before + 2
        await store.change(three, {}, at=now(), status=NodeStatus.LOST)
        lost = await store.get(Node, three.uuid, org=EVERY_ORG)
        await store.change(lost, {}, at=now(), status=NodeStatus.DELETED)
        await eventually(lambda: known(view, three) is None)


async def test_where_nobody_follows_all_nodes_are_read_now_and_then(
    store: Store, view: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine(store)
    for _ in range(3):
        await view.refresh()
    assert view.read == 1
    skipped = timedelta(seconds=10)
    monkeypatch.setattr(view, "_clock", lambda: now() + skipped)
    await view.refresh()
    assert view.read == 2
    view._rest = timedelta(seconds=100)
    skipped = timedelta(seconds=60)
    await view.refresh()
    assert not await view.read_since(now() + skipped)
    assert view.read == 2, "there are so many nodes that reading them took 10 s"


async def test_an_index_that_is_behind_costs_another_look_and_gives_nothing_twice(
    rig: NodeRig,
) -> None:
    await rig.store.insert(node("two", gpu("g1"), at=rig.clock()))
    async with following(rig.view):
        spec: dict[str, Any] = {"gpus": 1}
        containers = [
            await rig.containers.run(
                rig.caller, ContainerSpec(image=(await rig.image()).uuid, **spec)
            )
            for _ in range(4)
        ]
        stale = [each.model_copy(deep=True) for each in rig.view.capacity.nodes]
        await asyncio.gather(*(rig.placing.place(ORG, each.uuid) for each in containers[:2]))
        for each in stale:
            rig.view.capacity.put(each)
        await asyncio.gather(*(rig.placing.place(ORG, each.uuid) for each in containers[2:]))
        found = [await rig.record(each) for each in containers]
        taken = [each for container in found for each in container.gpus]
        assert len(set(taken)) == len(taken) == 3
        assert [each.status for each in found].count(ContainerStatus.REQUESTED) == 1
