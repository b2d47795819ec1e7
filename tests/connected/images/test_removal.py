"""What was pushed leaves the registry when its image is deleted, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.store.store import Store
from pipeline.stack.pieces.registry import RegistryPiece
from schemas.image import Image
from tests.support import records as made
from tests.support.archives.images import busybox_image
from tests.support.registries.archive_yard import ArchiveYard, archive_yard
from tests.support.secrets import ADA, EVE


@pytest.fixture
async def yard(store: Store, own_registry: RegistryPiece) -> AsyncIterator[ArchiveYard]:
    async with archive_yard(store, own_registry) as yard:
        yield yard


async def test_a_deleted_image_leaves_with_its_tag_and_the_older_one_stays(
    yard: ArchiveYard,
) -> None:
    old = await yard.push(busybox_image(labels={"v": "1"}), "left:1")
    new = await yard.push(busybox_image(labels={"v": "2"}), "left:1")
    assert yard.holds(old)
    assert yard.files.tags(new.parts.repository) == ["1"]
    await yard.delete(new)
    assert not yard.holds(new)
    assert yard.holds(old)
    assert yard.files.tags(new.parts.repository) == []
    gone = await yard.store.get(Image, new.uuid, org=new.org)
    assert gone.unregistered_at is not None
    # It does what is done already once more when a worker died before it said so.
    await yard.removal.remove(gone)
    again = await yard.push(busybox_image(labels={"v": "2"}), "left:1")
    assert yard.holds(again)
    assert again.digest == new.digest


async def test_what_another_image_needs_goes_with_the_last_one(yard: ArchiveYard) -> None:
    same = busybox_image(labels={"shared": "yes"})
    one, two = await yard.push(same, "shared:1"), await yard.push(same, "shared:2")
    theirs = await yard.push(same, "shared:1", EVE)
    assert one.digest == two.digest == theirs.digest
    await yard.delete(one)
    assert yard.holds(two)
    await yard.delete(two)
    assert not yard.holds(two)
    assert yard.holds(theirs)


async def test_a_reference_that_is_being_looked_at_may_mean_it(yard: ArchiveYard) -> None:
    pushed = await yard.push(busybox_image(labels={"meant": "yes"}), "meant:1")
    await yard.images.delete(ADA, pushed.uuid)
    looked = await yard.store.insert(made.image(org=EVE.org, parts=pushed.parts))
    await yard.removal.sweep()
    assert yard.holds(pushed)
    await yard.store.delete(Image, looked.uuid, org=EVE.org)
    await yard.removal.sweep()
    assert not yard.holds(pushed)


async def test_it_is_tried_until_the_registry_has_confirmed_it(yard: ArchiveYard) -> None:
    pushed = await yard.push(busybox_image(), "away:1")
    await yard.supervisor.stop()
    await yard.delete(pushed)
    assert (await yard.store.get(Image, pushed.uuid, org=pushed.org)).unregistered_at is None
    await yard.supervisor.start()
    await yard.removal.sweep()
    assert not yard.holds(pushed)


async def test_a_push_of_the_same_image_is_not_undone_by_a_deletion(yard: ArchiveYard) -> None:
    pushed = await yard.push(busybox_image(labels={"again": "yes"}), "again:1")
    assert pushed.digest is not None
    async with yard.fence.pushing() as push:
        await push.claim(pushed.parts.repository, pushed.digest)
        await yard.delete(pushed)
        assert yard.holds(pushed)
    await yard.removal.sweep()
    assert not yard.holds(pushed)
