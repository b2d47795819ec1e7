"""Exchanging the encryption key of stored secrets."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.adapters.store import Store
from pipeline.core import secret_rotation
from pipeline.core.outbox import Outbox
from pipeline.core.secrets import Secrets
from pipeline.errors import Misconfigured
from schemas.secret import Secret
from tests.support.access import Clock
from tests.support.secrets import ADA, EVE, HIDDEN, HOST, NEW_KEY, OLD_KEY, keep, settings


@pytest.fixture
def both(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    """Seals with the new key and still opens with the old one."""
    return Secrets(store, outbox, settings(f"{NEW_KEY},{OLD_KEY}"), clock)


@pytest.fixture
def only_new(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    return Secrets(store, outbox, settings(NEW_KEY), clock)


async def opens(secrets: Secrets, org: str, uuid: str) -> bool:
    credentials = await secrets.credentials_for(org, uuid, HOST)
    return credentials is not None and credentials.password == HIDDEN


async def test_after_rotation_the_old_key_can_go(
    secrets: Secrets, both: Secrets, only_new: Secrets
) -> None:
    mine, theirs = await keep(secrets), await keep(secrets, EVE)
    with pytest.raises(Misconfigured, match="lacks the key 'k1'"):
        await opens(only_new, "acme", mine.uuid)
    assert await both.rotate_keys() == secret_rotation.Rotation(2, ())
    assert await opens(only_new, "acme", mine.uuid)
    assert await opens(only_new, "other", theirs.uuid)


async def test_a_rotation_goes_on_where_the_last_one_stopped(
    secrets: Secrets, both: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_rotation, "BATCH", 2)
    for number in range(3):
        await keep(secrets, name=f"old-{number}")
    await keep(both, name="new")
    assert (await both.rotate_keys()).resealed == 3
    assert (await both.rotate_keys()).resealed == 0


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
    assert await both.rotate_keys() == secret_rotation.Rotation(0, ())
