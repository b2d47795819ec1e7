"""Users of organisations on a real store."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import SecretStr

from pipeline.adapters.store import Store
from pipeline.core.access import Access
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    Misconfigured,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from pipeline.rules.passwords import Passwords
from schemas.access import Principal, Role, Token, User
from tests.support.access import (
    CHEAP,
    HOME,
    OTHER,
    PASSWORD,
    Clock,
    login,
    member,
    principal,
    refused,
    settings,
)


async def test_the_first_administrator_is_made_once(store: Store, access: Access) -> None:
    again = await access.bootstrap()
    users = await store.find(User, org=HOME)
    assert [user.uuid for user in users] == [again.uuid]
    assert (again.name, again.role, again.org) == ("admin", Role.ADMIN, HOME)


async def test_processes_that_start_together_make_one_administrator(
    store: Store, clock: Clock
) -> None:
    made = await asyncio.gather(
        *(Access(store, settings(), clock, CHEAP).bootstrap() for _ in range(5))
    )
    assert len({user.uuid for user in made}) == 1
    assert await store.count(User, org=HOME) == 1


async def test_there_is_no_default_password(store: Store, clock: Clock) -> None:
    nothing_set = Access(store, settings(admin_password=SecretStr("")), clock, CHEAP)
    with pytest.raises(Misconfigured, match="MODELYARD_ADMIN_PASSWORD"):
        await nothing_set.bootstrap()
    assert await store.count(User, org=HOME) == 0
    with pytest.raises(Misconfigured, match="8 to 1024 characters"):
        await Access(store, settings(admin_password=SecretStr("short")), clock, CHEAP).bootstrap()


async def test_an_installation_that_has_an_administrator_needs_no_password(
    store: Store, access: Access, clock: Clock
) -> None:
    without = settings(admin_password=SecretStr(""), admin_user="somebody-else")
    assert (await Access(store, without, clock, CHEAP).bootstrap()).name == "admin"


async def test_a_missing_signing_key_is_said_at_the_start(store: Store, clock: Clock) -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_SIGNING_KEY"):
        await Access(store, settings(signing_key=SecretStr("")), clock, CHEAP).bootstrap()


async def test_a_password_is_hashed_anew_when_the_parameters_have_changed(
    store: Store, access: Access, clock: Clock
) -> None:
    stronger = Passwords(time_cost=2, memory_kib=64, parallelism=1)
    newer = Access(store, settings(), clock, stronger)
    user = (await login(newer)).user
    stored = await store.get(User, user.uuid, org=HOME)
    assert "t=2" in stored.password_hash
    assert (await login(newer)).user.revision == stored.revision


async def test_another_organisation_neither_sees_nor_disables_a_user(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    user = await member(access, admin)
    assert [each.org for each in (await access.accounts.list(stranger)).items] == [OTHER]
    with pytest.raises(NotFound):
        await access.accounts.disable(stranger, user.uuid)


async def test_the_same_name_may_live_in_two_organisations(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    mine, theirs = await member(access, admin), await member(access, stranger)
    assert mine.uuid != theirs.uuid
    with pytest.raises(AlreadyExists, match="the-member"):
        await member(access, admin)


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
async def test_only_administrators_handle_tokens_and_users(
    access: Access, admin: Principal, role: Role
) -> None:
    user = await member(access, admin, role)
    caller = await principal(access, await login(access, user.name))
    for call in (
        access.issue(caller, name="ci", role=Role.VIEWER),
        access.list(caller),
        access.revoke(caller, "any"),
        access.accounts.create(caller, "new", PASSWORD, Role.VIEWER),
        access.accounts.list(caller),
        access.accounts.disable(caller, "any"),
        access.accounts.enable(caller, "any"),
    ):
        with pytest.raises(PermissionDenied):
            await call


async def test_a_disabled_user_is_out_with_everything_he_holds(
    access: Access, admin: Principal, clock: Clock
) -> None:
    second = await member(access, admin, Role.ADMIN)
    session = await login(access, second.name)
    caller = await principal(access, session)
    key = await access.issue(caller, name="ci", role=Role.MEMBER)
    signed = await access.issue(caller, name="ci", role=Role.MEMBER, kind="jwt")
    through_key = await access.issue(
        await access.authenticate(
            f"ApiKey {(await access.issue(caller, name='root', role=Role.ADMIN)).text}"
        ),
        name="child",
        role=Role.MEMBER,
    )
    node = await access.issue(caller, name="gpu-1", role=Role.NODE)
    await access.accounts.disable(admin, second.uuid)
    for text in (session.access, key.text, signed.text, through_key.text):
        assert await refused(access, f"Bearer {text}") == "user_inactive"
    for attempt in (access.refresh(session.refresh), login(access, second.name)):
        with pytest.raises(Unauthenticated) as caught:
            await attempt
        assert caught.value.facts["reason"] == "user_inactive"
    await access.authenticate(f"ApiKey {node.text}")
    await access.accounts.enable(admin, second.uuid)
    await access.authenticate(f"Bearer {key.text}")


async def test_a_wrong_password_of_a_disabled_user_says_only_that(
    access: Access, admin: Principal
) -> None:
    user = await member(access, admin)
    await access.accounts.disable(admin, user.uuid)
    with pytest.raises(Unauthenticated) as caught:
        await access.login(user.name, "wrong password", address="127.0.0.1")
    assert caught.value.facts["reason"] == "credentials"


async def test_nobody_locks_himself_out(access: Access, admin: Principal) -> None:
    with pytest.raises(Conflict, match="yourself"):
        await access.accounts.disable(admin, admin.id.partition(":")[2])


async def test_a_user_who_is_gone_refreshes_nothing(store: Store, access: Access) -> None:
    session = await login(access)
    await store.delete(User, session.user.uuid, org=HOME)
    with pytest.raises(Unauthenticated) as caught:
        await access.refresh(session.refresh)
    assert caught.value.facts["reason"] == "user_not_found"


@pytest.mark.parametrize("name", ["", "a@b", "x" * 256, "a\nb"])
async def test_a_bad_user_name_is_refused(access: Access, admin: Principal, name: str) -> None:
    with pytest.raises(InvalidInput):
        await access.accounts.create(admin, name, PASSWORD, Role.MEMBER)


async def test_changes_are_announced_without_secrets(
    store: Store, access: Access, admin: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user = await member(access, admin)
    await access.accounts.disable(admin, user.uuid)
    issued = await access.issue(admin, name="ci", role=Role.MEMBER)
    await access.revoke(admin, issued.token.uuid)
    with pytest.raises(Unauthenticated):
        await access.login(user.name, PASSWORD, address="127.0.0.1")
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
