"""Deleting registry secrets on a real store while others are about to use them."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict, NotFound
from pipeline.records.messages import Outbox
from pipeline.secrets.service import Secrets
from schemas.image import Image
from schemas.registries.secret import Secret
from schemas.states import ImageStatus
from tests.support.access import Clock
from tests.support.records import image
from tests.support.secrets import ADA, HOST, keep


@pytest.mark.parametrize(
    ("status", "count"),
    [(ImageStatus.PENDING, 1), (ImageStatus.FAILED, 1), (ImageStatus.DELETED, 0)],
)
async def test_undeleted_images_count_as_references(
    store: Store, secrets: Secrets, status: ImageStatus, count: int
) -> None:
    kept = await keep(secrets)
    await store.insert(image(secret=kept.uuid, status=status))
    await store.insert(image(secret=None))
    await store.insert(image(secret=kept.uuid, org="other"))
    assert (await secrets.get(ADA, kept.uuid)).reference_count == count
    assert (await secrets.list(ADA))[0].reference_count == count


async def test_a_secret_in_use_stays(store: Store, secrets: Secrets) -> None:
    kept = await keep(secrets)
    used = await store.insert(image(secret=kept.uuid))
    with pytest.raises(Conflict, match=r"The secret mine is in use: .* \(image model\)"):
        await secrets.delete(ADA, kept.uuid)
    others = [await store.insert(image(secret=kept.uuid, name=f"m{n}")) for n in range(6)]
    # All were made within a millisecond or two: which five are the newest is not said.
    named = r"\((image (model|m\d), ){5}and others\)"
    with pytest.raises(Conflict, match=named) as refused:
        await secrets.delete(ADA, kept.uuid)
    assert refused.value.facts["reference_count"] == 7
    for user in (used, *others):
        await store.delete(type(user), user.uuid, org="acme")
    await secrets.delete(ADA, kept.uuid)


async def test_a_deleted_secret_is_gone_with_its_values(
    store: Store, secrets: Secrets, clock: Clock
) -> None:
    kept = await keep(secrets)
    await secrets.delete(ADA, "mine")
    for attempt in (
        secrets.get(ADA, kept.uuid),
        secrets.delete(ADA, kept.uuid),
        secrets.credentials_for("acme", kept.uuid, HOST),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await secrets.list(ADA) == []
    assert (await store.get(Secret, kept.uuid, org="acme")).sealed == ""


async def test_the_shell_of_a_deleted_secret_goes_when_its_event_is_out(
    store: Store, outbox: Outbox, secrets: Secrets, clock: Clock
) -> None:
    first, second = await keep(secrets), await keep(secrets, name="other")
    await secrets.delete(ADA, first.uuid)
    await outbox.close()
    clock.advance(3601)
    await secrets.delete(ADA, second.uuid)
    left = await store.find(Secret, org="acme")
    assert [secret.uuid for secret in left] == [second.uuid]


async def test_a_held_secret_is_not_deleted(secrets: Secrets) -> None:
    kept = await keep(secrets)
    async with secrets.held("acme", "mine") as secret:
        assert secret.uuid == kept.uuid
        with pytest.raises(Conflict):
            await secrets.delete(ADA, kept.uuid)
    await secrets.delete(ADA, kept.uuid)


async def test_a_hold_ends_also_when_the_work_under_it_fails(secrets: Secrets) -> None:
    kept = await keep(secrets)
    with pytest.raises(RuntimeError):
        async with secrets.held("acme", kept.uuid):
            raise RuntimeError
    await secrets.delete(ADA, kept.uuid)


async def test_a_deleted_secret_cannot_be_held(secrets: Secrets) -> None:
    kept = await keep(secrets)
    await secrets.delete(ADA, kept.uuid)
    with pytest.raises(NotFound):
        async with secrets.held("acme", kept.uuid):
            raise AssertionError


async def test_the_hold_of_a_dead_process_runs_out(secrets: Secrets, clock: Clock) -> None:
    kept = await keep(secrets)
    async with secrets.held("acme", kept.uuid):
        clock.advance(31)
        await secrets.delete(ADA, kept.uuid)


async def test_a_reference_made_while_the_deletion_counts_is_not_overlooked(
    store: Store, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await keep(secrets)
    find = store.find
    raced = False

    async def find_and_be_overtaken(*args: object, **kwargs: object) -> list[Image]:
        nonlocal raced
        found = await find(*args, **kwargs)  # type: ignore[arg-type]
        if not raced:
            raced = True
            async with secrets.held("acme", kept.uuid):
                await store.insert(image(secret=kept.uuid))
        return found  # type: ignore[return-value]

    monkeypatch.setattr(store, "find", find_and_be_overtaken)
    with pytest.raises(Conflict):
        await secrets.delete(ADA, kept.uuid)
    assert (await secrets.get(ADA, kept.uuid)).reference_count == 1


async def test_no_race_leaves_an_image_without_its_secret(store: Store, secrets: Secrets) -> None:
    async def refer(uuid: str) -> Image | None:
        try:
            async with secrets.held("acme", uuid) as secret:
                return await store.insert(image(secret=secret.uuid))
        except NotFound:
            return None

    for turn in range(20):
        kept = await keep(secrets, name=f"secret-{turn}")
        deletion = secrets.delete(ADA, kept.uuid)
        made, deleted = await asyncio.gather(refer(kept.uuid), deletion, return_exceptions=True)
        assert isinstance(made, Image) is isinstance(deleted, Conflict)
        assert made is None or isinstance(made, Image)


async def test_only_one_of_two_deletions_finds_it(secrets: Secrets) -> None:
    kept = await keep(secrets)
    outcomes = await asyncio.gather(
        *(secrets.delete(ADA, kept.uuid) for _ in range(4)), return_exceptions=True
    )
    assert [type(each) for each in outcomes].count(NotFound) == 3
