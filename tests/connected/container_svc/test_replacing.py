"""One description after another under one name: what is handed over, and what a failure leaves."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

from pipeline import topology
from pipeline.records.idempotency import new_id
from tests.support.processes import any_free
from tests.support.systems.service_yard import SERVED, Svc

NEVER_HEALTHY = {
    "port": SERVED,
    "path": "/missing",
    "intervalSeconds": 0.3,
    "retries": 1,
    "startPeriodSeconds": 0.5,
}
FORBIDDEN = [{"envVarKey": "FILE", "url": "http://169.254.169.254/file"}]


def env(value: str) -> list[dict[str, str]]:
    return [{"key": "VERSION", "value": value}]


async def require_as_before(svc: Svc, before: dict[str, Any]) -> None:
    after = await svc.one()
    kept = ("id", "names", "ports", "envs", "hash", "status")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    seen = await svc.yard.engine.inspect(svc.name)
    assert seen is not None
    assert (seen.id, seen.running) == (before["id"], True)


async def test_a_failure_leaves_the_old_one_as_it_was(svc: Svc) -> None:
    await svc.run(ports=[{"internal": SERVED}], envs=env("1"))
    before = await svc.one()
    assert "file" in await svc.refused(422, envs=env("2"), assets=FORBIDDEN)
    assert await svc.refused(422, envs=env("2"), image=svc.image.replace(":1", ":9"))
    await require_as_before(svc, before)


async def test_a_port_is_handed_over_and_handed_back(svc: Svc) -> None:
    ports = [{"internal": SERVED, "host": any_free(random.Random())}]
    assert (await svc.run(ports=ports))["ports"] == ports
    assert (await svc.run(ports=ports, envs=env("2")))["ports"] == ports
    before = await svc.one()
    assert before["envs"] == env("2")
    told = await svc.refused(422, ports=ports, envs=env("3"), healthCheck=NEVER_HEALTHY)
    assert "healthy" in told
    await require_as_before(svc, before)
    well = NEVER_HEALTHY | {"path": "/", "startPeriodSeconds": 20}
    assert (await svc.run(ports=ports, envs=env("3"), healthCheck=well))["ports"] == ports


async def test_a_port_that_somebody_else_has_is_409(svc: Svc) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [{"internal": SERVED, "host": taken.getsockname()[1]}]
        await svc.refused(409, ports=ports)
    assert await svc.listed() == []


async def test_keeps_outlive_what_has_them(svc: Svc) -> None:
    keeps = [{"path": "/kept", "readOnly": False}]
    await svc.run(keeps=keeps)
    first = await kept(svc)
    await svc.run(keeps=keeps, envs=env("2"))
    assert (await svc.one())["keeps"] == keeps
    await svc.change("remove")
    assert await svc.listed() == []
    await svc.run(keeps=keeps)
    assert await kept(svc) == first
    await svc.change("remove", name=svc.name, removeKeeps=True)
    await svc.run()
    assert await kept(svc) == []


async def kept(svc: Svc) -> list[str]:
    volumes = (await svc.yard.http.get("/yard/v1/volumes")).json()["items"]
    return [
        each["uuid"] for each in volumes if (each["name"], each["status"]) == (svc.name, "READY")
    ]


async def test_gpus_are_had_by_one_and_taken_over_by_its_successor(svc: Svc) -> None:
    both = {"gpuEnabled": True, "gpuCount": 2}
    other = f"{svc.name}-other"
    assert "GPU" in await svc.refused(422, capabilities=both | {"gpuCount": 3})
    await svc.run(capabilities=both)
    assert "GPU" in await svc.refused(409, names=[other], capabilities={"gpuEnabled": True})
    assert await svc.listed(name=other) == []
    assert (await svc.run(capabilities=both, envs=env("2")))["started"] is True
    assert (await svc.one())["capabilities"] == both
    await svc.run(capabilities={"gpuEnabled": True})
    await svc.run(names=[other], capabilities={"gpuEnabled": True})
    await svc.change("remove", name=other)


async def test_a_restart_and_an_operation_are_told(svc: Svc) -> None:
    await svc.run()
    before = await svc.one()
    assert await svc.change("restart") == {}
    after = await svc.one()
    assert (after["id"], after["status"]) == (before["id"], "running")
    assert after["restarts"] == before["restarts"] + 1
    query = {"name": svc.name}
    (record,) = (await svc.yard.http.get("/yard/v1/containers", params=query)).json()["items"]
    id = f"run-{record['uuid']}"
    told = await svc.ok("GET", f"/operations/{id}")
    result = {"id": after["id"]}
    assert told == {"id": id, "kind": "run", "status": "succeeded", "result": result}
    assert (await svc.call("GET", f"/operations/build-{record['uuid']}")).status_code == 404


async def test_the_core_replaces_by_http_and_by_queue(svc: Svc) -> None:
    await svc.run(envs=env("1"))
    old, before = await record(svc), await svc.one()
    path = f"/yard/v1/containers/{old['uuid']}/replace"
    body = {"image": svc.image, "env": {"VERSION": "2"}, "engine_name": svc.name}
    key = {"Idempotency-Key": svc.name}

    stale = await svc.yard.http.post(path, json=body, headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    never = {"port": SERVED, "path": "/missing", "interval_s": 0.3, "retries": 1}
    failed = await replaced(svc, path, {**body, "health": {**never, "start_period_s": 0.5}})
    assert failed["failure"] == "start_failed", failed
    named = f"/containers?name={svc.name}"
    await svc.yard.until(
        named, lambda page: [each["uuid"] for each in page["items"]] == [old["uuid"]]
    )
    await require_as_before(svc, before)

    made = await replaced(svc, path, body, headers=key)
    assert (made["status"], made["name"], made["replaces"]) == ("RUNNING", svc.name, None)
    seen = await svc.yard.engine.inspect(svc.name)
    assert seen is not None
    assert seen.id == made["engine_id"]
    again = await svc.yard.http.post(path, json=body, headers=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["uuid"] == made["uuid"]
    assert (await svc.yard.http.post(path, json=body)).status_code == 404

    order = {"id": made["uuid"], "image": svc.image, "env": {"VERSION": "3"}}
    await publish(svc, "container.replace", order)

    await svc.yard.until(
        named,
        lambda page: (
            [(e["spec"]["env"], e["replaces"]) for e in page["items"]] == [(order["env"], None)]
        ),
        seconds=60,
    )


async def replaced(svc: Svc, path: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await svc.yard.http.post(path, json=body, params={"wait": 60}, timeout=90, **more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def record(svc: Svc) -> dict[str, Any]:
    """As the core has it."""
    page = await svc.yard.http.get("/yard/v1/containers", params={"name": svc.name})
    return dict(page.json()["items"][0])


async def publish(svc: Svc, kind: str, data: dict[str, Any]) -> None:
    """As automation does."""
    resource, _, verb = kind.partition(".")
    attributes = {"id": new_id(), "type": f"modelyard.cmd.{kind}", "source": "test"}
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    await svc.yard.services.bus.publish_raw(
        topology.command(svc.yard.org, resource, verb),
        json.dumps(data).encode(),
        headers | {"ce-specversion": "1.0", "Nats-Msg-Id": attributes["id"]},
    )
