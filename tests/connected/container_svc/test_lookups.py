"""What is told of containers, engines, nodes and images."""

from __future__ import annotations

from typing import Any

from pipeline.ports import LaunchPlan
from schemas.access import Role
from tests.support.engines.engine import IMAGE
from tests.support.registries.registry_door import client
from tests.support.systems.service_yard import SERVED, Svc
from tests.support.tenants import an_organisation

WHOLE: dict[str, Any] = {
    "ports": [{"internal": SERVED}],
    "labels": [{"key": "team", "value": "a"}],
    "envs": [{"key": "SECRET", "value": "hidden"}],
    "resources": {"cpu": 0.5, "memoryMB": 64},
}


async def test_a_container_is_found_by_all_that_it_is_called(svc: Svc) -> None:
    names = [svc.name, f"{svc.name}-also"]
    run = await svc.run(**WHOLE, names=names)
    shown = await svc.one()
    assert len(shown["id"]) == 64
    assert (shown["names"], shown["hash"], shown["image"]) == (names, run["hash"], svc.image)
    assert (shown["labels"], shown["envs"]) == (WHOLE["labels"], WHOLE["envs"])
    assert shown["ports"] == run["ports"]
    (binding,) = shown["bindings"]
    assert (binding["address"], binding["protocol"]) == ("127.0.0.1", "tcp")
    seen = await svc.yard.engine.inspect(svc.name)
    assert seen is not None
    assert (seen.id, seen.labels["team"]) == (shown["id"], "a")
    assert seen.labels["modelyard.hash"] == run["hash"]
    for wanted in ({"containerId": shown["id"]}, {"hash": run["hash"]}, {"name": names[1]}):
        assert await svc.listed(**wanted) == [shown]
    assert await svc.listed(containerId="0" * 64) == []
    assert await svc.listed(name=svc.name[:-1]) == []
    for query in ({"hash": run["hash"]}, {"name": names[1]}, {"name": names[0], "hash": "no"}):
        assert await svc.is_running(**query) == ("no" not in query.values())
    async with await svc.as_role(Role.VIEWER) as http:
        body = {"name": svc.name}
        (masked,) = (await http.post("/container-svc/containers", json=body)).json()["containers"]
        assert masked["envs"] == [{"key": "SECRET", "value": "***"}]


async def test_pages_follow_each_other(svc: Svc) -> None:
    await svc.run()
    await svc.change("remove")
    names = [f"{svc.name}-{number}" for number in range(2)]
    for name in names:
        body = {"image": svc.image, "name": name, "aliases": [svc.name]}
        answer = await svc.http.post("/yard/v1/containers", json=body, params={"wait": 30})
        assert answer.status_code == 201, answer.text
    answer = await svc.ok("POST", "/containers", json={"name": svc.name, "limit": 1})
    assert [each["names"][0] for each in answer["containers"]] == names[:0:-1]
    more = {"name": svc.name, "limit": 1, "cursor": answer["nextCursor"]}
    answer = await svc.ok("POST", "/containers", json=more)
    assert [each["names"][0] for each in answer["containers"]] == names[:1]
    assert answer.keys() == {"containers"}
    several = {"name": svc.name}
    assert (await svc.call("PUT", "/container/stop", json=several)).status_code == 409
    assert await svc.refused(409, names=[f"{svc.name}-2", *names])


async def test_a_summary_is_for_people(svc: Svc) -> None:
    command = {"names": [svc.name], "image": svc.image}
    await svc.ok("POST", "/container", json=command)
    summary = await svc.ok("GET", "/container/summary", params={"name": svc.name, "lines": 5})
    assert summary.keys() == {"status", "logs", "summary"}
    assert svc.name in summary["status"]
    assert "State: running" in summary["status"]
    assert summary["status"] in summary["summary"]


async def test_engines_and_hosts_are_told(svc: Svc) -> None:
    info = await svc.ok("GET", "/daemon/info")
    assert info == {"available": True, "address": "127.0.0.1"}
    (node,) = (await svc.yard.http.get("/yard/v1/nodes")).json()["items"]
    for query in ({}, {"nodeId": node["uuid"]}, {"nodeId": node["name"]}):
        assert await svc.ok("GET", "/host", params=query) == {"host": "127.0.0.1"}


async def test_an_image_is_pullable_or_not(svc: Svc) -> None:
    registry, _, rest = svc.image.partition("/")
    whole, plain = f"{registry}%2F{rest.replace('/', '%2F').replace(':', '%3A')}", svc.image
    for name in (whole, plain):
        assert await svc.ok("GET", f"/image/{name}/pullable") == {"pullable": True}
    absent = await svc.ok("GET", f"/image/{registry}%2Fno%2Fsuch%3A1/pullable")
    assert absent == {"pullable": False}
    for bad in ("%zz", "UPPER", "a%252Fb", "%ff"):
        assert (await svc.call("GET", f"/image/{bad}/pullable")).status_code == 400, bad
    unreachable = await svc.call("GET", "/image/127.0.0.1%3A1%2Fa%3A1/pullable")
    assert unreachable.status_code == 502


async def test_what_others_have_is_left_alone(svc: Svc, images_host: str) -> None:
    foreign = f"{svc.name}-foreign"
    await svc.run(names=[svc.name])
    other = await client(svc.yard.app, await an_organisation(svc.yard.services))
    async with other as http:
        theirs = Svc(svc.yard, http, svc.image, svc.healthy_image, name=svc.name)
        assert await theirs.listed() == []
        assert not await theirs.is_running()
        stopped = await theirs.call("PUT", "/container/stop", json={"name": svc.name})
        assert stopped.status_code == 409
        assert await theirs.refused(409)
        assert await theirs.listed() == []
    assert await svc.is_running()
    made = await svc.yard.engine.create(LaunchPlan(name=foreign, image=IMAGE))
    try:
        assert await svc.refused(409, names=[foreign])
        for id in (foreign, made):
            answer = await svc.call("PUT", "/container/stop", json={"name": id})
            assert answer.status_code == 409
        assert await svc.yard.engine.inspect(made) is not None
        assert await svc.listed(name=foreign) == []
    finally:
        await svc.yard.engine.remove(made)
