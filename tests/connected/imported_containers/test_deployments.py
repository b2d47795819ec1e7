"""`/deployments/…`: what is kept, shown and changed. No node takes anything here."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pipeline.errors import BusUnavailable, StoreUnavailable
from schemas.access import Role
from schemas.deployment import Deployment
from schemas.image import Image
from schemas.node import Node
from tests.support.registries.deployment_door import (
    DEPLOYED_KEYS,
    DEPLOYMENTS,
    GROUP,
    LOAD,
    PRIVATE,
    PRIVATE_KEYS,
    REPOS,
    UNKNOWN,
    Deploying,
)
from tests.support.registries.registry_door import Door, anonymous, client
from tests.support.waiting import eventually


async def test_a_private_deployment_is_made_and_shown(deploying: Deploying) -> None:
    repo = await deploying.repo(
        runtime_gpus=2, env={"A": "1", "B": 2, "C": True}, ports={"http": {"port": 8080}}
    )
    sent = deploying.body(
        repo,
        gpu_id="nvidia-a100",
        env_variables={"B": 3, "D": "x"},
        autoscale_config=LOAD,
        max_pod_replicas=3,
        healthcheck={"path": "/health"},
        org=await deploying.door.org_uuid(),
    )
    answer = await deploying.call("POST", PRIVATE, json=sent)
    assert answer.status_code == 201, answer.text
    private = answer.json()
    assert set(private) == PRIVATE_KEYS
    checked = {"initialDelaySeconds": 30, "periodSeconds": 10, "timeoutSeconds": 5}
    assert private == private | {
        "model_repo": repo["uuid"],
        "name": sent["name"],
        "org": await deploying.door.org_uuid(),
        "deployment_tag": "production",
        "min_pod_replicas": 1,
        "max_pod_replicas": 3,
        "autoscale_config": LOAD,
        "env_variables": {"B": 3, "D": "x"},
        "ports": {"http": {"port": 8080}},
        "healthcheck": {"path": "/health", **checked},
        "fast_scaleup": False,
    }
    assert private["model_endpoint"].endswith(f"/{private['slug']}/")
    assert httpx.URL(private["model_endpoint"]).is_absolute_url
    full = await deploying.full(private["uuid"])
    assert set(full) == DEPLOYED_KEYS
    assert {name: full[name] for name in PRIVATE_KEYS} == private
    assert (full["accelerator_type"], full["accelerator_count"]) == (["nvidia-a100"], 2)
    assert (full["gpu_id"], full["status"]) == ("nvidia-a100", "DEPLOYING")
    record = await deploying.record(private["uuid"])
    spec = record.template.spec
    assert spec.env == {"A": "1", "B": "3", "C": "true", "D": "x"}
    assert (spec.gpus, spec.gpu_model) == (2, "nvidia-a100")
    assert spec.health is not None
    assert (spec.health.port, spec.health.start_period_s) == (8080, 30)
    assert record.autoscale is not None
    assert record.autoscale.targets[0].value == 8


async def test_a_byoc_deployment_says_where_it_may_run(deploying: Deploying, node: Node) -> None:
    repo = await deploying.repo()
    amounts = {"cpu_request": 0.5, "cpu_limit": 1, "memory_request": 1, "memory_limit": 2}
    for groups in ([node.uuid], [GROUP.upper()]):
        sent = deploying.byoc(repo, groups, **amounts, cluster=UNKNOWN)
        answer = await deploying.call("POST", DEPLOYMENTS, json=sent)
        assert answer.status_code == 201, answer.text
        full = answer.json()
        assert set(full) == DEPLOYED_KEYS
        assert full["node_groups"] == [each.lower() for each in groups]
        assert (full["cluster"], full["accelerator_type"]) == (UNKNOWN, [])
        spec = (await deploying.record(full["uuid"])).template.spec
        assert (spec.resources.cpus, spec.resources.cpus_limit) == (0.5, 1)
        assert spec.resources.memory_bytes == 2 * 2**30
        assert spec.node_groups == full["node_groups"]
    # Not as none at all, which would be no limit.
    told = await deploying.refused(DEPLOYMENTS, deploying.byoc(repo, [GROUP], memory_request=1e-12))
    assert "memory_bytes" in told["non_field_errors"][0]
    sent = deploying.byoc(repo, [UNKNOWN])
    assert await deploying.refused(DEPLOYMENTS, sent) == {
        "nodegroups": [f'Invalid pk "{UNKNOWN}" - object does not exist.']
    }


async def test_what_is_in_the_way_is_said(deploying: Deploying) -> None:
    cpu, gpu = await deploying.repo(runtime_gpus=0), await deploying.repo(runtime_gpus=1)
    body = deploying.body
    assert await deploying.refused(PRIVATE, body(cpu) | {"model_repo": UNKNOWN}) == {
        "model_repo": [f'Invalid pk "{UNKNOWN}" - object does not exist.']
    }
    assert await deploying.refused(PRIVATE, body(cpu, gpu_id="a100")) == {
        "non_field_errors": ["GPU accelerator cannot be used when accelerator count is 0"]
    }
    assert await deploying.refused(PRIVATE, body(gpu, gpu_id="CPU")) == {
        "non_field_errors": ["GPU accelerator is required when accelerator count is greater than 0"]
    }
    assert await deploying.refused(PRIVATE, body(gpu, gpu_id="nvidia-b200")) == {
        "error": "Selected GPU not available at the moment"
    }
    first = await deploying.made(cpu, name="mine")
    taken = {
        "non_field_errors": ["Deployment with this name already exists for this organization."]
    }
    assert await deploying.refused(PRIVATE, body(cpu, name=" mine ")) == taken
    racing = [deploying.call("POST", PRIVATE, json=body(cpu, name="race")) for _ in range(4)]
    answers = await asyncio.gather(*racing)
    assert sorted(each.status_code for each in answers) == [201, 400, 400, 400]
    model = {"model_id": cpu["uuid"]}
    kept = await deploying.door.http.delete("/models/client/model-repos/", params=model)
    told = "This model has active deployments. Delete deployments before deleting the model."
    assert (kept.status_code, kept.json()) == (400, {"detail": told})
    gone = await deploying.repo(runtime_gpus=0)
    model = {"model_id": gone["uuid"]}
    await deploying.door.http.delete("/models/client/model-repos/", params=model)
    assert await deploying.refused(PRIVATE, body(gone)) == {
        "detail": "Model repo has been deleted and cannot be accessed."
    }
    edited = await deploying.edit(first["uuid"], name="race")
    assert (edited.status_code, edited.json()) == (400, taken)


async def test_a_container_is_deleted_or_deployed_but_not_both(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, records = deploying.door.services.images.service, deploying.door.services.records
    look, insert_once = images._refuse_while_used, records.insert_once
    made: list[dict[str, Any]] = []

    async def deployed_after_the_look(image: Image) -> None:
        await look(image)
        if not made:
            made.append(await deploying.made(first))

    async def deleted_before_the_insert(record: Any, *given: Any, **more: Any) -> Any:
        if isinstance(record, Deployment):
            assert (await forget(second)).status_code == 200
        return await insert_once(record, *given, **more)

    async def forget(repo: dict[str, Any]) -> httpx.Response:
        return await deploying.call("DELETE", REPOS, params={"model_id": repo["uuid"]})

    first, second, third = [await deploying.repo(runtime_gpus=0) for _ in range(3)]
    monkeypatch.setattr(images, "_refuse_while_used", deployed_after_the_look)
    answer = await forget(first)
    told = "This model has active deployments. Delete deployments before deleting the model."
    assert (answer.status_code, answer.json()) == (400, {"detail": told})
    assert (await deploying.edit(made[0]["uuid"], env_variables={"A": "1"})).status_code == 200
    monkeypatch.setattr(records, "insert_once", deleted_before_the_insert)
    assert await deploying.refused(PRIVATE, deploying.body(second)) == {
        "detail": "Model repo has been deleted and cannot be accessed."
    }

    async def is_gone() -> bool:
        deleted = await deploying.listed(status="DELETED")
        return [each["model_repo_id"] for each in deleted] == [second["uuid"]]

    await eventually(is_gone)
    answers = await asyncio.gather(*(forget(third) for _ in range(4)))
    assert sorted(each.status_code for each in answers) == [200, 400, 400, 400]
    told = "Model is already deleted."
    assert [each.json()["detail"] for each in answers].count(told) == 3


async def test_an_image_that_is_not_ready_cannot_be_deployed(deploying: Deploying) -> None:
    reference = "127.0.0.1:9/team/model:1"
    image = await deploying.door.http.post("/yard/v1/images", json={"reference": reference})
    assert await deploying.refused(PRIVATE, deploying.body(image.json())) == {
        "detail": "Model repo is not ready for deployment."
    }


async def test_deployments_are_listed_by_status_and_container(deploying: Deploying) -> None:
    one, two = await deploying.repo(runtime_gpus=0), await deploying.repo(runtime_gpus=0)
    made = [await deploying.made(repo) for repo in (one, two, one)]
    short = await deploying.listed()
    assert [each["deployment_id"] for each in short] == [each["uuid"] for each in made[::-1]]
    assert short[0] == {
        "deployment_id": made[2]["uuid"],
        "deployment_name": made[2]["name"],
        "model_repo_id": one["uuid"],
        "model_repo_name": one["name"],
        "model_type": "byom",
        "accelerator_type": [],
        "accelerator_count": 0,
        "status": "DEPLOYING",
    }
    for asked, count in (
        ({"model_repo_id": one["uuid"].upper()}, 2),
        ({"model_repo_id": UNKNOWN}, 0),
        ({"model_repo_id": "x"}, 0),
        ({"status": "DEPLOYING"}, 3),
        ({"status": "DEPLOY"}, 0),
        ({"status": "DELETED"}, 0),
        ({"status": "NONE"}, 0),
    ):
        assert len(await deploying.listed(**asked)) == count, asked
    oldest = await deploying.listed(ordering="asc")
    assert oldest == short[::-1]
    await deploying.ordered(made[0]["uuid"], "startstop", action="stop")

    async def is_down() -> bool:
        return len(await deploying.listed(status="SCALED")) == 1

    await eventually(is_down)
    await deploying.delete(made[1]["uuid"])
    whole = (await deploying.call("GET", DEPLOYMENTS)).json()
    assert [each["uuid"] for each in whole] == [made[2]["uuid"], made[0]["uuid"]]
    assert {frozenset(each) for each in whole} == {frozenset(DEPLOYED_KEYS)}
    deleted = await deploying.call("GET", DEPLOYMENTS, params={"status": "DELETED"})
    assert [each["uuid"] for each in deleted.json()] == [made[1]["uuid"]]


async def test_ids_of_others_are_unknown(deploying: Deploying, other: Door) -> None:
    id = (await deploying.made(await deploying.repo(runtime_gpus=0)))["uuid"]
    for spelled in (id.upper(), id.replace("-", ""), "{" + id + "}"):
        assert (await deploying.full(spelled))["uuid"] == id
    missing = {"error": "Deployment not found"}
    for http, unknown in (
        (other.http, id),
        *((deploying.door.http, each) for each in (UNKNOWN, "x", "%00")),
    ):
        for method, path, body in (
            ("GET", f"/deployments/model-deployments/{unknown}/", None),
            ("GET", f"/deployments/model-deployment/fetch-status/{unknown}/", None),
            ("POST", f"/deployments/{unknown}/edit", {}),
            ("POST", f"/deployments/{unknown}/startstop/", {"action": "stop"}),
            ("POST", f"/deployments/{unknown}/restart/", {"action": "restart"}),
            ("DELETE", f"/deployments/{unknown}/delete/", None),
        ):
            answer = await http.request(method, path, json=body)
            assert (answer.status_code, answer.json()) == (404, missing), path
        answer = await http.post(
            f"/deployments/{unknown}/update-replicas/", json={"min_replicas": 1, "max_replicas": 1}
        )
        told = {"error": "No active deployment found"}
        assert (answer.status_code, answer.json()) == (404, told)
    assert (await deploying.full(id))["status"] == "DEPLOYING"


CALLS = [
    ("POST", PRIVATE),
    ("POST", DEPLOYMENTS),
    ("GET", DEPLOYMENTS),
    ("GET", f"/deployments/model-deployments/{UNKNOWN}/"),
    ("GET", "/deployments/list/model/"),
    ("POST", f"/deployments/{UNKNOWN}/edit"),
    ("POST", f"/deployments/{UNKNOWN}/startstop/"),
    ("POST", f"/deployments/{UNKNOWN}/restart/"),
    ("POST", f"/deployments/{UNKNOWN}/update-replicas/"),
    ("GET", f"/deployments/model-deployment/fetch-status/{UNKNOWN}/"),
    ("DELETE", f"/deployments/{UNKNOWN}/delete/"),
]


async def test_tokens_roles_and_organisations_are_looked_at_in_this_order(
    app: FastAPI, door: Door
) -> None:
    denied = {"detail": "You do not have permission to perform this action."}
    async with anonymous(app) as nobody, await client(app, door.org, Role.VIEWER) as viewer:
        for method, path in CALLS:
            answer = await nobody.request(method, path, content=b"{")
            told = "Authentication credentials were not provided."
            assert (answer.status_code, answer.json()) == (401, {"detail": told}), path
            answer = await viewer.request(method, path, content=b"{")
            assert (answer.status_code == 403) is (method != "GET"), path
            answer = await door.http.request(method, path, params={"org_id": UNKNOWN}, json={})
            assert (answer.status_code, answer.json()) == (403, denied), path
            if method != "POST":
                continue
            answer = await door.http.post(path, content=b"{")
            assert (answer.status_code, answer.json()) == (400, {"detail": "JSON parse error"})
            answer = await door.http.post(path, content=b"[]")
            told = "Invalid data. Expected an object."
            assert answer.json() == {"detail": {"non_field_errors": [told]}}
            answer = await door.http.post(path, json={"org": UNKNOWN})
            assert (answer.status_code, answer.json()) == (403, denied), path
            answer = await door.http.post(path, content=b"x" * (1024 * 1024 + 1))
            assert (answer.status_code, set(answer.json())) == (413, {"detail"}), path
    for method, path, status in (
        ("PUT", PRIVATE, 405),
        ("GET", DEPLOYMENTS[:-1], 404),
        ("GET", "/deployments/x", 404),
    ):
        answer = await door.http.request(method, path)
        assert (answer.status_code, set(answer.json())) == (status, {"detail"})


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (StoreUnavailable("mongo.internal"), 503, "The service is unavailable at the moment"),
        (BusUnavailable("nats.internal"), 503, "The service is unavailable at the moment"),
        (KeyError("mongo.internal"), 500, "An unexpected error occurred: quote incident "),
    ],
)
async def test_what_fails_inside_is_said_without_internals(
    door: Door, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, told: str
) -> None:
    async def fails(slug: str) -> str:
        raise error

    monkeypatch.setattr(door.services.organisations, "uuid_of", fails)
    repos, secrets = "/models/client/model-repos/", "/accounts/secrets/"
    others = [(method, path) for path in (repos, secrets) for method in ("GET", "POST")]
    for method, path in [*CALLS, *others, ("DELETE", repos), ("DELETE", f"{secrets}{UNKNOWN}/")]:
        answer = await door.http.request(method, path, json={})
        assert (answer.status_code, set(answer.json())) == (status, {"detail"}), path
        assert answer.json()["detail"].startswith(told)
        assert "internal" not in answer.text


async def test_a_viewer_does_not_see_values_of_an_environment(
    app: FastAPI, deploying: Deploying
) -> None:
    repo = await deploying.repo(runtime_gpus=0)
    id = (await deploying.made(repo, env_variables={"KEY": "hidden-value"}))["uuid"]
    async with await client(app, deploying.door.org, Role.VIEWER) as http:
        for path in (DEPLOYMENTS, f"{DEPLOYMENTS}{id}/", f"/yard/v1/deployments/{id}"):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert "hidden-value" not in answer.text
