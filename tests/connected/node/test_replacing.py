"""A container in place of another, whose agent dies on the way: one of them runs, and never both
with what only one can have."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.container import Container, ContainerSpec
from schemas.image import Image
from schemas.states import ContainerStatus as Status
from tests.support.engines.node_rig import ORG, NodeRig, agent_of
from tests.support.waiting import eventually


async def replacing(rig: NodeRig, **spec: Any) -> tuple[Container, Container, Image]:
    """One that runs, and one that is placed to replace it, with its image."""
    given = {"name": "svc", "engine_name": "svc", **spec}
    old = await rig.up(**given)
    image = await rig.here(await rig.image())
    asked = ContainerSpec(image=image.uuid, **given)
    new = await rig.containers.replace(rig.caller, old.uuid, asked)
    await rig.placing.place(ORG, new.uuid)
    return old, await rig.record(new), image


async def dies(rig: NodeRig, call: str) -> None:
    """The agent carries out its order, but for what comes after this call to the engine; then there
    is another one."""
    rig.world.dies_after = call
    await rig.hand_over()
    assert not rig.world.dies_after, "it came so far"
    await rig.agent.close()
    rig.world.down = False
    rig.agent = agent_of(rig, "one")


def most_at_once(rig: NodeRig) -> int:
    """How many have run at the same time."""
    running: set[str] = set()
    most = 0
    for told in rig.world.told:
        id = told["Actor"]["ID"]
        if told["Action"] == "start":
            running.add(id)
        elif told["Action"] in ("die", "destroy"):
            running.discard(id)
        most = max(most, len(running))
    return most


@pytest.mark.parametrize("gpus", [0, 2])
@pytest.mark.parametrize("call", ["create", "stop", "start", "delete", "rename"])
async def test_an_agent_that_dies_at_any_step_leaves_one_of_two(
    rig: NodeRig, call: str, gpus: int
) -> None:
    old, new, _ = await replacing(rig, gpus=gpus)
    ((verb, order),) = rig.orders()
    await dies(rig, call)
    async with rig.alive():
        await rig.carry_out(verb, order)

        async def is_done() -> bool:
            return (await rig.record(new)).replaces is None

        await eventually(is_done)
    found = await rig.record(new)
    assert (found.status, found.gpus) == (Status.RUNNING, new.gpus)
    assert (await rig.record(old)).status is Status.DELETED
    made = rig.world.only()
    assert (made.name, made.status, made.id) == ("svc", "running", found.engine_id)
    leases = (await rig.node()).leases
    assert list(leases) == [new.uuid]
    assert leases[new.uuid].gpus == new.gpus
    assert most_at_once(rig) == (1 if gpus else 2)


async def test_an_order_that_never_comes_again_is_made_good(rig: NodeRig) -> None:
    old, new, _ = await replacing(rig)
    await dies(rig, "start")
    async with rig.alive():
        await rig.remind()
        await rig.hand_over()
    assert (await rig.record(new)).replaces is None
    assert (await rig.record(old)).status is Status.DELETED
    assert rig.world.only().name == "svc"


async def test_the_old_one_runs_again_when_the_new_one_cannot_be_had_any_more(rig: NodeRig) -> None:
    old, new, image = await replacing(rig, gpus=2)
    ((verb, order),) = rig.orders()
    await dies(rig, "stop")
    (made,) = (made for made in rig.world.containers.values() if made.id != old.engine_id)
    rig.world.lose(made)
    rig.world.images.discard(image.pinned or "")
    rig.world.pull = "manifest unknown"
    async with rig.alive():
        await rig.carry_out(verb, order, last_try=True)
        failed = await rig.record(new)
        assert (failed.status, failed.failure is None) == (Status.FAILED, False)
        # Until its agent has looked, its record says of it what was before.
        await eventually(lambda: rig.world.only().status == "running")
        back = await rig.until(old, Status.RUNNING)
    assert back.engine_id == old.engine_id
    made = rig.world.only()
    assert (made.name, made.id) == ("svc", old.engine_id)
    assert (await rig.node()).leases[old.uuid].gpus == old.gpus
