"""What running containers use, from the engine's counters to who asks."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipeline.containers.usage import Usage
from pipeline.errors import Conflict, NotFound
from tests.support.engines.node_rig import NodeRig
from tests.support.systems.working import member
from workers.agent import ContainerFigures

MIB = 2**20


async def test_what_a_container_uses_is_told_to_its_organisation(rig: NodeRig) -> None:
    container = await rig.up(gpus=1)
    usage = Usage(rig.store, rig.containers)
    assert (await usage.get(rig.caller, container.uuid)).memory_bytes is None
    made = rig.world.only()
    for second in (1, 2):
        made.counted = {
            "read": f"2026-11-29T00:00:0{second}Z",
            "cpu_stats": {"cpu_usage": {"total_usage": second * 5 * 10**8}, "online_cpus": 8},
            "memory_stats": {
                "usage": 90 * MIB,
                "limit": 512 * MIB,
                "stats": {"inactive_file": MIB},
            },
            "networks": {"eth0": {"rx_bytes": 7, "tx_bytes": 1}, "eth1": {"rx_bytes": 3}},
        }
        await rig.agent.sampling.sample()
    use = await usage.get(rig.caller, container.uuid)
    assert (use.cpus, use.memory_bytes, use.memory_limit_bytes) == (0.5, 89 * MIB, 512 * MIB)
    assert (use.network_received_bytes, use.network_sent_bytes) == (10, 1)
    assert use.gpus == container.gpus
    assert use.age_s is not None
    assert [each.container for each in (await usage.list(rig.caller)).items] == [container.uuid]
    registry = CollectorRegistry()
    registry.register(ContainerFigures(rig.agent.sampling))
    labels = f'{{container="{container.uuid}",name="{container.name}",org="{container.org}"}}'
    exposed = generate_latest(registry).decode()
    assert f"modelyard_container_cpus{labels} 0.5\n" in exposed
    assert f"modelyard_container_network_received_bytes{labels} 10.0\n" in exposed
    assert (await usage.list(member("other"))).items == []
    with pytest.raises(NotFound):
        await usage.get(member("other"), container.uuid)


async def test_what_does_not_run_uses_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    await rig.containers.stop(rig.caller, container.uuid)
    await rig.hand_over()
    usage = Usage(rig.store, rig.containers)
    with pytest.raises(Conflict, match="STOPPED"):
        await usage.get(rig.caller, container.uuid)
    assert (await usage.list(rig.caller)).items == []
