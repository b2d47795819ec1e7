"""Exchanging the encryption key of stored secrets."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from pipeline.adapters.store.store import Store
from pipeline.errors import Misconfigured, StoreUnavailable
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets import service as secret_service
from pipeline.secrets.service import Secrets
from schemas.registries.secret import Secret
from tests.support.access import Clock
from tests.support.secrets import ADA, EVE, HIDDEN, HOST, NEW_KEY, OLD_KEY, keep, settings


@pytest.fixture
def both(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    """Seals with the new key and still opens with the old one."""
    return Secrets(Records(store, outbox, clock), settings(f"{NEW_KEY},{OLD_KEY}"))


@pytest.fixture
def only_new(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    return Secrets(Records(store, outbox, clock), settings(NEW_KEY))


async def opens(secrets: Secrets, org: str, uuid: str) -> bool:
    credentials = await secrets.credentials_for(org, uuid, HOST)
    return credentials is not None and credentials.password == HIDDEN


async def test_after_rotation_the_old_key_can_go(
    secrets: Secrets, both: Secrets, only_new: Secrets
) -> None:
    mine, theirs = await keep(secrets), await keep(secrets, EVE)
    with pytest.raises(Misconfigured, match="lacks the key 'k1'"):
        await opens(only_new, "acme", mine.uuid)
    assert await both.rotate_keys() == secret_service.Rotation(2, ())
    assert await opens(only_new, "acme", mine.uuid)
    assert await opens(only_new, "other", theirs.uuid)


async def test_a_rotation_goes_on_where_the_last_one_stopped(
    secrets: Secrets, both: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_service, "ROTATED_AT_ONCE", 2)
    for number in range(3):
        await keep(secrets, name=f"old-{number}")
    await keep(both, name="new")
    assert (await both.rotate_keys()).resealed == 3
    assert (await both.rotate_keys()).resealed == 0


async def test_a_rotation_that_was_cut_off_is_finished_by_the_next(
    store: Store, secrets: Secrets, both: Secrets, only_new: Secrets
) -> None:
    made = [await keep(secrets, name=f"old-{number}") for number in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        update, calls = store.update, itertools.count()

        async def update_until_the_store_goes(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == 2:
                raise StoreUnavailable("It went away.")
            return await update(*args, **kwargs)

        patch.setattr(store, "update", update_until_the_store_goes)
        with pytest.raises(StoreUnavailable):
            await both.rotate_keys()
    assert await both.rotate_keys() == secret_service.Rotation(4, ())
    assert all([await opens(only_new, "acme", each.uuid) for each in made])


async def test_secrets_are_made_used_and_deleted_while_the_key_is_rotated(
    secrets: Secrets, both: Secrets, only_new: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_service, "ROTATED_AT_ONCE", 2)
    old = [await keep(secrets, name=f"old-{number}") for number in range(10)]

    async def use(uuid: str) -> bool:
        async with both.held("acme", uuid):
            return await opens(both, "acme", uuid)

    done, *used = await asyncio.gather(
        both.rotate_keys(),
        *(use(each.uuid) for each in old[:5]),
        *(keep(both, name=f"new-{number}") for number in range(5)),
        *(both.delete(ADA, each.uuid) for each in old[5:]),
    )
    assert isinstance(done, secret_service.Rotation)
    assert used[:5] == [True] * 5
    assert done.unreadable == ()
    left = await both.list(ADA)
    assert len(left) == 10
    assert all([await opens(only_new, "acme", each.uuid) for each in left])


async def test_who_seals_with_the_old_key_after_a_rotation_needs_another_one(
    secrets: Secrets, both: Secrets, only_new: Secrets
) -> None:
    await both.rotate_keys()
    late = await keep(secrets)
    assert (await both.rotate_keys()).resealed == 1
    assert await opens(only_new, "acme", late.uuid)


async def test_without_a_key_there_is_nothing_to_rotate_to(
    store: Store, secrets: Secrets, outbox: Outbox, clock: Clock
) -> None:
    kept = await keep(secrets)
    with pytest.raises(Misconfigured, match="MODELYARD_ENCRYPTION_KEYS is empty"):
        await Secrets(Records(store, outbox, clock), settings("")).rotate_keys()
    assert await opens(secrets, "acme", kept.uuid)


async def test_rotations_side_by_side_spoil_nothing(
    secrets: Secrets, both: Secrets, only_new: Secrets
) -> None:
    made = [await keep(secrets, name=f"old-{number}") for number in range(5)]
    await asyncio.gather(*(both.rotate_keys() for _ in range(3)))
    for each in made:
        assert await opens(only_new, "acme", each.uuid)


async def test_rotation_is_no_change_that_anybody_sees(secrets: Secrets, both: Secrets) -> None:
    before = await keep(secrets)
    await both.rotate_keys()
    assert await both.get(ADA, before.uuid) == before


async def test_what_no_key_opens_is_reported_and_does_not_stop_the_rest(
    store: Store, secrets: Secrets, both: Secrets
) -> None:
    broken, sound = await keep(secrets, name="broken"), await keep(secrets, name="sound")
    spoil = {"$set": {"sealed": "v1.lost.AAAA"}}
    await store.update(Secret, broken.uuid, org="acme", guard={}, update=spoil)
    rotation = await both.rotate_keys()
    assert rotation.unreadable == (broken.uuid,)
    assert rotation.resealed == 1
    assert await opens(both, "acme", sound.uuid)


async def test_deleted_secrets_are_left_alone(secrets: Secrets, both: Secrets) -> None:
    kept = await keep(secrets)
    await secrets.delete(ADA, kept.uuid)
    assert await both.rotate_keys() == secret_service.Rotation(0, ())
