"""An image is deleted, or a deployment has it: whoever is first, also in an edit or a rollback."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.errors import Conflict, NotFound
from schemas.deployment import Deployment, DeploymentEdit
from schemas.image import Image
from schemas.states import DeploymentStatus, ImageStatus
from tests.support.engines.deploying import Deploying


async def test_an_edit_that_comes_while_the_image_is_looked_at_keeps_it(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, images = deploying.rig, deploying.rig.containers._images
    made, edit = await deploying.deployed(1), await edit_to_another(deploying)
    look = images._refuse_while_used

    async def edited_right_after(image: Image) -> None:
        await look(image)
        await deploying.service.edit(rig.caller, made.uuid, edit)

    monkeypatch.setattr(images, "_refuse_while_used", edited_right_after)
    with pytest.raises(Conflict, match="Deployments still use"):
        await images.delete(rig.caller, image_of(edit))
    after = await deploying.settled(made)
    assert (after.status, after.template.spec.image) == (DeploymentStatus.DEPLOYED, image_of(edit))


async def test_an_edit_to_an_image_that_is_deleted_just_then_changes_nothing(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, images, service = deploying.rig, deploying.rig.containers._images, deploying.service
    made, edit = await deploying.deployed(1), await edit_to_another(deploying)
    is_written, is_deleted = asyncio.Event(), asyncio.Event()
    look, is_used = images._refuse_while_used, service._is_used

    async def looked_before_the_write(image: Image) -> None:
        await look(image)
        await is_written.wait()

    async def told_late(deployment: Deployment) -> bool:
        is_written.set()
        await is_deleted.wait()
        return await is_used(deployment)

    monkeypatch.setattr(images, "_refuse_while_used", looked_before_the_write)
    monkeypatch.setattr(service, "_is_used", told_late)
    edit = edit.model_copy(update={"max_replicas": 7})
    prepared = asyncio.create_task(service.edit(rig.caller, made.uuid, edit))
    deleting = asyncio.create_task(images.delete(rig.caller, image_of(edit)))
    assert (await deleting).status is ImageStatus.DELETED
    is_deleted.set()
    with pytest.raises(NotFound, match="deleted meanwhile"):
        await prepared
    after = await deploying.settled(made)
    assert after.status is DeploymentStatus.DEPLOYED
    assert (after.template, after.history) == (made.template, [])
    assert after.max_replicas == made.max_replicas


async def test_there_is_no_way_back_to_an_image_that_is_deleted(deploying: Deploying) -> None:
    rig, images = deploying.rig, deploying.rig.containers._images
    made = await deploying.deployed(1)
    await deploying.service.edit(rig.caller, made.uuid, await edit_to_another(deploying))
    edited = await deploying.settled(made)
    await images.delete(rig.caller, made.template.spec.image)
    for _ in range(2):
        with pytest.raises(NotFound, match="deleted meanwhile"):
            await deploying.service.roll_back(rig.caller, made.uuid, key="again")
    after = await deploying.settled(made)
    assert (after.status, after.template) == (DeploymentStatus.DEPLOYED, edited.template)


async def edit_to_another(deploying: Deploying) -> DeploymentEdit:
    return DeploymentEdit(template=await deploying.template())


def image_of(edit: DeploymentEdit) -> str:
    assert edit.template is not None
    return edit.template.image
