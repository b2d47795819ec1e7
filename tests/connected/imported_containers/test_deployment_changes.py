"""Changes of deployments on `/deployments/…`. No node takes anything here."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from schemas.access import Principal
from schemas.container import Desired
from schemas.deployment import Deployment
from schemas.image import CLIENTS_OWN, Image
from schemas.states import DeploymentStatus
from tests.support.registries.deployment_door import (
    DEPLOYED_KEYS,
    DEPLOYMENTS,
    LOAD,
    REPOS,
    UNKNOWN,
    Deploying,
)

WINDOW = {"timezone": "UTC", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": 1}


async def test_an_edit_changes_what_it_names(deploying: Deploying) -> None:
    repo = await deploying.repo(runtime_gpus=1, env={"A": "1"})
    made = await deploying.made(repo, gpu_id="A100", env_variables={"X": 1}, fast_scaleup=True)
    before = await deploying.record(made["uuid"])
    answer = await deploying.edit(made["uuid"], env_variables={"A": "2"}, deployment_tag="canary")
    assert answer.status_code == 200, answer.text
    full = answer.json()
    assert set(full) == DEPLOYED_KEYS
    assert (full["env_variables"], full["deployment_tag"]) == ({"A": "2"}, "canary")
    assert (full["gpu_id"], full["fast_scaleup"], full["name"]) == ("A100", True, made["name"])
    after = await deploying.record(made["uuid"])
    assert after.template.spec == before.template.spec.model_copy(update={"env": {"A": "2"}})
    assert after.generation == 2
    renamed = (await deploying.edit(made["uuid"], name="another name", max_pod_replicas=1)).json()
    assert (renamed["name"], renamed["env_variables"]) == ("another name", {"A": "2"})
    assert (await deploying.record(made["uuid"])).generation == 2
    wrong = await deploying.edit(made["uuid"], min_pod_replicas=2, ports={"udp": {}})
    assert set(wrong.json()) == {"max_pod_replicas", "ports"}
    wrong = await deploying.edit(made["uuid"], gpu_id="cpu")
    assert "non_field_errors" in wrong.json()


async def test_what_is_wrong_with_an_edit_is_told_together_and_first(deploying: Deploying) -> None:
    repo = await deploying.repo()
    id = (await deploying.made(repo))["uuid"]
    fixed = ["This field cannot be changed."]
    for name in ("model_repo", "cluster"):
        wrong = await deploying.edit(id, **{name: repo["uuid"]})
        assert (wrong.status_code, wrong.json()) == (400, {name: fixed})
    own = await deploying.door.org_uuid()
    assert (await deploying.edit(id, org=own)).json() == {"org": fixed}
    assert (await deploying.edit(id, org=UNKNOWN)).status_code == 403
    for edited in (id, UNKNOWN):
        wrong = await deploying.edit(edited, cluster=UNKNOWN, max_pod_replicas=0, name=7)
        assert set(wrong.json()) == {"cluster", "max_pod_replicas", "name"}
    nowhere = await deploying.edit(id, nodegroups=[UNKNOWN])
    told = {"nodegroups": [f'Invalid pk "{UNKNOWN}" - object does not exist.']}
    assert (nowhere.status_code, nowhere.json()) == (400, told)


async def test_an_edit_of_the_rule_keeps_to_it(deploying: Deploying) -> None:
    config = LOAD | {"cronScaling": [WINDOW]}
    given = {"min_pod_replicas": 0, "autoscale_config": config}
    id = (await deploying.made(await deploying.repo(), **given))["uuid"]
    for rule, wrong in ((LOAD, "min_pod_replicas"), ({}, "autoscale_config")):
        answer = await deploying.edit(id, autoscale_config=rule)
        assert (answer.status_code, wrong in answer.json()) == (400, True), answer.text
    assert (await deploying.full(id))["autoscale_config"] == config


async def test_edits_at_the_same_time_all_hold(deploying: Deploying) -> None:
    id = (await deploying.made(await deploying.repo()))["uuid"]
    for times in range(1, 4):
        answers = await asyncio.gather(
            deploying.edit(id, env_variables={"TIMES": times}),
            deploying.edit(id, deployment_tag=f"v{times}"),
            deploying.update(id, min_replicas=1, max_replicas=1 + times, **LOAD),
        )
        assert [each.status_code for each in answers] == [200, 200, 200]
        full = await deploying.full(id)
        assert full["env_variables"] == {"TIMES": times}
        assert (full["deployment_tag"], full["max_pod_replicas"]) == (f"v{times}", 1 + times)
        assert full["autoscale_config"] == LOAD


async def test_nobody_else_says_what_a_client_said(deploying: Deploying) -> None:
    repo = await deploying.repo()
    id = (await deploying.made(repo, deployment_tag="canary"))["uuid"]
    path = f"/yard/v1/deployments/{id}"
    spec = {"name": "ours", "template": {"image": repo["uuid"]}}
    for text in ("x", "[]", '{"source_type": 5}', '{"env_variables": []}', '{"gpu_id": 5}'):
        mine = {"annotations": {CLIENTS_OWN: text}}
        for method, place, given in (
            ("PATCH", path, {}),
            ("POST", "/yard/v1/deployments", spec),
            ("POST", "/yard/v1/images", {"reference": "127.0.0.1:9/team/model:1"}),
        ):
            answer = await deploying.call(method, place, json=given | mine)
            assert (answer.status_code, "platform's own" in answer.text) == (422, True), text
    assert (await deploying.call("PATCH", path, json={"annotations": {"a": "b"}})).is_success
    shown = (await deploying.call("GET", path)).json()["annotations"]
    assert set(shown) == {"a", CLIENTS_OWN}
    assert (await deploying.call("PATCH", path, json={"annotations": shown})).is_success
    assert (await deploying.full(id))["deployment_tag"] == "canary"


async def test_records_that_somebody_wrote_into_are_still_shown(deploying: Deploying) -> None:
    store = deploying.door.services.records.store
    repo = await deploying.repo(runtime_gpus=0)
    id = (await deploying.made(repo))["uuid"]
    for text in (
        "x",
        "[]",
        '{"source_type": 5, "registry_path": [], "docker_tag": {}}',
        '{"env_variables": [], "gpu_id": 5, "autoscale_config": [], "fast_scaleup": "x"}',
        '{"ports": [], "healthcheck": {"port": "x"}, "cluster": 1, "deployment_tag": {}}',
        '{"autoscale_config": {"targets": [{"metric": []}], "scaleUpBehavior": 5}}',
    ):
        for kind, uuid in ((Deployment, id), (Image, repo["uuid"])):
            poison = {"$set": {"annotations": {CLIENTS_OWN: text}}}
            await store.update(kind, uuid, org=deploying.door.org, guard={}, update=poison)
        for path in (REPOS, DEPLOYMENTS, "/deployments/list/model/"):
            answer = await deploying.call("GET", path)
            assert (answer.status_code, len(answer.json())) == (200, 1), text
        answer = await deploying.edit(id, env_variables={"A": text})
        assert answer.status_code == 200, answer.text


async def test_a_change_by_our_own_door_is_seen(deploying: Deploying) -> None:
    made = await deploying.made(
        await deploying.repo(runtime_gpus=0, env={"A": "1"}),
        env_variables={"X": 1, "Y": 2},
        autoscale_config=LOAD,
        max_pod_replicas=2,
    )
    template = (await deploying.record(made["uuid"])).template.spec.model_dump(mode="json")
    template |= {"env": {"A": "1", "X": "5", "Y": "2"}, "ports": [{"internal": 9000}]}
    template["health"] = {"port": 9000, "path": "/up"}
    given = {"template": template, "autoscale": {"scale_to_zero": True}, "max_replicas": 4}
    path = f"/yard/v1/deployments/{made['uuid']}"
    answer = await deploying.door.http.patch(path, json=given)
    assert answer.status_code == 202, answer.text
    full = await deploying.full(made["uuid"])
    assert (full["env_variables"], full["max_pod_replicas"]) == ({"X": "5", "Y": 2}, 4)
    assert full["scale_to_zero_enabled"] is True
    assert full["autoscale_config"]["scale_to_zero"] is True
    assert (full["healthcheck"]["path"], full["healthcheck"]["port"]) == ("/up", 9000)


async def test_replicas_are_updated_with_their_rule(deploying: Deploying) -> None:
    id = (await deploying.made(await deploying.repo()))["uuid"]
    behavior = {
        "stabilizationWindowSeconds": 60,
        "selectPolicy": "Min",
        "policies": [{"type": "Percent", "value": 25, "periodSeconds": 60}],
    }
    answer = await deploying.update(
        id,
        min_replicas=0,
        max_replicas=4,
        cronScaling=[WINDOW],
        cooldown_period=60,
        initial_cooldown_period=30,
        targets=[{"metric": "latency", "target": 200, "percentile": 95}],
        scaleDownBehavior=behavior,
    )
    told = "Autoscaling configuration updated successfully"
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": told, "min_replicas": 0, "max_replicas": 4},
    )
    full = await deploying.full(id)
    assert (full["min_pod_replicas"], full["max_pod_replicas"]) == (0, 4)
    assert full["autoscale_config"]["cronScaling"] == [WINDOW]
    assert full["autoscale_config"]["scaleDownBehavior"] == behavior
    policy = (await deploying.record(id)).autoscale
    assert policy is not None
    assert (policy.cooldown_s, policy.initial_cooldown_s) == (60, 30)
    assert (policy.targets[0].percentile, policy.schedules[0].replicas) == (95, 1)
    assert (policy.scale_down.select, policy.scale_down.steps[0].kind) == ("min", "percent")


async def test_windows_are_kept_until_they_are_cleared(deploying: Deploying) -> None:
    id = (await deploying.made(await deploying.repo()))["uuid"]
    update = partial(deploying.update, id)
    assert (await update(min_replicas=0, max_replicas=4, cronScaling=[WINDOW])).status_code == 200
    # The window is kept until it is cleared, and excludes the other way to zero.
    assert set((await update(min_replicas=0, max_replicas=2, scale_to_zero=True)).json()) == {
        "scale_to_zero"
    }
    assert (await update(min_replicas=0, max_replicas=2)).status_code == 200
    cleared = await update(min_replicas=1, max_replicas=2, cronScaling=[], scale_to_zero=True)
    assert cleared.status_code == 200, cleared.text
    assert (await deploying.full(id))["scale_to_zero_enabled"] is True
    wrong = await update(max_replicas=0, targets=[], cooldown_period=-1)
    assert set(wrong.json()) == {"min_replicas", "max_replicas", "targets", "cooldown_period"}
    assert set((await update(min_replicas=0, max_replicas=1, scale_to_zero=False)).json()) == {
        "min_replicas"
    }
    assert set((await update(min_replicas=3, max_replicas=2)).json()) == {"max_replicas"}
    await deploying.delete(id)
    for unknown in (id, UNKNOWN, "x"):
        answer = await deploying.call(
            "POST",
            f"/deployments/{unknown}/update-replicas/",
            json={"min_replicas": 1, "max_replicas": 1},
        )
        assert (answer.status_code, answer.json()) == (404, {"error": "No active deployment found"})


async def test_start_stop_and_restart_are_orders(deploying: Deploying) -> None:
    id = (await deploying.made(await deploying.repo(runtime_gpus=0)))["uuid"]
    for path, action, done in (
        *[("startstop", "stop", "stopped")] * 2,
        *[("startstop", "start", "started")] * 2,
        ("restart", "restart", "restarted"),
    ):
        answer = await deploying.ordered(id, path, action=action, namespace="x")
        told = {"message": f"Deployment {done} successfully", "update_result": done}
        assert (answer.status_code, answer.json()) == (200, told)
    for path in ("startstop", "restart"):
        for given in ({}, {"action": "pause"}, {"action": None}, {"action": []}):
            answer = await deploying.ordered(id, path, **given)
            assert (answer.status_code, answer.json()) == (400, {"error": "Invalid action"})
        action = "start" if path == "startstop" else "restart"
        for unknown in (UNKNOWN, "x"):
            answer = await deploying.ordered(unknown, path, action=action)
            assert (answer.status_code, answer.json()) == (404, {"error": "Deployment not found"})


async def test_what_is_deleted_is_still_shown_and_cannot_be_changed(deploying: Deploying) -> None:
    id = (await deploying.made(await deploying.repo(runtime_gpus=0), name="once"))["uuid"]
    health = await deploying.health(id)
    assert health["data"] == "Initializing"
    assert health["pods"] == {"ready": 0, "not_ready": 1}
    answer = await deploying.delete(id)
    assert answer == {"message": "Deployment deleted successfully"}
    assert await deploying.delete(id) == {"message": "Deployment already Deleted"}
    assert (await deploying.full(id))["status"] == "DELETED"
    gone = {"error": "Deployment has been deleted"}
    for answer in (
        await deploying.edit(id, name="other"),
        await deploying.ordered(id, "startstop", action="start"),
        await deploying.ordered(id, "restart", action="restart"),
        await deploying.call("GET", f"/deployments/model-deployment/fetch-status/{id}/"),
    ):
        assert (answer.status_code, answer.json()) == (400, gone)
    assert (await deploying.made(await deploying.repo(runtime_gpus=0), name="once"))["uuid"] != id


async def test_what_is_on_its_way_out_or_failed_cannot_be_scaled(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = (await deploying.made(await deploying.repo(runtime_gpus=0)))["uuid"]
    service = deploying.door.services.deployments.service
    recall = service.recall
    given = partial(deploying.update, id, min_replicas=1, max_replicas=1)
    unknown = {"error": "No active deployment found"}
    for values in (
        {"status": DeploymentStatus.FAILED},
        {"status": DeploymentStatus.DELETING, "desired": Desired.DELETED},
    ):

        async def found(
            caller: Principal, uuid: str, values: dict[str, object] = values
        ) -> Deployment | None:
            record = await recall(caller, uuid)
            return record and record.model_copy(update=values)

        monkeypatch.setattr(service, "recall", found)
        answer = await given()
        assert (answer.status_code, answer.json()) == (404, unknown)
    gone = {"error": "Deployment has been deleted"}
    for answer in (
        await deploying.edit(id, name="other"),
        await deploying.ordered(id, "startstop", action="start"),
        await deploying.ordered(id, "restart", action="restart"),
        await deploying.call("GET", f"/deployments/model-deployment/fetch-status/{id}/"),
    ):
        assert (answer.status_code, answer.json()) == (400, gone)
    assert await deploying.delete(id) == {"message": "Deployment already Deleted"}
