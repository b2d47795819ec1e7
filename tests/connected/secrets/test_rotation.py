"""Exchanging the encryption key of stored secrets."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from pipeline.adapters.store.store import Store
from pipeline.bootstrap.control_plane import SEALED
from pipeline.errors import Misconfigured, StoreUnavailable
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets import rotation as rotating
from pipeline.secrets.rotation import KeyRotation, Rotation
from pipeline.secrets.service import Secrets
from pipeline.secrets.vault import Vault
from schemas.registries.secret import Secret
from schemas.webhook import SigningSecret, Webhook
from tests.support.access import Clock
from tests.support.records import AT
from tests.support.secrets import ADA, EVE, HIDDEN, HOST, NEW_KEY, OLD_KEY, keep, settings


@pytest.fixture
def both(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    """Seals with the new key and still opens with the old one."""
    return Secrets(Records(store, outbox, clock), settings(f"{NEW_KEY},{OLD_KEY}"))


@pytest.fixture
def rotation(store: Store) -> KeyRotation:
    """With the same keys."""
    return KeyRotation(store, Vault.from_setting(f"{NEW_KEY},{OLD_KEY}"), SEALED)


@pytest.fixture
def only_new(store: Store, outbox: Outbox, clock: Clock) -> Secrets:
    return Secrets(Records(store, outbox, clock), settings(NEW_KEY))


async def opens(secrets: Secrets, org: str, uuid: str) -> bool:
    credentials = await secrets.credentials_for(org, uuid, HOST)
    return credentials is not None and credentials.password == HIDDEN


async def test_after_rotation_the_old_key_can_go(
    secrets: Secrets, only_new: Secrets, rotation: KeyRotation
) -> None:
    mine, theirs = await keep(secrets), await keep(secrets, EVE)
    with pytest.raises(Misconfigured, match="lacks the key 'k1'"):
        await opens(only_new, "acme", mine.uuid)
    assert await rotation.run() == Rotation(2, ())
    assert await opens(only_new, "acme", mine.uuid)
    assert await opens(only_new, "other", theirs.uuid)


async def test_what_signs_for_webhooks_is_sealed_anew_also_what_signs_no_more_soon(
    store: Store, rotation: KeyRotation
) -> None:
    webhook = Webhook(
        **{"uuid": "7f4dcb26-9c2f-4a51-a25f-7ce02e5b5a64", "org": "acme"},
        **dict.fromkeys(("created_at", "updated_at"), AT),
        **{"name": "ci", "url": "https://hooks.test/", "resources": [], "kinds": [], "after": 0},
    )
    old, new = Vault.from_setting(OLD_KEY), Vault.from_setting(NEW_KEY)
    for plain, until in (("newer", None), ("older", AT)):
        sealed = old.seal(plain, org=webhook.org, record=webhook.uuid)
        webhook.secrets.append(SigningSecret(sealed=sealed, until=until))
    await store.insert(webhook)
    assert await rotation.run() == Rotation(1, ())
    found = await store.get(Webhook, webhook.uuid, org=webhook.org)
    opened = [new.open(each.sealed, org=webhook.org, record=webhook.uuid) for each in found.secrets]
    assert opened == ["newer", "older"]
    assert [each.until for each in found.secrets] == [None, AT]


async def test_what_is_changed_while_it_is_sealed_anew_is_read_again(
    store: Store, secrets: Secrets, only_new: Secrets, rotation: KeyRotation
) -> None:
    kept = await keep(secrets)
    old = Vault.from_setting(OLD_KEY)
    update, calls = store.update, itertools.count()

    async def change_before(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:
            plain = old.open(kwargs["guard"]["sealed"], org="acme", record=kept.uuid)
            again = {"$set": {"sealed": old.seal(plain, org="acme", record=kept.uuid)}}
            await update(Secret, kept.uuid, org="acme", guard={}, update=again)
        return await update(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "update", change_before)
        assert await rotation.run() == Rotation(1, ())
    assert await opens(only_new, "acme", kept.uuid)


async def test_a_rotation_goes_on_where_the_last_one_stopped(
    secrets: Secrets, both: Secrets, monkeypatch: pytest.MonkeyPatch, rotation: KeyRotation
) -> None:
    monkeypatch.setattr(rotating, "AT_ONCE", 2)
    for number in range(3):
        await keep(secrets, name=f"old-{number}")
    await keep(both, name="new")
    assert (await rotation.run()).resealed == 3
    assert (await rotation.run()).resealed == 0


async def test_a_rotation_that_was_cut_off_is_finished_by_the_next(
    store: Store, secrets: Secrets, only_new: Secrets, rotation: KeyRotation
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
            await rotation.run()
    assert await rotation.run() == Rotation(4, ())
    assert all([await opens(only_new, "acme", each.uuid) for each in made])


async def test_secrets_are_made_used_and_deleted_while_the_key_is_rotated(
    secrets: Secrets,
    both: Secrets,
    only_new: Secrets,
    monkeypatch: pytest.MonkeyPatch,
    rotation: KeyRotation,
) -> None:
    monkeypatch.setattr(rotating, "AT_ONCE", 2)
    old = [await keep(secrets, name=f"old-{number}") for number in range(10)]

    async def use(uuid: str) -> bool:
        async with both.held("acme", uuid):
            return await opens(both, "acme", uuid)

    done, *used = await asyncio.gather(
        rotation.run(),
        *(use(each.uuid) for each in old[:5]),
        *(keep(both, name=f"new-{number}") for number in range(5)),
        *(both.delete(ADA, each.uuid) for each in old[5:]),
    )
    assert isinstance(done, Rotation)
    assert used[:5] == [True] * 5
    assert done.unreadable == ()
    left = await both.list(ADA)
    assert len(left) == 10
    assert all([await opens(only_new, "acme", each.uuid) for each in left])


async def test_who_seals_with_the_old_key_after_a_rotation_needs_another_one(
    secrets: Secrets, only_new: Secrets, rotation: KeyRotation
) -> None:
    await rotation.run()
    late = await keep(secrets)
    assert (await rotation.run()).resealed == 1
    assert await opens(only_new, "acme", late.uuid)


async def test_without_a_key_there_is_nothing_to_rotate_to(
    store: Store, secrets: Secrets, outbox: Outbox, clock: Clock
) -> None:
    kept = await keep(secrets)
    with pytest.raises(Misconfigured, match="MODELYARD_ENCRYPTION_KEYS is empty"):
        await KeyRotation(store, Vault.from_setting(""), SEALED).run()
    assert await opens(secrets, "acme", kept.uuid)


async def test_rotations_side_by_side_spoil_nothing(
    secrets: Secrets, only_new: Secrets, rotation: KeyRotation
) -> None:
    made = [await keep(secrets, name=f"old-{number}") for number in range(5)]
    await asyncio.gather(*(rotation.run() for _ in range(3)))
    for each in made:
        assert await opens(only_new, "acme", each.uuid)


async def test_rotation_is_no_change_that_anybody_sees(
    secrets: Secrets, both: Secrets, rotation: KeyRotation
) -> None:
    before = await keep(secrets)
    await rotation.run()
    assert await both.get(ADA, before.uuid) == before


async def test_what_no_key_opens_is_reported_and_does_not_stop_the_rest(
    store: Store, secrets: Secrets, both: Secrets, rotation: KeyRotation
) -> None:
    broken, sound = await keep(secrets, name="broken"), await keep(secrets, name="sound")
    spoil = {"$set": {"sealed": "v1.lost.AAAA"}}
    await store.update(Secret, broken.uuid, org="acme", guard={}, update=spoil)
    assert await rotation.run() == Rotation(1, (broken.uuid,))
    assert await opens(both, "acme", sound.uuid)


async def test_deleted_secrets_are_left_alone(secrets: Secrets, rotation: KeyRotation) -> None:
    kept = await keep(secrets)
    await secrets.delete(ADA, kept.uuid)
    assert await rotation.run() == Rotation(0, ())
