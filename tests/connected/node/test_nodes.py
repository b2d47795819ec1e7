"""Nodes as their operators change them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pipeline.access.roles import sender
from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict, NotFound, PermissionDenied
from pipeline.nodes.service import Nodes
from pipeline.secrets.service import Secrets
from schemas.access import Principal
from schemas.container import OnNodeLoss
from schemas.message import Message
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus
from tests.support.engines.node_rig import ORG, NodeRig, agent_of, settings
from tests.support.records import AT

HOME = settings().org
WAITS = OnNodeLoss.WAIT


def operator(org: str = HOME) -> Principal:
    subject = f"yard.cmd.{org}.node.cordon"
    command = Message(id="1", subject=subject, type="modelyard.cmd.node.cordon", time=AT)
    return sender(command, home=HOME)


@pytest.fixture
def nodes(rig: NodeRig) -> Nodes:
    return Nodes(rig.records)


async def lose(rig: NodeRig) -> None:
    for _ in range(5):
        await rig.nodes.sweep()
        rig.clock.skip(rig.settings.sweep_interval_s)
    assert (await rig.node()).status is NodeStatus.LOST


async def test_a_cordoned_node_keeps_what_it_runs_and_takes_nothing_new(
    rig: NodeRig, nodes: Nodes
) -> None:
    running = await rig.up()
    await nodes.cordon(operator(), "one")
    assert (await nodes.cordon(operator(), "one")).cordoned
    await rig.agent.registration.beat(reconciled=True)
    waiting = await rig.run()
    assert waiting.status is Status.REQUESTED
    assert "cordoned" in waiting.refusals["one"][0]
    assert (await rig.record(running)).status is Status.RUNNING
    await nodes.cordon(operator(), rig.agent.uuid, cordoned=False)
    await rig.placing.place(ORG, waiting.uuid)
    assert (await rig.record(waiting)).status is Status.PLACED
    kinds = rig.sent.kinds(rig.agent.uuid)
    assert [kind for kind in kinds if "cordoned" in kind] == ["cordoned", "uncordoned"]


async def test_only_the_installation_s_own_organisation_changes_nodes(
    rig: NodeRig, nodes: Nodes
) -> None:
    for change in (nodes.cordon, nodes.drain, nodes.resume, nodes.delete):
        with pytest.raises(PermissionDenied):
            await change(operator("acme"), "one")
        with pytest.raises(NotFound):
            await change(operator(), "two")


async def test_a_node_whose_agent_beats_is_not_deleted(rig: NodeRig, nodes: Nodes) -> None:
    with pytest.raises(Conflict, match="stop its agent"):
        await nodes.delete(operator(), "one")


async def test_a_lost_node_is_deleted_and_what_waited_for_it_is_placed_anew(
    rig: NodeRig, nodes: Nodes
) -> None:
    container = await rig.up(gpus=1, on_node_loss=WAITS)
    await lose(rig)
    await rig.nodes.sweep()
    assert (await rig.record(container)).status is Status.LOST
    deleted = await nodes.delete(operator(), "one")
    assert deleted.status is NodeStatus.DELETED
    assert (await nodes.delete(operator(), rig.agent.uuid)).revision == deleted.revision
    with pytest.raises(NotFound):
        await nodes.get(operator(), "one")
    await rig.nodes.sweep()
    found = await rig.record(container)
    assert (found.status, found.node) == (Status.REQUESTED, None)
    assert "was removed" in (found.reason or "")


async def test_a_deleted_machine_that_is_switched_on_again_joins_anew(
    rig: NodeRig, nodes: Nodes
) -> None:
    container = await rig.up(gpus=1)
    await nodes.cordon(operator(), "one")
    await lose(rig)
    await nodes.delete(operator(), "one")
    await rig.nodes.sweep()
    async with rig.alive():
        await rig.until_node(NodeStatus.READY)
        assert not (await rig.node()).cordoned
        assert not rig.world.containers
        await rig.placing.place(ORG, container.uuid)
        await rig.hand_over()
        await rig.until(container, Status.RUNNING)
    assert list((await rig.node()).leases) == [container.uuid]


async def test_a_node_whose_key_opens_no_secret_is_not_ready_and_says_why(rig: NodeRig) -> None:
    secrets = Secrets(rig.records, rig.settings)
    login = {"username": "u", "password": "p", "server": "r.test"}
    await secrets.create(rig.caller, name="s", secret_type="registry", data=login)
    await rig.agent.registration.beat(reconciled=True)
    assert (await rig.node()).status is NodeStatus.READY
    for keys in (f"k1:{base64.b64encode(b'x' * 32).decode()}", f"k2:{'a' * 43}=", ""):
        rig.settings = settings(encryption_keys=keys)
        other = agent_of(rig, "one")
        for _ in range(2):
            node = await other.registration.beat(reconciled=True)
            assert node.status is NodeStatus.NOT_READY
            assert "MODELYARD_ENCRYPTION_KEYS" in ((await rig.node()).reason or "")
        await other.close()


async def test_a_node_that_is_not_ready_for_another_reason_by_now_says_that_one(
    rig: NodeRig,
) -> None:
    rig.world.down = True
    first = await rig.agent.registration.beat(reconciled=True)
    rig.world.down = False
    second = await rig.agent.registration.beat(reconciled=False)
    assert first.status is second.status is NodeStatus.NOT_READY
    assert "comparing" in ((await rig.node()).reason or "")


async def test_a_heartbeat_with_nothing_new_writes_the_time_alone(
    rig: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    registration = rig.agent.registration
    await registration.beat(reconciled=True)
    before = await registration.beat(reconciled=True)
    whole = 0

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal whole
        whole += 1
        return await Store.update(rig.store, *args, **kwargs)

    monkeypatch.setattr(rig.store, "update", counted)
    rig.clock.skip(1)
    await registration.beat(reconciled=True)
    found = await rig.node()
    assert (whole, found.last_heartbeat > before.last_heartbeat) == (0, True)
    registration.images_changed()
    await registration.beat(reconciled=True)
    assert whole == 1
    await agent_of(rig, "one").registration.beat(reconciled=True)
    assert whole == 2
    await registration.beat(reconciled=True)
    assert whole == 3, "another agent has written the record"
