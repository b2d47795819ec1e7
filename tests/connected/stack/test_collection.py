"""The registry of a stack gives back what nothing refers to, and never what somebody needs."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict, YardError
from pipeline.own_registry import fence as fences
from pipeline.stack.pieces.registry import RegistryPiece
from schemas.image import Image
from tests.support.archives.images import TinyImage, busybox_image
from tests.support.registries.archive_yard import ArchiveYard, archive_yard

SIZE = 2 * 1024 * 1024


@pytest.fixture
async def yard(store: Store, own_registry: RegistryPiece) -> AsyncIterator[ArchiveYard]:
    async with archive_yard(store, own_registry) as yard:
        yield yard


async def test_deleted_images_give_their_space_back_and_can_be_pushed_again(
    yard: ArchiveYard, tmp_path: Path
) -> None:
    kept, gone = await yard.push(padded(1), "kept:1"), await yard.push(padded(2), "gone:1")
    await yard.delete(gone)
    # The registry remembers its blobs until it is started anew.
    assert await yard.collector.measure() > SIZE
    before = await yard.fence.space()
    freed = await yard.collector.collect()
    after = await yard.fence.space()
    assert before.used_bytes is not None
    assert after.used_bytes == before.used_bytes - freed
    assert (after.reclaimable_bytes, after.freed_bytes) == (0, freed)
    pulled(kept, tmp_path / "kept")
    again = await yard.push(padded(2), "gone:1")
    pulled(again, tmp_path / "again")


async def test_it_is_done_when_asked_for_or_when_it_is_time(yard: ArchiveYard) -> None:
    gone = await yard.push(padded(3), "gone:1")
    await yard.delete(gone)
    await yard.collector.look()
    assert (await yard.fence.space()).collected_at is None
    await yard.fence.note(asked_at=yard.clock())
    await yard.collector.look()
    first = await yard.fence.space()
    assert first.collected_at is not None
    await yard.collector.look()
    assert (await yard.fence.space()).collected_at == first.collected_at
    again = await yard.push(padded(3), "gone:1")
    await yard.delete(again)
    yard.clock.skip(3601)
    await yard.collector.look()
    assert (await yard.fence.space()).collected_at != first.collected_at


async def test_blobs_of_a_push_under_way_are_not_collected(
    yard: ArchiveYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "DRAIN_S", 0.2)
    await yard.delete(await yard.push(padded(4), "gone:1"))
    async with yard.fence.pushing():
        with pytest.raises(Conflict):
            await yard.collector.collect()
    assert (await yard.fence.space()).reclaimable_bytes


async def test_killed_in_the_middle_with_pushes_beside_it_every_ready_image_can_be_pulled(
    yard: ArchiveYard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "DRAIN_S", 1)
    ready: list[Image] = []

    async def push_often(worker: int) -> None:
        for number in range(4):
            # Half of them share their content with what the others push and delete.
            made = padded(10 + number + worker % 2 * 10)
            image = await insisted(yard, made, f"pushed-{worker}:{number}")
            if number % 2:
                await yard.delete(image)
            else:
                ready.append(image)

    async def collect_and_kill() -> None:
        for moment in range(6):
            collecting = asyncio.create_task(yard.collector.collect())
            await asyncio.sleep(0.1 + moment * 0.1)
            if moment % 2:
                await yard.registry.kill()
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)

    async with asyncio.TaskGroup() as group:
        for worker in range(3):
            group.create_task(push_often(worker))
        group.create_task(collect_and_kill())
    await yard.collector.collect()
    assert len(ready) == 6
    for number, image in enumerate(ready):
        pulled(image, tmp_path / str(number))
    assert (await yard.fence.space()).reclaimable_bytes == 0


async def insisted(yard: ArchiveYard, image: TinyImage, name: str) -> Image:
    """Again while it is refused with a reason to try again."""
    while True:
        try:
            return await yard.push(image, name)
        except YardError as error:
            if not error.retryable:
                raise


def pulled(image: Image, folder: Path) -> None:
    """With a client that checks every digest."""
    assert image.pinned is not None
    command = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{image.pinned}"]
    subprocess.run([*command, f"dir:{folder}"], check=True, capture_output=True, timeout=60)


def padded(number: int) -> TinyImage:
    return busybox_image(labels={"number": str(number)}, random_layers=[SIZE], seed=number)
