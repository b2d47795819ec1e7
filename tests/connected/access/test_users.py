"""Users of organisations on a real store."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import SecretStr

from pipeline.access.passwords import Passwords
from pipeline.access.service import Access
from pipeline.adapters.store.store import Store
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    KeyReused,
    Misconfigured,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from schemas.access import Principal, Role, Token, User, UserEdit
from schemas.message import Message
from schemas.organisation import Organisation, Quotas
from schemas.states import OrganisationStatus
from tests.support.access import (
    CHEAP,
    HOME,
    OTHER,
    PASSWORD,
    Clock,
    login,
    principal,
    records,
    refused,
    settings,
)
from tests.support.tenants import Tenant

DISABLED = UserEdit(active=False)


async def test_the_first_administrator_is_made_once(store: Store, access: Access) -> None:
    again = await access.bootstrap()
    users = await store.find(User, org=HOME)
    assert [user.uuid for user in users] == [again.uuid]
    assert (again.name, again.role, again.org) == ("admin", Role.ADMIN, HOME)


async def test_processes_that_start_together_make_one_administrator(
    store: Store, clock: Clock
) -> None:
    made = await asyncio.gather(
        *(Access(records(store, clock), settings(), CHEAP).bootstrap() for _ in range(5))
    )
    assert len({user.uuid for user in made}) == 1
    assert await store.count(User, org=HOME) == 1


async def test_there_is_no_default_password(store: Store, clock: Clock) -> None:
    nothing_set = Access(records(store, clock), settings(admin_password=SecretStr("")), CHEAP)
    with pytest.raises(Misconfigured, match="MODELYARD_ADMIN_PASSWORD"):
        await nothing_set.bootstrap()
    assert await store.count(User, org=HOME) == 0
    with pytest.raises(Misconfigured, match="8 to 1024 characters"):
        await Access(
            records(store, clock), settings(admin_password=SecretStr("short")), CHEAP
        ).bootstrap()


async def test_an_installation_that_has_an_administrator_needs_no_password(
    store: Store, access: Access, clock: Clock
) -> None:
    without = settings(admin_password=SecretStr(""), admin_user="somebody-else")
    assert (await Access(records(store, clock), without, CHEAP).bootstrap()).name == "admin"


async def test_a_missing_signing_key_is_said_at_the_start(store: Store, clock: Clock) -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_SIGNING_KEY"):
        await Access(records(store, clock), settings(signing_key=SecretStr("")), CHEAP).bootstrap()


async def test_a_password_is_hashed_anew_when_the_parameters_have_changed(
    store: Store, access: Access, clock: Clock
) -> None:
    stronger = Passwords(time_cost=2, memory_kib=64, parallelism=1)
    newer = Access(records(store, clock), settings(), stronger)
    user = (await login(newer)).user
    stored = await store.get(User, user.uuid, org=HOME)
    assert "t=2" in stored.password_hash
    assert (await login(newer)).user.revision == stored.revision


async def test_another_organisation_neither_sees_nor_disables_a_user(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    user = await Tenant(access, admin.org).user()
    assert [each.org for each in (await access.users.list(stranger)).items] == [OTHER]
    with pytest.raises(NotFound):
        await access.users.edit(stranger, user.uuid, DISABLED)


async def test_the_same_name_may_live_in_two_organisations(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    mine, theirs = await Tenant(access, admin.org).user(), await Tenant(access, stranger.org).user()
    assert mine.uuid != theirs.uuid
    with pytest.raises(AlreadyExists, match="the-member"):
        await Tenant(access, admin.org).user()


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
async def test_only_administrators_handle_tokens_and_users(
    access: Access, admin: Principal, role: Role
) -> None:
    user = await Tenant(access, admin.org).user(role)
    caller = await principal(access, await login(access, user.name))
    for call in (
        access.tokens.issue(caller, name="ci", role=Role.VIEWER),
        access.tokens.list(caller),
        access.tokens.revoke(caller, "any"),
        access.users.create(caller, "new", PASSWORD, Role.VIEWER),
        access.users.list(caller),
        access.users.edit(caller, "any", DISABLED),
        access.users.edit(caller, "any", UserEdit(active=True)),
    ):
        with pytest.raises(PermissionDenied):
            await call


async def test_a_disabled_user_is_out_with_everything_he_holds(
    access: Access, admin: Principal, clock: Clock
) -> None:
    second = await Tenant(access, admin.org).user(Role.ADMIN)
    session = await login(access, second.name)
    caller = await principal(access, session)
    key = await access.tokens.issue(caller, name="ci", role=Role.MEMBER)
    signed = await access.tokens.issue(caller, name="ci", role=Role.MEMBER, kind="jwt")
    through_key = await access.tokens.issue(
        await access.authenticate(
            f"ApiKey {(await access.tokens.issue(caller, name='root', role=Role.ADMIN)).text}"
        ),
        name="child",
        role=Role.MEMBER,
    )
    node = await access.tokens.issue(caller, name="gpu-1", role=Role.NODE)
    await access.users.edit(admin, second.uuid, DISABLED)
    for text in (session.access, key.text, signed.text, through_key.text):
        assert await refused(access, f"Bearer {text}") == "user_inactive"
    for attempt in (access.sessions.refresh(session.refresh), login(access, second.name)):
        with pytest.raises(Unauthenticated) as caught:
            await attempt
        assert caught.value.facts["reason"] == "user_inactive"
    await access.authenticate(f"ApiKey {node.text}")
    await access.users.edit(admin, second.uuid, UserEdit(active=True))
    await access.authenticate(f"Bearer {key.text}")


@pytest.mark.parametrize("change", ["role", "password"])
async def test_another_role_or_password_ends_everything_that_was_handed_out_before(
    access: Access, admin: Principal, change: str
) -> None:
    second = await Tenant(access, admin.org).user(Role.ADMIN)
    session = await login(access, second.name)
    caller = await principal(access, session)
    key = await access.tokens.issue(caller, name="ci", role=Role.MEMBER)
    signed = await access.tokens.issue(caller, name="ci", role=Role.MEMBER, kind="jwt")
    if change == "role":
        edited = await access.users.edit(admin, second.name, UserEdit(role=Role.MEMBER))
    else:
        edited = await access.users.edit(admin, second.uuid, UserEdit(), password="another one")
    for text in (session.access, key.text, signed.text):
        assert await refused(access, f"Bearer {text}") == "revoked"
    with pytest.raises(Unauthenticated):
        await access.sessions.refresh(session.refresh)
    late = await access.tokens.issue(caller, name="late", role=Role.MEMBER)
    assert await refused(access, f"Bearer {late.text}") == "revoked"
    word = "another one" if change == "password" else PASSWORD
    again = await access.sessions.login(second.name, word, address="127.0.0.1")
    assert (await principal(access, again)).roles == {edited.role}
    later = await access.sessions.refresh(again.refresh)
    assert (await principal(access, later)).user == f"{second.uuid}.1"


async def test_users_of_other_organisations_are_kept_by_the_platform_and_unknown_to_others(
    store: Store, access: Access, admin: Principal, stranger: Principal, clock: Clock
) -> None:
    with pytest.raises(NotFound, match=OTHER):
        await access.users.create(admin, "eve", PASSWORD, Role.MEMBER, org=OTHER)
    organisation = Organisation(
        **records(store, clock).initial(HOME), slug=OTHER, name="Other", quotas=Quotas()
    )
    await store.insert(organisation)
    eve = await access.users.create(admin, "eve", PASSWORD, Role.MEMBER, org=organisation.uuid)
    assert eve.org == OTHER
    assert (await login(access, f"eve@{organisation.uuid}")).user.uuid == eve.uuid
    assert (await login(access, "eve", OTHER)).user.uuid == eve.uuid
    assert await access.users.find(admin, eve.uuid) == eve
    assert await access.users.find(admin, "eve", org=OTHER) == eve
    assert len((await access.users.list(admin, org=OTHER)).items) == 2
    mine = await Tenant(access, admin.org).user()
    for call in (
        access.users.find(stranger, mine.uuid),
        access.users.find(stranger, mine.name),
        access.users.find(stranger, mine.uuid, org=HOME),
        access.users.list(stranger, org=HOME),
        access.users.create(stranger, "a", PASSWORD, Role.VIEWER, org=HOME),
        access.users.edit(stranger, mine.uuid, DISABLED),
        access.users.find(admin, "nobody"),
        access.users.list(admin, org="nowhere"),
    ):
        with pytest.raises(NotFound):
            await call
    await access.users.edit(admin, eve.uuid, DISABLED)
    with pytest.raises(Unauthenticated):
        await login(access, "eve", OTHER)


async def test_nothing_opens_a_deleted_organisation(
    store: Store, access: Access, stranger: Principal, clock: Clock
) -> None:
    key = await access.tokens.issue(stranger, name="ci", role=Role.MEMBER)
    organisation = Organisation(
        **records(store, clock).initial(HOME),
        slug=OTHER,
        name="Other",
        status=OrganisationStatus.DELETED,
    )
    await store.insert(organisation)
    clock.advance(6)
    assert await refused(access, f"Bearer {key.text}") == "revoked"
    with pytest.raises(Unauthenticated):
        await login(access, org=OTHER)


async def test_a_user_is_created_once_per_key(access: Access, admin: Principal) -> None:
    first = await access.users.create(admin, "bob", PASSWORD, Role.MEMBER, key="k")
    again = await access.users.create(admin, "bob", PASSWORD, Role.MEMBER, key="k")
    assert (again.uuid, again.replayed) == (first.uuid, True)
    with pytest.raises(KeyReused):
        await access.users.create(admin, "bob", PASSWORD, Role.ADMIN, key="k")


async def test_a_wrong_password_of_a_disabled_user_says_only_that(
    access: Access, admin: Principal
) -> None:
    user = await Tenant(access, admin.org).user()
    await access.users.edit(admin, user.uuid, DISABLED)
    with pytest.raises(Unauthenticated) as caught:
        await access.sessions.login(user.name, "wrong password", address="127.0.0.1")
    assert caught.value.facts["reason"] == "credentials"


async def test_nobody_locks_himself_out(access: Access, admin: Principal) -> None:
    own = admin.id.partition(":")[2]
    for edit in (DISABLED, UserEdit(role=Role.VIEWER)):
        with pytest.raises(Conflict, match="yourself"):
            await access.users.edit(admin, own, edit)
    assert (await access.users.edit(admin, own, UserEdit(role=Role.ADMIN))).revision == 1


async def test_a_user_who_is_gone_refreshes_nothing(store: Store, access: Access) -> None:
    session = await login(access)
    await store.delete(User, session.user.uuid, org=HOME)
    with pytest.raises(Unauthenticated) as caught:
        await access.sessions.refresh(session.refresh)
    assert caught.value.facts["reason"] == "user_not_found"


@pytest.mark.parametrize("name", ["", "a@b", "x" * 256, "a\nb"])
async def test_a_bad_user_name_is_refused(access: Access, admin: Principal, name: str) -> None:
    with pytest.raises(InvalidInput):
        await access.users.create(admin, name, PASSWORD, Role.MEMBER)


async def test_changes_are_announced_without_secrets(
    store: Store, access: Access, admin: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user = await access.users.create(admin, "the-member", PASSWORD, Role.MEMBER)
    await access.users.edit(admin, user.uuid, DISABLED)
    issued = await access.tokens.issue(admin, name="ci", role=Role.MEMBER)
    await access.tokens.revoke(admin, issued.token.uuid)
    with pytest.raises(Unauthenticated):
        await access.sessions.login(user.name, PASSWORD, address="127.0.0.1")
    stored: list[User | Token] = [
        await store.get(User, user.uuid, org=HOME),
        await store.get(Token, issued.token.uuid, org=HOME),
    ]
    messages = [message for record in stored for message in record.outbox]
    assert [message.type for message in messages] == [
        "modelyard.user.created",
        "modelyard.user.disabled",
        "modelyard.token.created",
        "modelyard.token.revoked",
    ]
    assert {message.actor for message in messages} == {admin.id}
    said = repr(stored) + "".join(message.model_dump_json() for message in messages)
    for hidden in (PASSWORD, issued.text.rpartition("_")[2], "k" * 32):
        assert hidden not in said + caplog.text
    assert "argon2" not in said


async def test_announcements_are_sent_right_after_the_write(store: Store, clock: Clock) -> None:
    sent: list[Message] = []

    class Broker:
        async def publish(self, message: Message, *, timeout_s: float = 5) -> int:
            sent.append(message)
            return len(sent)

    access = Access(records(store, clock, Broker()), settings(), CHEAP)
    await access.bootstrap()
    admin = await principal(access, await login(access))
    user = await Tenant(access, admin.org).user()
    await access.users.edit(admin, user.uuid, DISABLED)
    issued = await access.tokens.issue(admin, name="ci", role=Role.MEMBER, key="k")
    await access.tokens.issue(admin, name="ci", role=Role.MEMBER, key="k")
    await access.tokens.revoke(admin, issued.token.uuid)
    assert [message.type.removeprefix("modelyard.") for message in sent] == [
        "user.created",
        "user.logged-in",
        "user.created",
        "user.disabled",
        "token.created",
        "token.revoked",
    ]
    assert sent[-1].id == f"{issued.token.uuid}.2.revoked"
