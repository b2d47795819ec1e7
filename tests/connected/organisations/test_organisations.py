"""Organisations on a real store: who sees and changes them, and what an earlier version left."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.access import roles
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import AlreadyExists, Conflict, KeyReused, NotFound, PermissionDenied
from pipeline.organisations.service import HELD, Organisations, organisation_id
from pipeline.records.closing import LONGEST
from pipeline.records.messages import event
from schemas.access import Principal, Role
from schemas.image import Image
from schemas.organisation import Organisation, OrganisationEdit, OrganisationSpec, Quotas
from schemas.states import OrganisationStatus
from tests.support.access import HOME, OTHER, Clock, records
from tests.support.records import image

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def caller(org: str, role: Role = Role.ADMIN) -> Principal:
    held = roles.permissions([role], own=org == HOME)
    return Principal(id="user:1", org=org, name="a", roles=frozenset({role}), permissions=held)


PLATFORM = caller(HOME)


@pytest.fixture
def prepared() -> list[str]:
    """Organisations that were given what they need on the broker."""
    return []


@pytest.fixture
def organisations(store: Store, prepared: list[str]) -> Organisations:
    async def prepare(org: str) -> None:
        prepared.append(org)

    return Organisations(records(store, Clock()), home=HOME, prepare=prepare)


async def test_the_own_organisation_of_the_installation_has_always_the_same_uuid(
    organisations: Organisations, prepared: list[str]
) -> None:
    assert await organisations.ensure() == [HOME]
    assert await organisations.ensure() == [HOME]
    assert prepared == [HOME, HOME]
    known = await organisations.uuid_of(HOME)
    assert known == organisation_id(HOME) == str(uuid.UUID(known))
    assert await organisations.slug_of(known) == HOME
    with pytest.raises(NotFound):
        await organisations.uuid_of("nobody")


async def test_platform_administrators_make_organisations_and_others_do_not(
    organisations: Organisations, prepared: list[str]
) -> None:
    spec = OrganisationSpec(slug="team", quotas=Quotas(gpus=8))
    made = await organisations.create(PLATFORM, spec, key="k")
    assert (made.slug, made.name, made.quotas.gpus, made.revision) == ("team", "team", 8, 1)
    assert prepared == ["team"]
    again = await organisations.create(PLATFORM, spec, key="k")
    assert (again.uuid, again.replayed) == (made.uuid, True)
    with pytest.raises(KeyReused):
        await organisations.create(PLATFORM, OrganisationSpec(slug="teams"), key="k")
    with pytest.raises(AlreadyExists, match="team"):
        await organisations.create(PLATFORM, spec)
    for nobody in (caller(OTHER), caller(HOME, Role.MEMBER)):
        with pytest.raises(PermissionDenied):
            await organisations.create(nobody, OrganisationSpec(slug="more"))


async def test_the_own_organisation_is_seen_and_those_of_others_are_unknown(
    organisations: Organisations,
) -> None:
    await organisations.ensure()
    team = await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    other = await organisations.create(PLATFORM, OrganisationSpec(slug=OTHER))
    stranger = caller(OTHER)
    assert await organisations.find(stranger, OTHER) == other
    assert [each.slug for each in (await organisations.list(stranger)).items] == [OTHER]
    assert len((await organisations.list(PLATFORM)).items) == 3
    for name in (team.uuid, "team", HOME, "nobody", str(uuid.uuid4())):
        with pytest.raises(NotFound):
            await organisations.find(stranger, name)
    for wanted in (OTHER, team.uuid):
        with pytest.raises(PermissionDenied):
            await organisations.edit(stranger, wanted, OrganisationEdit(name="mine"))
        with pytest.raises(PermissionDenied):
            await organisations.delete(stranger, wanted)
    assert await organisations.find(PLATFORM, team.uuid.upper()) == team


async def test_an_edit_changes_what_it_names(organisations: Organisations) -> None:
    made = await organisations.create(
        PLATFORM, OrganisationSpec(slug="team", quotas=Quotas(gpus=8, containers=2))
    )
    named = await organisations.edit(PLATFORM, "team", OrganisationEdit(name="The Team"))
    assert (named.name, named.quotas) == ("The Team", made.quotas)
    lifted = await organisations.edit(PLATFORM, made.uuid, OrganisationEdit(quotas=Quotas(gpus=4)))
    assert (lifted.name, lifted.quotas) == ("The Team", Quotas(gpus=4))
    same = await organisations.edit(PLATFORM, "team", OrganisationEdit(quotas=Quotas(gpus=4)))
    assert same.revision == lifted.revision


async def test_a_deleted_organisation_is_gone_and_its_slug_is_nobody_elses(
    store: Store, organisations: Organisations
) -> None:
    await organisations.ensure()
    team = await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    gone = await organisations.delete(PLATFORM, "team")
    assert gone.status is OrganisationStatus.DELETED
    assert await organisations.delete(PLATFORM, team.uuid) == gone
    with pytest.raises(NotFound):
        await organisations.find(PLATFORM, "team")
    with pytest.raises(AlreadyExists):
        await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    await insert_raw(store, "tokens", "team", expires_at=AT)
    assert await organisations.ensure() == [HOME]
    with pytest.raises(Conflict, match="belongs to this"):
        await organisations.delete(PLATFORM, HOME)


@pytest.mark.parametrize(
    ("collection", "fields", "word"),
    [
        ("images", {"status": "READY"}, "2 images"),
        ("containers", {"status": "STOPPED"}, "2 containers"),
        ("deployments", {"status": "SCALED_DOWN"}, "2 deployments"),
        ("uploads", {"status": "RECEIVING"}, "2 uploads"),
        ("secrets", {"deleted_at": None}, "2 secrets"),
        ("registries", {"deleted": False}, "2 registries"),
    ],
)
async def test_an_organisation_that_holds_something_living_stays(
    store: Store, organisations: Organisations, collection: str, fields: Any, word: str
) -> None:
    await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    for number in range(2):
        await insert_raw(store, collection, "team", name=str(number), id=str(number), **fields)
    await insert_raw(store, "containers", "elsewhere", name="a", status="RUNNING")
    with pytest.raises(Conflict, match=word):
        await organisations.delete(PLATFORM, "team")


async def test_what_is_made_while_an_organisation_is_deleted_is_either_counted_or_not_made(
    store: Store, organisations: Organisations, monkeypatch: pytest.MonkeyPatch
) -> None:
    await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    kept, count = records(store, Clock()), store.count
    refused: list[str] = []

    async def made_right_after(kind: Any, **options: Any) -> int:
        counted = await count(kind, **options)
        try:
            await kept.insert(image(org="team"), [event("created")])
        except Conflict as error:
            refused.append(error.message)
        return counted

    monkeypatch.setattr(store, "count", made_right_after)
    await organisations.delete(PLATFORM, "team")
    assert set(refused) == {"The organisation team is being deleted: look whether it is, first."}
    with pytest.raises(Conflict, match="was deleted"):
        await kept.insert(image(org="team"), [event("created")])
    assert await count(Image, org="team") == 0


async def test_what_was_made_before_it_was_counted_stays_and_so_does_its_organisation(
    store: Store, organisations: Organisations
) -> None:
    kept = records(store, Clock())
    await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    await kept.insert(image(org="team"), [])
    with pytest.raises(Conflict, match="1 image"):
        await organisations.delete(PLATFORM, "team")
    await kept.insert(image(org="team"), [])
    assert await store.count(Image, org="team") == 2


async def test_a_deletion_that_died_halfway_closes_nothing_for_long(
    store: Store, organisations: Organisations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if it only slept, it deletes nothing any more that it did not count."""
    team = await organisations.create(PLATFORM, OrganisationSpec(slug="team"))
    clock = Clock()
    kept = records(store, clock)
    count = store.count
    looks = 0

    async def slept(kind: Any, **options: Any) -> int:
        nonlocal looks
        counted = await count(kind, **options)
        if looks == len(HELD) - 1:
            clock.advance(LONGEST.total_seconds())
            await kept.insert(image(org="team"), [])
        looks += 1
        return counted

    monkeypatch.setattr(store, "count", slept)
    with pytest.raises(Conflict, match="1 image"):
        await organisations.delete(PLATFORM, team.uuid)
    assert (await organisations.find(PLATFORM, "team")).closing is None


async def insert_raw(store: Store, collection: str, org: str, **fields: Any) -> None:
    document = {"_id": str(uuid.uuid4()), "org": org, "revision": 1, "outbox": []}
    await store.beside(collection).insert_one(document | {"created_at": AT} | fields)


async def test_every_organisation_of_an_earlier_version_gets_a_record(
    store: Store, organisations: Organisations, mongo_url: str
) -> None:
    """As revision d970ea3 left it: whoever has a record is an organisation."""
    user = {"name": "ada", "password_hash": "h", "role": "admin", "active": True}
    await insert_raw(store, "users", "Acme_1", **user)
    await insert_raw(store, "images", "by-queue", name="a", status="READY")
    await insert_raw(store, "users", HOME, **user)
    found = await asyncio.gather(*(organisations.ensure() for _ in range(4)))
    assert found == [["Acme_1", "by-queue", HOME]] * 4
    made = await store.find(Organisation, org=EVERY_ORG)
    assert {each.slug: each.uuid for each in made} == {
        slug: organisation_id(slug) for slug in ("Acme_1", "by-queue", HOME)
    }
    assert {each.revision for each in made} == {1}
    assert await store.beside("users").count_documents({"name": "ada"}) == 2


async def test_a_migration_that_was_cut_short_goes_on(
    store: Store, organisations: Organisations
) -> None:
    for org in ("a", "b", "c"):
        await insert_raw(store, "images", org, name="a", status="READY")
    await organisations._found("b")
    assert await organisations.ensure() == ["a", "b", "c", HOME]
    assert await store.count(Organisation, org=EVERY_ORG) == 4
