"""Drained nodes, over a real store and nodes in memory."""

from __future__ import annotations

import pytest

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.nodes.service import Nodes
from schemas.access import Permission, Principal
from schemas.container import PURPOSE_LABEL
from schemas.node import Node
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status
from tests.support.engines.deploying import Deploying
from tests.support.engines.node_rig import settings
from tests.support.systems.working import member

RUNNING = ContainerStatus.RUNNING


def operator() -> Principal:
    everything = frozenset(Permission)
    return member(settings().org).model_copy(update={"permissions": everything})


@pytest.fixture
def nodes(deploying: Deploying) -> Nodes:
    return Nodes(deploying.rig.records)


async def drained(deploying: Deploying, name: str = "one") -> Node:
    """The node as the sweep leaves it."""
    await deploying.draining.sweep()
    found = await deploying.rig.store.find_one(Node, org=EVERY_ORG, where={"name": name})
    assert found is not None
    return found


async def test_replicas_move_before_they_end_and_the_node_says_when_it_is_empty(
    deploying: Deploying, nodes: Nodes
) -> None:
    rig = deploying.rig
    deployment = await deploying.deployed(2)
    other = await rig.another_node("two")
    await nodes.drain(operator(), "one")
    assert (await nodes.drain(operator(), "one")).cordoned
    assert (await drained(deploying)).drain.said == "2 replicas to move"  # type: ignore[union-attr]
    for _ in range(10):
        await deploying.round(deployment)
        assert len(await deploying.containers(deployment, RUNNING)) >= 2
    settled = await deploying.settled(deployment)
    assert (settled.status, settled.ready, settled.reason) == (Status.DEPLOYED, 2, None)
    assert {each.node for each in await deploying.containers(deployment)} == {other.uuid}
    for _ in range(2):
        node = await drained(deploying)
        assert node.drain is not None
        assert node.drain.drained_at is not None
        assert (node.drain.left, node.drain.said) == (0, "nothing is left")
    assert rig.sent.kinds(rig.agent.uuid)[-2:] == ["draining", "drained"]


async def test_with_nowhere_to_go_node_and_deployment_say_why_until_it_is_resumed(
    deploying: Deploying, nodes: Nodes
) -> None:
    deployment = await deploying.deployed(2, in_place=True)
    await nodes.drain(operator(), "one")
    await drained(deploying)
    waiting = await deploying.settled(deployment)
    assert waiting.status is Status.DEPLOYED
    assert waiting.reason is not None
    assert waiting.reason.startswith("2 replicas are to leave one, which is drained: replica 3 ")
    node = await drained(deploying)
    assert node.drain is not None
    assert node.drain.said.startswith("2 replicas to move, 1 waits (")
    assert node.drain.drained_at is None
    assert not (await nodes.resume(operator(), "one")).cordoned
    assert (await nodes.resume(operator(), "one")).drain is None
    resumed = await deploying.settled(deployment)
    replicas = await deploying.containers(deployment)
    assert (resumed.reason, [each.replica for each in replicas]) == (None, [1, 2])


async def test_what_belongs_to_no_deployment_stays(deploying: Deploying, nodes: Nodes) -> None:
    rig = deploying.rig
    plain = await rig.up()
    await rig.up(labels={PURPOSE_LABEL: "load"})
    await nodes.drain(operator(), "one")
    said = "1 container of models, which end by themselves; 1 container that only the owners stop"
    assert (await drained(deploying)).drain.said == said  # type: ignore[union-attr]
    assert (await rig.record(plain)).status is RUNNING
    await nodes.cordon(operator(), "one", cordoned=False)
    assert (await rig.node()).drain is None, "who opens a node does not want it empty"
