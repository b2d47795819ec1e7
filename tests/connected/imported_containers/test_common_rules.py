"""What holds for all routes of imported containers, and what they say of the state of things."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.records.kernel import now
from schemas.access import Role
from schemas.deployment import Deployment
from tests.connected.imported_containers.test_model_repos import TIME, body
from tests.support.registries.deployment_door import DEPLOYMENTS, PRIVATE, REPOS, UNKNOWN, Deploying
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door, anonymous
from tests.support.waiting import eventually

INVALID = {"detail": "Invalid token."}


async def test_a_token_that_has_expired_is_no_token(app: FastAPI, door: Door) -> None:
    at = now()
    claims = Claims(
        subject="user:1",
        org=door.org,
        name="ada",
        role=Role.ADMIN,
        kind=TokenKind.ACCESS,
        id="j",
        session="s",
        user=None,
        issued_at=at - timedelta(hours=2),
        expires_at=at - timedelta(hours=1),
    )
    text = Signer(door.services.settings.signing_key.get_secret_value()).sign(claims)
    async with anonymous(app, Authorization=f"Bearer {text}") as http:
        for path in (REPOS, "/accounts/secrets/", DEPLOYMENTS):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()) == (401, INVALID), path


async def test_what_names_no_other_organisation_is_ignored(deploying: Deploying) -> None:
    uuid = await deploying.door.org_uuid()
    for own in ("", deploying.door.org, uuid, uuid.upper(), "{" + uuid + "}"):
        for path in (REPOS, DEPLOYMENTS, "/deployments/list/model/", "/accounts/secrets/"):
            params = {"org": own, "org_id": own, "colour": "red"}
            answer = await deploying.call("GET", path, params=params)
            assert answer.status_code == 200, answer.text
    repo = await deploying.repo(org="", org_id=None)
    made = await deploying.made(repo, org=None, org_id="")
    # Clients say so of every request, also of those without a body.
    kind = {"Content-Type": "application/json"}
    for method, path in (
        ("GET", f"{DEPLOYMENTS}{made['uuid']}/"),
        ("DELETE", f"/deployments/{made['uuid']}/delete/"),
        ("DELETE", f"{REPOS}?model_id={repo['uuid']}"),
    ):
        answer = await deploying.call(method, path, headers=kind)
        assert answer.status_code == 200, answer.text


async def test_fields_come_before_what_is_referred_to(deploying: Deploying) -> None:
    wrong = await deploying.ordered(UNKNOWN, "startstop", action="pause")
    assert (wrong.status_code, wrong.json()) == (400, {"error": "Invalid action"})
    wrong = await deploying.ordered(UNKNOWN, "restart")
    assert (wrong.status_code, wrong.json()) == (400, {"error": "Invalid action"})
    wrong = await deploying.update(UNKNOWN, min_replicas=-1, max_replicas=0)
    assert (wrong.status_code, set(wrong.json())) == (400, {"min_replicas", "max_replicas"})
    wrong = await deploying.call(
        "POST", PRIVATE, json=deploying.body({"uuid": UNKNOWN}, name="x", gpu_id="")
    )
    assert (wrong.status_code, set(wrong.json())) == (400, {"name", "gpu_id"})


async def test_what_only_clients_read_again_comes_back_as_it_was_sent(deploying: Deploying) -> None:
    claims = [{"name": "weights", "mountPath": "/weights", "size": 10}]
    sent: dict[str, Any] = {
        "persistent_volume_claims": claims,
        "deployment_custom_configuration": {"a": [1, 2.5, None]},
        "advanced_configuration": {"sidecars": True},
        "fast_scaleup": True,
        "async_deployment_type": "ASYNC",
        "deployment_tag": "canary",
    }
    made = await deploying.made(await deploying.repo(), **sent, sidecars=[{"image": "x"}])
    full = await deploying.full(made["uuid"])
    assert {name: full[name] for name in sent} == sent
    for at in (full["created_at"], full["updated_at"]):
        assert TIME.fullmatch(at)
    spec = (await deploying.record(made["uuid"])).template.spec
    assert (spec.volumes, spec.assets) == ([], []), "claims are shown, and have no effect"


async def test_without_a_gateway_there_is_no_endpoint(deploying: Deploying) -> None:
    settings = deploying.door.services.settings
    before, settings.gateway_url = settings.gateway_url, ""
    try:
        assert (await deploying.made(await deploying.repo()))["model_endpoint"] is None
    finally:
        settings.gateway_url = before


async def test_a_secret_of_any_type_opens_a_registry(door: Door, locked_host: str) -> None:
    data = {"server": locked_host, "username": USER, "password": PASSWORD}
    asked = {"secret_type": "nvidiadockersecret", "name": "nvidia", "data": data}
    secret = (await door.http.post("/accounts/secrets/", json=asked)).json()["uuid"]
    sent = await body(door, locked_host, source_secret=secret)
    answer = await door.http.post(REPOS, json=sent)
    assert (answer.status_code, answer.json()["source_type"]) == (201, "nvidiadockersecret")


async def test_a_deployment_that_is_stopped_keeps_its_container(deploying: Deploying) -> None:
    repo = await deploying.repo()
    id = (await deploying.made(repo))["uuid"]
    await deploying.ordered(id, "startstop", action="stop")
    answer = await deploying.call("DELETE", REPOS, params={"model_id": repo["uuid"]})
    told = "This model has active deployments. Delete deployments before deleting the model."
    assert (answer.status_code, answer.json()) == (400, {"detail": told})
    await deploying.delete(id)
    gone = await deploying.call("DELETE", REPOS, params={"model_id": repo["uuid"]})
    assert gone.status_code == 200


GONE: dict[str, Any] = {"slots": [], "ready": 0}
SLOT = {"number": 1, "template": "hash"}
HEALTH: list[tuple[str, str | None, tuple[int, int], dict[str, Any]]] = [
    ("Healthy", None, (2, 0), {"status": "DEPLOYED", "ready": 2, "reason": None}),
    ("Initializing", "info", (0, 2), {"status": "DEPLOYING", "ready": 0, "good": None}),
    ("Progressing", "info", (1, 1), {"status": "DEPLOYING", "ready": 1}),
    ("Degraded", "warning", (1, 1), {"status": "DEGRADED", "ready": 1, "good": "hash"}),
    ("Unhealthy", "error", (0, 2), {"status": "DEGRADED", "ready": 0}),
    ("Unhealthy", "error", (0, 2), {"status": "FAILED", "ready": 0}),
    ("Missing", "error", (0, 2), {"status": "DEPLOYING", **GONE}),
    ("SCALED_DOWN", "info", (0, 0), {"status": "SCALED_DOWN", "desired": "STOPPED", **GONE}),
]


async def test_health_has_the_words_of_clients(deploying: Deploying) -> None:
    id = (await deploying.made(await deploying.repo()))["uuid"]
    raw = deploying.door.services.records.store.beside(Deployment.collection)
    for word, severity, (ready, missing), values in HEALTH:
        known = {"desired": "RUNNING", "replicas": 2, "reason": "because", "slots": [SLOT]}
        known |= {"replace_at": now() + timedelta(minutes=1)} | values
        told = [] if severity is None else [{"message": "because", "severity": severity}]
        pods = {"ready": ready, "not_ready": missing}
        wanted = {"data": word, "messages": told, "pods": pods}

        async def is_told(known: Any = known, wanted: Any = wanted) -> bool:
            # The worker may be about to say what is.
            await raw.update_one({"_id": id}, {"$set": known})
            return bool(await deploying.health(id) == wanted)

        await eventually(is_told)
