"""Credentials that came with a link are kept for as long as somebody may need them."""

from __future__ import annotations

import pytest

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.bootstrap.control_plane import Services
from pipeline.models.service import version_id
from pipeline.stack.pieces.app import ApiPiece
from schemas.image import Image
from schemas.model import ModelVersion
from schemas.registries.secret import Secret
from tests.support.models.models_door import Door, Version
from tests.support.systems.system import System
from tests.support.waiting import eventually

CREDENTIALS = {"username": "joe", "password": "hunter2-secret"}


async def image_of(inside: Services, made: Version) -> str:
    id = version_id(made.identifier, made.version)
    version = await inside.records.store.get(ModelVersion, id, org=EVERY_ORG)
    assert version.image is not None
    return version.image


async def is_kept(inside: Services, image: str) -> bool:
    """Whether credentials of the image are still in the store, sealed or not."""
    found = await inside.records.store.find(
        Secret, org=EVERY_ORG, where={"name": f"delivery-{image}"}
    )
    named = await inside.records.store.get(Image, image, org=EVERY_ORG)
    return bool(found) or named.secret is not None


async def until_forgotten(inside: Services, image: str) -> None:
    async def is_gone() -> bool:
        return not await is_kept(inside, image)

    await eventually(is_gone)


async def test_those_of_a_delivery_that_failed_are_forgotten(
    door: Door, inside: Services, registry_host: str
) -> None:
    made = await door.create()
    await made.link(f"{registry_host}/no/such:1", **CREDENTIALS)
    assert (await made.settled()).status_code == 422
    await until_forgotten(inside, await image_of(inside, made))
    assert (await made.call("GET", "container-image")).json()["code"] == "manifest_not_found"


async def test_those_of_the_image_that_counts_stay_until_another_one_does(
    door: Door, inside: Services, linked: str, well: str
) -> None:
    made = await door.create()
    await made.delivered(linked, **CREDENTIALS)
    first = await image_of(inside, made)
    await inside.models.delivery_secrets.sweep()
    assert await is_kept(inside, first)
    await made.delivered(well, **CREDENTIALS)
    await until_forgotten(inside, first)
    assert await is_kept(inside, await image_of(inside, made))
    assert (await made.load()).status_code == 200
    version = await inside.records.store.get(
        ModelVersion, version_id(made.identifier, made.version), org=EVERY_ORG
    )
    assert version.superseded == []


async def test_those_of_a_superseded_delivery_under_way_are_forgotten(
    door: Door, inside: Services, linked: str, registry_host: str
) -> None:
    made = await door.create()
    await made.link(f"{registry_host}/no/such:1", **CREDENTIALS)
    first = await image_of(inside, made)
    await made.delivered(linked)
    await until_forgotten(inside, first)


@pytest.mark.usefixtures("no_containers_stay")
async def test_those_of_an_image_that_a_container_has_stay_as_long_as_that(
    door: Door, inside: Services, models_system: System, api: ApiPiece, linked: str, well: str
) -> None:
    made = await door.create()
    await made.delivered(linked, **CREDENTIALS)
    image = await image_of(inside, made)
    container = await models_system.run(api, image)
    await made.delivered(well)
    await inside.models.delivery_secrets.sweep()
    assert await is_kept(inside, image)
    await models_system.call(api, "DELETE", f"/containers/{container['uuid']}")
    await until_forgotten(inside, image)
