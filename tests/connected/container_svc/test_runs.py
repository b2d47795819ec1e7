"""What a run finds, and what it makes of it."""

from __future__ import annotations

import asyncio

from tests.support.systems.service_yard import SERVED, Svc


async def test_a_container_runs_and_a_repeat_does_nothing(svc: Svc) -> None:
    first = await svc.run(ports=[{"internal": SERVED}])
    assert first["started"] is True
    (port,) = first["ports"]
    assert port.keys() == {"internal", "host"}
    again = await svc.run(ports=[{"internal": SERVED}])
    assert again == first | {"started": False}
    assert (await svc.one())["status"] == "running"


async def test_of_ten_identical_runs_one_starts_it(svc: Svc) -> None:
    answers = await asyncio.gather(*(svc.run(ports=[{"internal": SERVED}]) for _ in range(10)))
    assert [each["started"] for each in answers].count(True) == 1
    assert len({str(each["ports"]) for each in answers}) == 1
    assert len(await svc.listed()) == 1


async def test_one_that_was_stopped_is_recreated(svc: Svc) -> None:
    await svc.run()
    before = await svc.one()
    await svc.change("stop")
    assert (await svc.one())["status"] == "exited"
    assert not await svc.is_running()
    await svc.change("stop")
    assert (await svc.run())["started"] is True
    after = await svc.one()
    assert (after["status"], after["names"]) == ("running", before["names"])
    assert after["id"] != before["id"]


async def test_another_description_takes_the_place_of_what_runs(svc: Svc) -> None:
    await svc.run(envs=[{"key": "A", "value": "1"}])
    before = await svc.one()
    changed = await svc.run(envs=[{"key": "A", "value": "2"}])
    assert changed["started"] is True
    after = await svc.one()
    assert after["id"] != before["id"]
    assert after["envs"] == [{"key": "A", "value": "2"}]
    seen = await svc.yard.engine.inspect(svc.name)
    assert seen is not None
    assert (seen.id, seen.running) == (after["id"], True)
    removed = await svc.listed(includeRemoved=True)
    assert [each["status"] for each in removed] == ["running", "removed"]
