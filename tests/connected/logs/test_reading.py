"""`GET /yard/v1/containers/{id}/logs`: from the node while it answers, else what is kept."""

from __future__ import annotations

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.containers.agent_requests import LOGS, Logs
from pipeline.errors import BusUnavailable, Conflict, NotFound
from pipeline.logs.service import StoredLogs
from schemas.container import Container
from tests.connected.logs.test_following import following, is_heard, until_kept
from tests.support.engines.node_rig import NodeRig
from tests.support.systems.working import member

FOUR = "one\ntwo\nthree\nfour\n"


@pytest.fixture
async def container(rig: NodeRig) -> Container:
    """It wrote four lines, which are kept."""
    container = await rig.up()
    async with following(rig):
        made = rig.world.only()
        await is_heard(made)
        for line in FOUR.splitlines(keepends=True):
            rig.world.write(made, line)
        await until_kept(rig, container, FOUR)
    return container


@pytest.fixture
def logs(rig: NodeRig, bus: Bus) -> Logs:
    return Logs(bus, rig.store, StoredLogs(rig.store))


async def test_while_its_node_is_away_what_is_kept_is_told(
    rig: NodeRig, logs: Logs, container: Container
) -> None:
    entries = [entry async for entry in logs.read(rig.caller, container.uuid)]
    assert "".join(entry.text for entry in entries) == FOUR
    last = [entry.text async for entry in logs.read(rig.caller, container.uuid, tail=3)]
    assert "".join(last) == "two\nthree\nfour\n"
    assert [entry async for entry in logs.read(rig.caller, container.uuid, tail=0)] == []


async def test_who_follows_is_told_that_the_node_is_away(
    rig: NodeRig, logs: Logs, container: Container
) -> None:
    entries = aiter(logs.read(rig.caller, container.uuid, follow=True))
    told = ""
    while told != FOUR:
        told += (await anext(entries)).text
    with pytest.raises(BusUnavailable):
        await anext(entries)


async def test_a_container_that_is_deleted_can_still_be_read(
    rig: NodeRig, logs: Logs, container: Container
) -> None:
    await rig.containers.delete(rig.caller, container.uuid)
    assert not await rig.hand_over()
    for follow in (False, True):
        entries = logs.read(rig.caller, container.uuid, follow=follow)
        assert "".join([entry.text async for entry in entries]) == FOUR


async def test_a_node_that_answers_tells_it_to_the_letter(
    rig: NodeRig, logs: Logs, bus: Bus, container: Container
) -> None:
    rig.world.write(rig.world.only(), "\x1b[31mred\r\n")
    subject = topology.agent_service(rig.agent.uuid, LOGS)
    async with bus.serve_stream(subject, rig.agent.io.services[LOGS]):
        entries = [entry async for entry in logs.read(rig.caller, container.uuid)]
    assert "".join(entry.text for entry in entries) == FOUR + "\x1b[31mred\r\n"


async def test_nothing_is_told_to_others_or_of_what_never_ran(rig: NodeRig, logs: Logs) -> None:
    container = await rig.up()
    with pytest.raises(NotFound):
        await anext(aiter(logs.read(member("other"), container.uuid)))
    with pytest.raises(BusUnavailable):
        await anext(aiter(logs.read(rig.caller, container.uuid)))
    waiting = await rig.containers.run(rig.caller, container.spec.model_copy(update={"gpus": 9}))
    with pytest.raises(Conflict, match="no logs yet"):
        await anext(aiter(logs.read(rig.caller, waiting.uuid)))
