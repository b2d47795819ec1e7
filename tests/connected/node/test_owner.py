"""What the owner of a container asks for, again, too late, or of what is not his."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    KeyReused,
    NotFound,
    NotReady,
    StaleRevision,
)
from schemas.container import ContainerSpec, Desired, HealthCheck, OnNodeLoss, PortSpec
from schemas.image import Image, Needs
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import ORG, NodeRig
from tests.support.systems.working import member

STRANGER = member("other")


async def test_a_key_is_answered_as_the_first_time_whatever_became_of_the_image(
    rig: NodeRig,
) -> None:
    image = await rig.here(await rig.image())
    spec = ContainerSpec(image=image.uuid)
    first = await rig.containers.run(rig.caller, spec, key="k")
    await rig.store.change(
        await rig.store.get(Image, image.uuid, org=ORG), {}, at=rig.clock(),
        status=ImageStatus.DELETED,
    )  # fmt: skip
    again = await rig.containers.run(rig.caller, spec, key="k")
    assert (again.uuid, again.replayed) == (first.uuid, True)
    with pytest.raises(NotFound):
        await rig.containers.run(rig.caller, spec)
    with pytest.raises(KeyReused):
        await rig.containers.run(rig.caller, ContainerSpec(image=image.uuid, gpus=1), key="k")


async def test_many_requests_with_one_key_make_one_container(rig: NodeRig) -> None:
    image = await rig.image()
    spec = ContainerSpec(image=image.uuid)
    made = await asyncio.gather(*(rig.containers.run(rig.caller, spec, key="k") for _ in range(8)))
    assert len({container.uuid for container in made}) == 1
    assert sum(not container.replayed for container in made) == 1
    assert rig.sent.kinds(made[0].uuid) == ["requested"]


async def test_a_name_is_free_again_as_soon_as_its_container_is_to_be_deleted(rig: NodeRig) -> None:
    first = await rig.up(name="mine")
    with pytest.raises(AlreadyExists):
        await rig.run(name="mine")
    await rig.containers.delete(rig.caller, first.uuid)
    second = await rig.up(name="mine")
    assert (await rig.record(first)).status is Status.DELETED
    assert second.uuid != first.uuid


async def test_asking_again_for_an_end_orders_it_once(rig: NodeRig) -> None:
    container = await rig.up()
    for _ in range(3):
        await rig.containers.stop(rig.caller, container.uuid)
    assert [verb for verb, _ in rig.orders()] == ["stop"]
    await rig.hand_over()
    for _ in range(3):
        await rig.containers.delete(rig.caller, container.uuid)
    assert [verb for verb, _ in rig.orders()] == ["remove"]
    await rig.hand_over()
    assert (await rig.record(container)).status is Status.DELETED
    await nothing_is_leased(rig)


async def test_what_was_never_placed_ends_at_once(rig: NodeRig) -> None:
    for ask, status in (("stop", Status.STOPPED), ("delete", Status.DELETED)):
        container = await rig.run(gpus=2, labels={"ask": ask})
        if container.status is Status.PLACED:
            await rig.hand_over()
            container = await rig.run(gpus=2, labels={"ask": ask})
        asked = await getattr(rig.containers, ask)(rig.caller, container.uuid)
        assert asked.status is status


async def test_a_stop_that_became_a_removal_leaves_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    await rig.containers.stop(rig.caller, container.uuid)
    await rig.containers.delete(rig.caller, container.uuid)
    orders = rig.orders()
    assert [verb for verb, _ in orders] == ["stop", "remove"]
    for verb, order in reversed(orders):
        await rig.carry_out(verb, order)
    assert (await rig.record(container)).status is Status.DELETED
    assert not rig.world.containers


async def test_an_image_that_is_deleted_before_its_container_is_placed_fails_it(
    rig: NodeRig,
) -> None:
    image = await rig.image()
    container = await rig.containers.run(rig.caller, ContainerSpec(image=image.uuid))
    await rig.store.change(image, {}, at=rig.clock(), status=ImageStatus.DELETED)
    await rig.placing.place(ORG, container.uuid)
    found = await rig.record(container)
    assert (found.status, found.reason) == (Status.FAILED, "the image is DELETED, not READY")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (ImageStatus.PENDING, NotReady),
        (ImageStatus.VALIDATING, NotReady),
        (ImageStatus.FAILED, Conflict),
        (ImageStatus.DELETED, NotFound),
    ],
)
async def test_an_image_that_is_not_ready_runs_nowhere(
    rig: NodeRig, status: ImageStatus, error: type[Exception]
) -> None:
    image = await rig.image(status=status)
    with pytest.raises(error):
        await rig.containers.run(rig.caller, ContainerSpec(image=image.uuid))


async def test_others_neither_see_nor_touch_it(rig: NodeRig) -> None:
    container = await rig.up()
    for ask in (rig.containers.get, rig.containers.stop, rig.containers.delete):
        with pytest.raises(NotFound):
            await ask(STRANGER, container.uuid)
    with pytest.raises(NotFound):
        await rig.containers.run(STRANGER, ContainerSpec(image=container.image))
    assert not (await rig.containers.list(STRANGER, limit=10)).items
    assert not rig.orders()


async def test_another_revision_than_the_one_that_was_seen_is_refused(rig: NodeRig) -> None:
    container = await rig.up()
    with pytest.raises(StaleRevision):
        await rig.containers.stop(rig.caller, container.uuid, revision=container.revision - 1)
    await rig.containers.stop(rig.caller, container.uuid, revision=container.revision)


@pytest.mark.parametrize(
    "spec",
    [
        {"env": {"A\0": "1"}},
        {"labels": {"modelyard.container": "another"}},
        {"health": HealthCheck(port=81)},
        {"env": {"A": "\ud800"}},
        {"gpu_model": "h100"},
        {"ports": [PortSpec(internal=80, host=9), PortSpec(internal=81, host=9)]},
    ],
)
async def test_what_cannot_be_is_refused_at_once(rig: NodeRig, spec: dict[str, object]) -> None:
    image = await rig.image()
    with pytest.raises(InvalidInput):
        await rig.containers.run(
            rig.caller, ContainerSpec.model_construct(**{**dict(base(image)), **spec})
        )


async def test_an_image_that_needs_a_gpu_may_be_run_on_a_chosen_model(rig: NodeRig) -> None:
    image = await rig.image(needs=Needs(gpus=1))
    spec = ContainerSpec(image=image.uuid, gpu_model="h100")
    assert (await rig.containers.run(rig.caller, spec)).spec.gpus == 1
    with pytest.raises(InvalidInput):
        await rig.containers.run(rig.caller, spec.model_copy(update={"gpus": 0}))


async def test_ports_that_no_image_can_have_are_not_published(rig: NodeRig) -> None:
    image = await rig.here(await rig.image(needs=Needs(ports=[0, 70000, -1, 80, 80])))
    container = await rig.up(image)
    assert [port.internal for port in container.ports] == [80]


async def test_a_stop_that_comes_after_the_deletion_changes_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    await rig.containers.delete(rig.caller, container.uuid)
    await rig.hand_over()
    deleted = await rig.record(container)
    assert deleted.status is Status.DELETED
    stopped = await rig.containers.stop(rig.caller, container.uuid)
    assert (stopped.status, stopped.revision) == (Status.DELETED, deleted.revision)


def base(image: Image) -> ContainerSpec:
    return ContainerSpec(image=image.uuid)


# --- started again ----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_what_was_stopped_is_launched_again(rig: NodeRig, verb: str) -> None:
    first = await rig.up(gpus=2)
    await rig.containers.stop(rig.caller, first.uuid)
    await rig.hand_over()
    await nothing_is_leased(rig)
    for _ in range(2):
        asked = await getattr(rig.containers, verb)(rig.caller, first.uuid)
    assert (asked.status, asked.desired, asked.node_name) == (
        Status.REQUESTED,
        Desired.RUNNING,
        None,
    )
    await rig.placing.place(ORG, first.uuid)
    await rig.hand_over()
    again = await rig.record(first)
    assert (again.status, len(again.gpus)) == (Status.RUNNING, 2)
    # A placer that has not heard yet that the first launch gave its lease back claims one more.
    assert again.fence > first.fence
    assert (again.node_name, again.exit_code, again.restarts) == ("one", None, 0)
    assert len(rig.world.containers) == 1


async def test_what_failed_is_launched_again(rig: NodeRig) -> None:
    failed = await rig.run(gpus=99)
    assert failed.status is Status.FAILED
    again = await rig.containers.start(rig.caller, failed.uuid)
    assert (again.status, again.refusals) == (Status.REQUESTED, {})


async def test_a_start_of_what_runs_changes_nothing(rig: NodeRig) -> None:
    running = await rig.up()
    assert (await rig.containers.start(rig.caller, running.uuid)).revision == running.revision
    assert rig.orders() == []


async def test_a_restart_keeps_node_gpus_and_ports(rig: NodeRig) -> None:
    before = await rig.up(gpus=1, ports=[PortSpec(internal=80)])
    async with rig.alive():
        asked = await rig.containers.restart(rig.caller, before.uuid)
        assert asked.restart_at is not None
        await rig.hand_over()
        after = await rig.until(before, Status.RUNNING, restarts=1)
    assert (after.restarts, after.restart_at, after.fence) == (1, None, before.fence)
    assert (after.gpus, after.ports, after.engine_id) == (
        before.gpus,
        before.ports,
        before.engine_id,
    )


async def test_a_restart_whose_order_is_lost_is_found_by_looking(rig: NodeRig) -> None:
    before = await rig.up()
    async with rig.alive():
        await rig.containers.restart(rig.caller, before.uuid)
        await rig.until(before, Status.RUNNING, restarts=1)


async def test_what_a_lost_node_held_is_free_when_it_is_started_elsewhere(rig: NodeRig) -> None:
    lost = await rig.up(gpus=2, on_node_loss=OnNodeLoss.WAIT)
    await rig.store.change(lost, {}, at=rig.clock(), status=Status.LOST)
    await rig.containers.start(rig.caller, lost.uuid)
    await nothing_is_leased(rig)


@pytest.mark.parametrize("verb", ["start", "restart"])
async def test_nothing_is_started_while_it_ends(rig: NodeRig, verb: str) -> None:
    container = await rig.up()
    await rig.containers.stop(rig.caller, container.uuid)
    with pytest.raises(Conflict, match="being stopped"):
        await getattr(rig.containers, verb)(rig.caller, container.uuid)
    await rig.containers.delete(rig.caller, container.uuid)
    with pytest.raises(Conflict, match="being deleted"):
        await getattr(rig.containers, verb)(rig.caller, container.uuid)
    await rig.hand_over()
    with pytest.raises(NotFound):
        await getattr(rig.containers, verb)(rig.caller, container.uuid)
    with pytest.raises(NotFound):
        await getattr(rig.containers, verb)(STRANGER, container.uuid)


async def test_a_taken_name_says_what_has_it_and_how_it_gets_free(rig: NodeRig) -> None:
    await rig.run(name="mine", gpus=99)
    with pytest.raises(AlreadyExists, match="is FAILED: delete it, which frees the name"):
        await rig.run(name="mine")


async def test_a_container_is_found_by_name_and_by_the_beginning_of_its_id(rig: NodeRig) -> None:
    container = await rig.run(name="mine")
    for text in ("mine", container.uuid, container.uuid[:8], container.uuid[:20]):
        assert (await rig.containers.find(rig.caller, text)).uuid == container.uuid
        with pytest.raises(NotFound):
            await rig.containers.find(STRANGER, text)
    await rig.containers.delete(rig.caller, container.uuid)
    await rig.hand_over()
    for text in ("mine", container.uuid, container.uuid[:8]):
        with pytest.raises(NotFound):
            await rig.containers.find(rig.caller, text)
