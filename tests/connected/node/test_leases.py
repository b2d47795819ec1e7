"""Leases against a real store: given once, freed once, whoever runs at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import NoCapacity
from pipeline.nodes.leases import Leases
from pipeline.placement.eligibility import ResourceRequest
from pipeline.placement.reasons import plan
from schemas.node import Lease, Node
from schemas.states import NodeStatus
from tests.support.records import AT, GIB, after, gpu, inventory, node

AWKWARD = ["GPU-a.b", "$GPU", "MIG-GPU-1/2/0", "$where.x", "\u00fc \u1f600 'quoted\"", "."]


@pytest.fixture
def leases(store: Store) -> Leases:
    return Leases(store)


async def machine(store: Store, *gpus: str, **values: Any) -> Node:
    return await store.insert(node("one", *(gpu(uuid) for uuid in gpus), **values))


async def now(store: Store, node: Node) -> Node:
    return await store.get(Node, node.uuid, org=EVERY_ORG)


async def test_a_lease_holds_everything_that_was_asked_for(store: Store, leases: Leases) -> None:
    mine = await machine(store, "g0", "g1", "g2")
    assert await leases.acquire(
        mine, container="c", fence=3, gpus=["g0", "g2"], memory_bytes=GIB, cpus=1.5
    )
    found = await now(store, mine)
    lease = Lease(container="c", fence=3, gpus=["g0", "g2"], memory_bytes=GIB, cpus=1.5)
    assert found.leases == {"c": lease}
    assert found.held == {"g0": "c", "g2": "c"}
    assert (found.leased_memory_bytes, found.leased_cpus) == (GIB, 1.5)
    assert found.revision == mine.revision


async def test_it_is_all_or_nothing(store: Store, leases: Leases) -> None:
    mine = await machine(store, "g0", "g1")
    assert await leases.acquire(mine, container="a", fence=1, gpus=["g1"])
    before = await now(store, mine)
    assert not await leases.acquire(mine, container="b", fence=1, gpus=["g0", "g1"], cpus=1)
    assert await now(store, mine) == before


@pytest.mark.parametrize(
    "asked", [{"gpus": ["no-such"]}, {"gpus": ["sick"]}, {"memory_bytes": 65 * GIB}, {"cpus": 16.5}]
)
async def test_what_the_node_cannot_give_is_not_leased(
    store: Store, leases: Leases, asked: dict[str, Any]
) -> None:
    mine = await store.insert(node("one", gpu("g0"), gpu("sick", healthy=False)))
    assert not await leases.acquire(mine, container="c", fence=1, **asked)
    assert (await now(store, mine)).leases == {}


async def test_a_node_that_is_not_ready_gives_nothing(store: Store, leases: Leases) -> None:
    mine = await machine(store, "g0")
    await store.change(mine, {}, at=after(1), status=NodeStatus.LOST)
    assert not await leases.acquire(mine, container="c", fence=1, gpus=["g0"])
    assert not await leases.acquire(node("stranger"), container="c", fence=1)


async def test_a_heartbeat_between_plan_and_lease_does_not_matter(
    store: Store, leases: Leases
) -> None:
    mine = await machine(store, "g0")
    await store.change(mine, {"last_heartbeat": after(5)}, at=after(5))
    assert await leases.acquire(mine, container="c", fence=1, gpus=["g0"])


async def test_a_heartbeat_does_not_lose_its_race_against_a_lease(
    store: Store, leases: Leases
) -> None:
    mine = await machine(store, "g0")
    assert await leases.acquire(mine, container="c", fence=1, gpus=["g0"])
    beaten = await store.change(mine, {"last_heartbeat": after(5)}, at=after(5))
    assert beaten.held == {"g0": "c"}


async def test_asking_again_for_the_same_is_granted_once(store: Store, leases: Leases) -> None:
    mine = await machine(store, "g0", "g1")
    asked: dict[str, Any] = {"container": "c", "fence": 1, "gpus": ["g0"], "cpus": 1}
    answers = await asyncio.gather(*(leases.acquire(mine, **asked) for _ in range(8)))
    assert all(answers)
    found = await now(store, mine)
    assert (found.held, found.leased_cpus) == ({"g0": "c"}, 1)


async def test_asking_for_something_else_is_refused_while_the_lease_is_there(
    store: Store, leases: Leases
) -> None:
    mine = await machine(store, "g0", "g1")
    assert await leases.acquire(mine, container="c", fence=1, gpus=["g0"])
    assert not await leases.acquire(mine, container="c", fence=1, gpus=["g1"])
    assert not await leases.acquire(mine, container="c", fence=2, gpus=["g0"])
    assert (await now(store, mine)).held == {"g0": "c"}


# --- MIG --------------------------------------------------------------------------------------


async def test_a_gpu_and_its_slices_are_never_held_together(store: Store, leases: Leases) -> None:
    whole = await machine(store, "whole")
    assert await leases.acquire(whole, container="a", fence=1, gpus=["whole"])
    sliced = inventory(gpu("whole"), gpu("slice", parent="whole"))
    later = await store.change(whole, {"inventory": sliced}, at=after(1))
    assert not await leases.acquire(later, container="b", fence=1, gpus=["slice"])
    assert await leases.release("a", 1)
    assert not await leases.acquire(later, container="b", fence=1, gpus=["whole"])
    assert await leases.acquire(later, container="b", fence=1, gpus=["slice"])


# --- release and transfer ---------------------------------------------------------------------


async def test_a_lease_is_freed_once(store: Store, leases: Leases) -> None:
    mine = await machine(store, "g0", "g1")
    await leases.acquire(mine, container="a", fence=1, gpus=["g0"], memory_bytes=7, cpus=0.1)
    await leases.acquire(mine, container="b", fence=1, gpus=["g1"], memory_bytes=5, cpus=0.2)
    answers = await asyncio.gather(*(leases.release("a", 1) for _ in range(8)))
    assert sum(answers) == 1
    found = await now(store, mine)
    assert (found.held, set(found.leases)) == ({"g1": "b"}, {"b"})
    assert (found.leased_memory_bytes, found.leased_cpus) == (5, 0.2)
    assert await leases.release("b", 1, node=mine.uuid)
    found = await now(store, mine)
    assert (found.held, found.leases) == ({}, {})
    assert (found.leased_memory_bytes, found.leased_cpus) == (0, 0)


async def test_a_late_worker_with_an_old_fence_frees_nothing(store: Store, leases: Leases) -> None:
    mine = await machine(store, "g0")
    assert await leases.acquire(mine, container="c", fence=2, gpus=["g0"])
    assert not await leases.release("c", 1)
    assert not await leases.release("c", 3)
    assert not await leases.release("other", 2)
    assert (await now(store, mine)).held == {"g0": "c"}


async def test_the_lease_on_another_node_stays(store: Store, leases: Leases) -> None:
    old = await store.insert(node("old", gpu("g0")))
    new = await store.insert(node("new", gpu("g1")))
    assert await leases.acquire(old, container="c", fence=1, gpus=["g0"])
    assert await leases.acquire(new, container="c", fence=2, gpus=["g1"])
    assert await leases.release("c", 1)
    assert (await now(store, old)).held == {}
    assert (await now(store, new)).held == {"g1": "c"}


async def test_a_release_that_names_the_wrong_node_frees_nothing(
    store: Store, leases: Leases
) -> None:
    mine = await machine(store, "g0")
    assert await leases.acquire(mine, container="c", fence=1, gpus=["g0"])
    assert not await leases.release("c", 1, node="elsewhere")
    assert (await now(store, mine)).held == {"g0": "c"}


async def test_awkward_ids_are_values_and_not_paths(store: Store, leases: Leases) -> None:
    mine = await machine(store, *AWKWARD)
    for id in AWKWARD:
        assert await leases.acquire(mine, container=f"$c.{id}", fence=1, gpus=[id], cpus=1)
    found = await now(store, mine)
    assert found.held == {id: f"$c.{id}" for id in AWKWARD}
    assert found.leased_cpus == len(AWKWARD)
    assert not await leases.acquire(mine, container="c", fence=1, gpus=["GPU-a.b"])
    for id in AWKWARD:
        assert await leases.release(f"$c.{id}", 1)
    found = await now(store, mine)
    assert (found.held, found.leases, found.leased_cpus) == ({}, {}, 0)


# --- many at once -----------------------------------------------------------------------------


async def test_parallel_placements_never_give_a_gpu_twice(store: Store, leases: Leases) -> None:
    """Everybody plans on what they see, and takes what they planned until something fits."""
    for name in ("a", "b", "c"):
        await store.insert(node(name, *(gpu(f"{name}{n}", index=n) for n in range(4))))

    async def place(container: str, request: ResourceRequest) -> bool:
        while True:
            nodes = await store.find(Node, org=EVERY_ORG)
            try:
                choice = plan(request, nodes, AT)
            except NoCapacity:
                return False
            if await leases.acquire(
                choice.node, container=container, fence=1, gpus=choice.gpus, cpus=request.cpus
            ):
                return True

    wanted = {f"c{n}": ResourceRequest(gpus=n % 3 + 1, cpus=n % 5) for n in range(16)}
    answers = await asyncio.gather(*(place(*each) for each in wanted.items()))
    placed = {name for name, done in zip(wanted, answers, strict=True) if done}
    nodes = await store.find(Node, org=EVERY_ORG)
    _assert_consistent(nodes)
    assert {name for each in nodes for name in each.leases} == placed
    assert sum(len(each.held) for each in nodes) == sum(wanted[name].gpus for name in placed)
    # 32 GPUs were asked for and there are 12: nobody who was refused would have fitted.
    free = max(4 - len(each.held) for each in nodes)
    assert all(wanted[name].gpus > free for name in set(wanted) - placed)


def _assert_consistent(nodes: list[Node]) -> None:
    for each in nodes:
        held = {uuid: name for name, lease in each.leases.items() for uuid in lease.gpus}
        assert held == each.held
        assert sum(len(lease.gpus) for lease in each.leases.values()) == len(each.held)
        assert each.leased_cpus == sum(lease.cpus for lease in each.leases.values())
        assert each.leased_cpus <= each.inventory.cpus


async def test_a_host_port_is_leased_once_and_is_free_again(store: Store, leases: Leases) -> None:
    mine = await machine(store)
    taken = {"container": "a", "fence": 1, "host_ports": ["8080/tcp", "$x/udp"]}
    assert await leases.acquire(mine, **taken)
    assert await leases.acquire(mine, **taken)
    for asked in (["8080/tcp"], ["1/tcp", "$x/udp"]):
        assert not await leases.acquire(mine, container="b", fence=1, host_ports=asked)
    assert await leases.acquire(mine, container="b", fence=1, host_ports=["8080/udp"])
    assert await leases.release("a", 1)
    assert await leases.acquire(mine, container="c", fence=1, host_ports=["8080/tcp"])


async def test_nothing_is_leased_on_a_cordoned_node(store: Store, leases: Leases) -> None:
    mine = await machine(store, cordoned=True)
    assert not await leases.acquire(mine, container="a", fence=1)


async def test_a_port_that_something_else_listens_on_is_not_leased(
    store: Store, leases: Leases
) -> None:
    mine = await machine(store, ports_in_use=["8080/tcp"])
    assert not await leases.acquire(mine, container="a", fence=1, host_ports=["8080/tcp"])
    assert await leases.acquire(mine, container="b", fence=1, host_ports=["8080/udp"])


async def test_a_lease_of_an_earlier_version_knows_no_host_ports(
    store: Store, leases: Leases
) -> None:
    old = {"container": "a", "fence": 1, "gpus": [], "memory_bytes": 0, "cpus": 0}
    mine = await machine(store)
    update = {"$set": {"leases": {"a": old}}}
    await store.update(Node, mine.uuid, org=EVERY_ORG, guard={}, update=update)
    assert await leases.acquire(mine, container="b", fence=1, host_ports=["8080/tcp"])
