"""Names that nobody chose for one image alone: like tags, the newest READY one has them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.adapters.store.store import Store
from pipeline.errors import AlreadyExists, InvalidInput, NotFound
from pipeline.images.ownership import OwnRegistry
from pipeline.images.service import Images
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets.service import Secrets
from schemas.image import Delivery, Image, ImageSource, ImageSpec
from schemas.states import ImageStatus
from tests.support import records as made
from tests.support.engines.node_rig import Clock, Sent
from tests.support.secrets import ADA, settings

READY, FAILED = ImageStatus.READY, ImageStatus.FAILED


class Pushes:
    """Images of the organisation, each a second younger than the one before."""

    def __init__(self, store: Store, images: Images) -> None:
        self.store, self.images = store, images
        self._count = 0

    async def add(self, **values: Any) -> Image:
        self._count += 1
        at = made.after(self._count)
        digest = "sha256:" + f"{self._count:x}".ljust(64, "0")
        given = {"status": READY, "status_since": at, "source": ImageSource.UPLOAD}
        return await self.store.insert(made.image(at=at, **given | {"digest": digest} | values))

    async def listed(self, **asked: Any) -> list[str]:
        return [image.uuid for image in (await self.images.list(ADA, **asked)).items]

    async def meant(self, text: str) -> str:
        return (await self.images.find(ADA, text)).uuid


@pytest.fixture
async def pushes(store: Store) -> AsyncIterator[Pushes]:
    async with Outbox(store, Sent()) as outbox:
        records = Records(store, outbox, Clock())
        own = OwnRegistry(store, RegistryTokens(settings().registry, ""))
        yield Pushes(store, Images(records, Secrets(records, settings()), own))


async def test_the_newest_push_of_a_name_has_it_in_whatever_order_they_are_told(
    pushes: Pushes,
) -> None:
    images = [await pushes.add() for _ in range(4)]
    newest = images[-1].uuid
    told = random.Random(7).sample(images, len(images)) * 2
    for image in told:
        await pushes.images.supersede(image.org, image.uuid)
    assert await pushes.listed() == await pushes.listed(name="model") == [newest]
    assert await pushes.listed(superseded=True) == [image.uuid for image in reversed(images)]
    kept = [await pushes.images.get(ADA, image.uuid) for image in images]
    assert [image.superseded_by for image in kept] == [newest, newest, newest, None]


async def test_a_superseded_image_is_found_by_its_digest_and_by_the_beginning_of_its_id(
    pushes: Pushes,
) -> None:
    old, new = await pushes.add(), await pushes.add()
    await pushes.images.supersede(new.org, new.uuid)
    assert old.digest is not None
    for text in (f"model@{old.digest}", f"model@{old.digest[:19]}", old.digest, old.uuid[:8]):
        assert await pushes.meant(text) == old.uuid, text
    assert await pushes.meant("model") == await pushes.meant(new.reference) == new.uuid
    for text in (f"other@{old.digest}", old.digest[:15], "sha256:", old.uuid[:7], "."):
        with pytest.raises(NotFound):
            await pushes.meant(text)


async def test_a_deleted_name_does_not_fall_back_to_what_had_it_before(pushes: Pushes) -> None:
    _, new = await pushes.add(), await pushes.add()
    await pushes.images.supersede(new.org, new.uuid)
    await pushes.images.delete(ADA, new.uuid)
    assert await pushes.listed() == []
    with pytest.raises(NotFound):
        await pushes.meant("model")


@pytest.mark.parametrize(
    "other",
    [
        {"name": "another"},
        {"named": True, "source": ImageSource.REFERENCE},
        {"source": ImageSource.REFERENCE},
        {"delivery": Delivery(identifier="x", model_name="m", version="1.0.0")},
        {"status": ImageStatus.UPLOADING},
        {"org": "somebody"},
    ],
)
async def test_only_images_that_share_the_name_are_superseded(
    pushes: Pushes, other: dict[str, Any]
) -> None:
    older = await pushes.add(**other)
    new = await pushes.add()
    await pushes.images.supersede(new.org, new.uuid)
    kept = await pushes.store.get(Image, older.uuid, org=older.org)
    assert kept.superseded_by is None


async def test_a_reference_that_is_brought_again_takes_the_place_of_what_it_was(
    pushes: Pushes,
) -> None:
    referred = {"source": ImageSource.REFERENCE, "name": "registry.test/model:1"}
    failed, before = await pushes.add(status=FAILED, **referred), await pushes.add(**referred)
    arm = await pushes.add(requested_platform="linux/arm64", **referred)
    now = await pushes.add(**referred)
    newer = await pushes.add(status=FAILED, **referred)
    for image in (before, arm, now, newer):
        await pushes.images.supersede(image.org, image.uuid)
    assert await pushes.listed() == [newer.uuid, now.uuid, arm.uuid]
    hidden = await pushes.images.get(ADA, failed.uuid)
    assert hidden.superseded_by in (before.uuid, now.uuid)


async def test_a_beginning_that_several_ids_have_is_not_clear(pushes: Pushes) -> None:
    for number in (1, 2):
        await pushes.add(uuid=f"3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a0{number}")
    with pytest.raises(InvalidInput, match="begin with 3d8a5c1e-64"):
        await pushes.meant("3d8a5c1e-64")
    assert (await pushes.meant("3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01")).endswith("1")


async def test_the_name_of_a_push_is_not_chosen_for_another_image(pushes: Pushes) -> None:
    spec = ImageSpec(reference="registry.test/model:2", name="model")
    first = await pushes.images.submit(ADA, spec, key="k")
    await pushes.add()
    with pytest.raises(AlreadyExists, match="pushed"):
        await pushes.images.submit(ADA, spec, key="another")
    assert (await pushes.images.submit(ADA, spec, key="k")).uuid == first.uuid


async def test_a_taken_name_says_what_has_it_and_how_it_gets_free(pushes: Pushes) -> None:
    reference = {"named": True, "source": ImageSource.REFERENCE}
    await pushes.add(status=FAILED, **reference)
    with pytest.raises(AlreadyExists, match="is FAILED: delete it, which frees the name"):
        await pushes.images.submit(ADA, ImageSpec(reference="r.test/x:1", name="model"))
