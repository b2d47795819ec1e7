"""What ends with its engine, its machine or by somebody's hand runs again; an exit stays one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas.container import RestartPolicy
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus
from tests.support.engines.engine_world import EVENTS_MAX, EngineWorld
from tests.support.engines.freed import nothing_is_leased
from tests.support.engines.node_rig import ORG, NodeRig

Stop = Callable[[EngineWorld, int], None]
STOPS: dict[str, Stop] = {
    "the engine was stopped": lambda world, code: world.restart(code),
    "the engine was killed": lambda world, code: world.restart(code, kills=True),
    "the machine lost its power": lambda world, code: world.restart(255),
    "somebody stopped it": lambda world, code: world.stop(world.only(), code),
}
EXIT: Stop = lambda world, code: world.die(world.only(), code)  # noqa: E731 - one of a table


@pytest.mark.parametrize("is_agent_there", [True, False])
@pytest.mark.parametrize("stop", STOPS)
async def test_what_was_stopped_from_outside_runs_again(
    rig: NodeRig, stop: str, is_agent_there: bool
) -> None:
    for policy in RestartPolicy:
        for code in (0, 1, 143):
            container = await rig.up(restart=policy)
            if is_agent_there:
                async with rig.alive():
                    STOPS[stop](rig.world, code)
                    found = await rig.until(container, Status.RUNNING, restarts=1)
            else:
                STOPS[stop](rig.world, code)
                async with rig.alive():
                    found = await rig.until(container, Status.RUNNING, restarts=1)
            assert (found.backoff_s, found.exit_code, found.restart_at) == (0, None, None)
            assert rig.world.only().starts == 2
            await remove(rig)


@pytest.mark.parametrize("policy", RestartPolicy)
async def test_what_was_removed_while_no_agent_looked_is_placed_anew(
    rig: NodeRig, policy: RestartPolicy
) -> None:
    """A stack that goes down leaves nothing on an engine that it shares; a machine is made anew."""
    container = await rig.up(restart=policy, gpus=1)
    rig.world.lose(rig.world.only())
    async with rig.alive():
        found = await rig.until(container, Status.REQUESTED)
        assert "nothing of it was left" in str(found.reason)
        await nothing_is_leased(rig)
        await rig.until_node(NodeStatus.READY)
        await rig.placing.place(ORG, container.uuid)
        await rig.hand_over()
        await rig.until(container, Status.RUNNING)
        rig.world.lose(rig.world.only())
        await rig.until(container, Status.FAILED)


@pytest.mark.parametrize("is_agent_there", [True, False])
@pytest.mark.parametrize(
    ("policy", "code", "status"),
    [
        (RestartPolicy.NO, 0, Status.STOPPED),
        (RestartPolicy.NO, 1, Status.FAILED),
        (RestartPolicy.ON_FAILURE, 0, Status.STOPPED),
        (RestartPolicy.ON_FAILURE, 1, Status.RUNNING),
        (RestartPolicy.ALWAYS, 0, Status.RUNNING),
    ],
)
async def test_an_exit_of_the_program_is_its_end_as_its_policy_says(
    rig: NodeRig, policy: RestartPolicy, code: int, status: Status, is_agent_there: bool
) -> None:
    container = await rig.up(restart=policy)
    restarts = int(status is Status.RUNNING)
    if not is_agent_there:
        EXIT(rig.world, code)
    async with rig.alive():
        if is_agent_there:
            EXIT(rig.world, code)
        found = await rig.until(container, status, restarts=restarts)
    assert found.restarts == restarts
    assert found.backoff_s == (0.1 if restarts else 0)


async def test_an_exit_that_the_engine_forgot_counts_as_a_stop(rig: NodeRig) -> None:
    container = await rig.up(restart=RestartPolicy.NO)
    EXIT(rig.world, 0)
    for _ in range(EVENTS_MAX):
        rig.world.tell(rig.world.only(), "exec_start")
    async with rig.alive():
        await rig.until(container, Status.RUNNING, restarts=1)


async def test_an_agent_that_dies_in_the_middle_of_a_restart_leaves_no_stopped_container(
    rig: NodeRig,
) -> None:
    """It stopped what was unhealthy, and never came to start it again."""
    container = await rig.up(restart=RestartPolicy.ON_FAILURE)
    current = await rig.record(container)
    await rig.store.change(current, {}, at=rig.clock(), status=Status.RESTARTING)
    rig.world.stop(rig.world.only(), 0)
    async with rig.alive():
        await rig.until(container, Status.RUNNING, restarts=1)


async def test_an_engine_that_is_not_back_yet_ends_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    async with rig.alive():
        rig.world.down = True
        rig.world.restart(0)
        await rig.agent.watching.look(container.uuid)
        assert (await rig.record(container)).status is Status.RUNNING
        rig.world.down = False
        await rig.until(container, Status.RUNNING, restarts=1)


async def test_a_stop_that_its_owner_asked_for_outlives_the_engine(rig: NodeRig) -> None:
    container = await rig.up(restart=RestartPolicy.ALWAYS)
    await rig.containers.stop(rig.caller, container.uuid)
    rig.world.restart(0)
    async with rig.alive():
        await rig.until(container, Status.STOPPED)
    assert rig.world.only().status == "exited"


async def remove(rig: NodeRig) -> None:
    made = rig.world.only()
    uuid = made.labels["modelyard.container"]
    await rig.containers.delete(rig.caller, uuid)
    await rig.hand_over()
    assert not rig.world.containers
    await rig.agent.registration.beat(reconciled=True)
