"""The deployment behind the calls of a version, from outside: what it keeps, and what ends it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.access.roles import acting_for
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.records.kernel import Change
from pipeline.stack.pieces.app import ApiPiece
from schemas.container import Container, ContainerSpec, Desired, RestartPolicy
from schemas.image import Image
from schemas.model import ModelVersion
from schemas.states import ContainerStatus
from tests.connected.models.conftest import Models
from tests.connected.models.test_serve import loaded, none_left, run, shut_down
from tests.support.archives.image_delivery import push
from tests.support.models.model_images import model_image
from tests.support.models.models_door import Door, Version
from tests.support.systems.system import System
from tests.support.tenants import Tenant, an_organisation
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_containers_stay")

BY_HAND: list[tuple[str, str, dict[str, Any] | None]] = [
    ("PATCH", "", {"max_replicas": 2}),
    ("POST", "/scale", {"replicas": 1}),
    ("POST", "/start", None),
    ("POST", "/stop", None),
    ("POST", "/restart", None),
    ("POST", "/rollback", {}),
    ("DELETE", "", None),
]


async def record(inside: Yard, made: Version, org: str) -> ModelVersion:
    caller = acting_for(org, None)
    return await inside.models.versions.get(caller, made.identifier, made.version)


async def image_of(inside: Yard, made: Version) -> Image:
    org = inside.settings.org
    return await inside.records.store.get(
        Image, (await record(inside, made, org)).image or "", org=org
    )


async def owned(system: System, api: ApiPiece, made: Version) -> dict[str, Any]:
    """The deployment that is in use, as its owner sees it."""
    listed = (await system.get(api, "/deployments?limit=200"))["items"]
    wanted = {"model": made.identifier, "version": made.version}
    (found,) = [each for each in listed if each["owner"] == wanted]
    return dict(found)


async def test_the_first_call_waits_until_the_status_is_one_that_passes_a_load_test(
    door: Door, models: Models
) -> None:
    made = await loaded(door, models(WELL_AFTER="1.5"))
    assert (await run(made, first=True)).json()["output"] == {"first": True}
    await shut_down(made)


async def test_one_that_exits_is_started_three_times_for_a_call_and_anew_for_the_next(
    door: Door, well: str, registry_host: str, inside: Yard, models_system: System, api: ApiPiece
) -> None:
    made = await loaded(door, well)
    image, store = await image_of(inside, made), inside.records.store
    broken = model_image(EXIT_CODE="7")
    push(broken, registry_host, "models/tiny", "broken")
    pinned = f"{registry_host}/models/tiny@{broken.digest}"

    async def pull(reference: str | None) -> None:
        change = {"$set": {"pinned": reference}}
        await store.update(Image, image.uuid, org=image.org, guard={}, update=change)

    await pull(pinned)
    for times in (1, 2):
        answer = await run(made)
        assert (answer.status_code, answer.json()["code"]) == (422, "crash_loop"), answer.text
        assert "started 3 times" in answer.json()["message"]
        assert "exit code 7" in answer.json()["message"]
        assert "cannot go on" in answer.json()["technicalInformation"]
        deployment = await owned(models_system, api, made)
        assert (deployment["status"], deployment["replicas"]) == ("FAILED", 0)
        where = {"deployment": deployment["uuid"]}
        assert await store.count(Container, org=image.org, where=where) == 3 * times
    await pull(image.pinned)
    assert (await run(made, well=True)).json()["output"] == {"well": True}
    await shut_down(made)


async def test_nobody_changes_it_by_hand(
    door: Door, well: str, models_system: System, api: ApiPiece
) -> None:
    made = await loaded(door, well)
    await run(made)
    deployment = await owned(models_system, api, made)
    path = f"/deployments/{deployment['uuid']}"
    for method, order, body in BY_HAND:
        answer = await models_system.call(api, method, path + order, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), (method, order)
        at = f"/api/models/{made.identifier}/versions/{made.version}"
        assert at in answer.json()["detail"]
    assert (await models_system.get(api, path))["revision"] == deployment["revision"]
    # Clients of imported containers, whose lists do not hold it, do not meet it by its id, either.
    headers = models_system.http.headers
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", headers=headers) as http:
        for method, place, body in (
            ("GET", f"/deployments/model-deployments/{deployment['uuid']}/", None),
            ("POST", f"/deployments/{deployment['uuid']}/edit", {"name": "mine"}),
            ("POST", f"/deployments/{deployment['uuid']}/startstop/", {"action": "stop"}),
            ("DELETE", f"/deployments/{deployment['uuid']}/delete/", None),
        ):
            answer = await http.request(method, place, json=body)
            told = {"error": "Deployment not found"}
            assert (answer.status_code, answer.json()) == (404, told), place
    assert (await run(made, still=True)).json()["output"] == {"still": True}
    await shut_down(made)


async def test_an_image_that_is_called_stays_and_one_that_rests_takes_its_deployment_along(
    door: Door, well: str, inside: Yard, models_system: System, api: ApiPiece
) -> None:
    made = await loaded(door, well)
    await run(made)
    image, deployment = await image_of(inside, made), await owned(models_system, api, made)
    path = f"/images/{image.uuid}"
    kept = await models_system.call(api, "DELETE", path)
    assert (kept.status_code, kept.json()["code"]) == (409, "conflict")
    assert f"POST shutdown to /api/models/{made.identifier}" in kept.json()["detail"]
    assert (await run(made, again=True)).status_code == 200
    await rested(inside, models_system, api, deployment["uuid"])

    async def is_gone() -> bool:
        # It is kept until the end of its last container is written down.
        gone = await models_system.call(api, "DELETE", path)
        assert gone.status_code in (200, 409), gone.text
        return gone.status_code == 200 and gone.json()["status"] == "DELETED"

    await eventually(is_gone)
    refused = await run(made)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    await inside.deployments.reconciler.sweep_settled()
    ended = await models_system.call(api, "GET", f"/deployments/{deployment['uuid']}")
    assert ended.status_code == 404


async def rested(inside: Yard, system: System, api: ApiPiece, uuid: str) -> None:
    """As if nobody had called it for long enough."""
    caller = acting_for(inside.settings.org, None)

    def decide(now: Any, at: Any) -> Change:
        return Change({"idle_at": at})

    known = await inside.deployments.service.get(caller, uuid)
    await inside.records.amend(known, decide)
    await inside.deployments.reconciler.sweep_idle()
    path = f"/deployments/{uuid}"
    await system.until(api, path, lambda each: each["status"] == "SCALED_DOWN")
    await none_left(system)


async def test_an_organisation_stays_while_its_models_are_called(
    door: Door, well: str, inside: Yard, models_system: System, api: ApiPiece
) -> None:
    org = await an_organisation(inside)
    headers = {"Authorization": f"ApiKey {await Tenant(inside.access, org).key()}"}
    async with httpx.AsyncClient(base_url=door.http.base_url, headers=headers, timeout=60) as http:
        made = await loaded(Door(http), well)
        assert (await run(made)).status_code == 200
        path = f"/organisations/{org}"
        kept = await models_system.call(api, "DELETE", path)
        assert (kept.status_code, kept.json()["code"]) == (409, "conflict")
        assert "1 container, 1 image" in kept.json()["detail"]
        version = await record(inside, made, org)
        deployment = await inside.models.serving.deployment(acting_for(org, None), version)
        await shut_down(made)
        await inside.images.service.delete(acting_for(org, None), version.image or "")
        gone = await models_system.call(api, "DELETE", path)
        assert (gone.status_code, gone.json()["status"]) == (200, "DELETED"), gone.text
        ended = await inside.deployments.service.recall(acting_for(org, None), deployment.uuid)
        assert ended is not None
        assert ended.status == "DELETED"
        assert (await run(made)).status_code == 401


async def test_what_an_earlier_version_kept_up_for_calls_ends_with_the_first_start(
    door: Door, well: str, inside: Yard, models_system: System
) -> None:
    """Such versions wrote their start, and others that were to end, into the version's record."""
    made, org = await loaded(door, well), inside.settings.org
    image, caller = await image_of(inside, made), acting_for(inside.settings.org, None)
    spec = ContainerSpec(image=image.uuid, restart=RestartPolicy.NO)
    kept = [
        await inside.containers.service.run(caller, spec, key=f"{start}/{number}")
        for start, number in (("answers", 1), ("ends", 2))
    ]
    start = {"phase": "succeeded", "timeout_ms": 60_000, "calls": {}, "container": kept[0].uuid}
    earlier = {"serve": {"id": "answers", **start}, "ending": [{"id": "ends", **start}]}
    version = await record(inside, made, org)
    raw, own = inside.records.store.beside(ModelVersion.collection), {"_id": version.uuid}
    await raw.update_one(own, {"$set": earlier, "$unset": {"serving": ""}})

    async def both_run() -> bool:
        where = {"status": ContainerStatus.RUNNING.value}
        return await inside.records.store.count(Container, org=org, where=where) == len(kept)

    await eventually(both_run)
    for _ in range(2):
        await inside.models.earlier_serving.end()
    for each in kept:
        now = await inside.containers.service.get(caller, each.uuid)
        assert now.desired is Desired.DELETED
    left = await raw.find_one(own)
    assert left is not None
    assert not left.keys() & {"serve", "ending"}
    assert (left["image"], left["revision"]) == (image.uuid, version.revision)
    await none_left(models_system)
    assert (await run(made, migrated=True)).json()["output"] == {"migrated": True}
    await shut_down(made)
