"""Registry secrets on a real store and broker: for whom they open, and that they never show."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any
from uuid import UUID

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    InvalidReference,
    KeyReused,
    Misconfigured,
    NotFound,
    YardError,
)
from pipeline.ports import Credentials
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets.service import Secrets
from schemas.registries.secret import Secret, SecretSummary
from tests.support.access import Clock
from tests.support.events import stored_events
from tests.support.secrets import ADA, EVE, HIDDEN, HOST, keep, settings


async def test_a_secret_opens_for_its_own_server(secrets: Secrets) -> None:
    kept = await keep(secrets)
    for wanted in (kept.uuid, "mine"):
        assert await secrets.credentials_for("acme", wanted, HOST) == Credentials(
            HOST, "ada", HIDDEN
        )


@pytest.mark.parametrize("host", ["registry.test", "registry.test:5001", "evil.test:5000"])
async def test_credentials_go_to_no_other_host(secrets: Secrets, host: str) -> None:
    assert await secrets.credentials_for("acme", (await keep(secrets)).uuid, host) is None


async def test_all_names_of_docker_hub_are_one_server(secrets: Secrets) -> None:
    data = {"username": "ada", "token": HIDDEN}
    kept = await secrets.create(ADA, name="hub", secret_type="docker_hub", data=data)
    assert kept.server == "registry-1.docker.io"
    for host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        credentials = await secrets.credentials_for("acme", "hub", host)
        assert credentials is not None
        assert credentials.password == HIDDEN


async def test_a_host_that_is_none_is_refused(secrets: Secrets) -> None:
    kept = await keep(secrets)
    with pytest.raises(InvalidReference):
        await secrets.credentials_for("acme", kept.uuid, "http:///x")


async def test_what_is_shown_of_a_secret_has_no_value(secrets: Secrets) -> None:
    kept = await keep(secrets)
    assert set(kept.model_dump()) == {
        "uuid",
        "name",
        "secret_type",
        "server",
        "org",
        "reference_count",
        "login",
        "created_at",
        "updated_at",
    }
    assert await secrets.get(ADA, kept.uuid) == kept
    assert await secrets.list(ADA) == [kept]


@pytest.mark.parametrize("spell", [str.upper, lambda id: "{" + id + "}", lambda id: UUID(id).hex])
async def test_every_spelling_of_the_uuid_finds_it(secrets: Secrets, spell: Any) -> None:
    kept = await keep(secrets)
    assert (await secrets.get(ADA, spell(kept.uuid))).uuid == kept.uuid


async def test_another_organisation_knows_nothing_of_it(secrets: Secrets) -> None:
    kept = await keep(secrets)
    assert await secrets.list(EVE) == []
    for wanted in (kept.uuid, kept.name):
        for attempt in (
            secrets.get(EVE, wanted),
            secrets.delete(EVE, wanted),
            secrets.credentials_for("other", wanted, HOST),
        ):
            with pytest.raises(NotFound):
                await attempt
    assert (await keep(secrets, EVE)).uuid != kept.uuid


async def test_a_name_lives_once_in_an_organisation_and_is_free_after_deletion(
    secrets: Secrets,
) -> None:
    kept = await keep(secrets)
    with pytest.raises(AlreadyExists, match="There is a secret mine already"):
        await keep(secrets)
    await secrets.delete(ADA, kept.uuid)
    assert (await keep(secrets)).uuid != kept.uuid


async def test_of_two_that_race_for_a_name_one_wins(secrets: Secrets) -> None:
    made = await asyncio.gather(*(keep(secrets) for _ in range(6)), return_exceptions=True)
    assert [type(each) for each in made].count(SecretSummary) == 1
    assert [type(each) for each in made].count(AlreadyExists) == 5


async def test_a_repeat_with_the_same_key_keeps_one_secret(secrets: Secrets) -> None:
    async def create(key: str = "k", **changed: Any) -> SecretSummary:
        data = {"server": HOST, "username": "ada", "password": HIDDEN}
        wanted = {"name": "mine", "secret_type": "registry", "data": data}
        return await secrets.create(ADA, **(wanted | changed), key=key)

    made = await asyncio.gather(*(create() for _ in range(5)))
    assert {each.uuid for each in made} == {made[0].uuid}
    assert sorted(each.replayed for each in made) == [False, True, True, True, True]
    assert "replayed" not in made[0].model_dump_json()
    assert len(await secrets.list(ADA)) == 1
    other = {"server": HOST, "username": "ada", "password": "another"}
    for changed in ({"name": "x"}, {"data": other}):
        with pytest.raises(KeyReused):
            await create(**changed)
    with pytest.raises(AlreadyExists):
        await create(key="other")
    await secrets.delete(ADA, "mine")
    with pytest.raises(Conflict):
        await create()


async def test_a_uuid_wins_over_a_name_that_looks_like_it(secrets: Secrets) -> None:
    kept = await keep(secrets)
    await keep(secrets, name=kept.uuid)
    assert (await secrets.get(ADA, kept.uuid)).name == "mine"


async def test_bad_input_is_told_by_field(secrets: Secrets) -> None:
    with pytest.raises(InvalidInput) as caught:
        await secrets.create(ADA, name="", secret_type="registry", data={"username": "ada"})
    assert caught.value.message == (
        "The secret cannot be kept: name must not be blank; data server is required;"
        " data password is required."
    )


async def test_without_an_encryption_key_nothing_is_kept(
    store: Store, outbox: Outbox, clock: Clock
) -> None:
    keyless = Secrets(Records(store, outbox, clock), settings(""))
    with pytest.raises(Misconfigured, match="MODELYARD_ENCRYPTION_KEYS"):
        await keep(keyless)
    assert await store.count(Secret, org="acme") == 0


async def test_a_ciphertext_copied_to_another_secret_does_not_open(
    store: Store, secrets: Secrets
) -> None:
    kept, stolen = await keep(secrets), await keep(secrets, EVE)
    sealed = (await store.get(Secret, kept.uuid, org="acme")).sealed
    await store.update(
        Secret, stolen.uuid, org="other", guard={}, update={"$set": {"sealed": sealed}}
    )
    with pytest.raises(Misconfigured, match="altered or moved"):
        await secrets.credentials_for("other", stolen.uuid, HOST)


async def test_creation_and_deletion_are_announced(bus: Bus, secrets: Secrets) -> None:
    kept = await keep(secrets)
    await secrets.delete(ADA, kept.uuid)
    subjects = [event.subject async for event in stored_events(bus, "acme")]
    assert subjects == [
        f"yard.evt.acme.secret.{kept.uuid}.created",
        f"yard.evt.acme.secret.{kept.uuid}.deleted",
    ]


async def test_the_value_shows_up_nowhere(
    store: Store, bus: Bus, secrets: Secrets, mongo_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    kept = await keep(secrets)
    with pytest.raises(AlreadyExists) as twice:
        await keep(secrets)
    credentials = await secrets.credentials_for("acme", kept.uuid, HOST)
    errors: list[YardError] = [twice.value]
    with pytest.raises(InvalidInput) as wrong:
        await keep(secrets, name="new", server="a/b", username="a:b")
    errors.append(wrong.value)
    await secrets.delete(ADA, kept.uuid)
    events = [event.data async for event in stored_events(bus, "acme")]
    stored = await store.find(Secret, org="acme")
    said = [caplog.text, repr(kept), repr(credentials), repr(stored), repr(events)]
    said += [f"{error!r} {error} {error.facts}" for error in errors]
    assert not re.search(HIDDEN, "\n".join(said))


async def test_the_database_holds_no_plain_value(
    secrets: Secrets, store: Store, mongo_url: str
) -> None:
    await keep(secrets)
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(mongo_url)
    try:
        for name in await client.list_database_names():
            if name.startswith("test-"):
                documents = await client[name]["secrets"].find().to_list(None)
                assert HIDDEN not in repr(documents)
    finally:
        client.close()
