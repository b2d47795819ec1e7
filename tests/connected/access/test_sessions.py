"""Logins and their tokens on a real store: what they open, and until when."""

from __future__ import annotations

import asyncio

import jwt
import pytest
from pydantic import SecretStr

from pipeline.access.service import Access
from pipeline.adapters.store.store import Store
from pipeline.errors import TooManyRequests, Unauthenticated
from schemas.access import Permission, Principal, Role, Token
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


async def test_a_login_opens_the_door_for_its_own_organisation(access: Access) -> None:
    session = await login(access)
    caller = await principal(access, session)
    assert (caller.org, caller.name, caller.roles) == (HOME, "admin", frozenset({Role.ADMIN}))
    assert caller.id == f"user:{session.user.uuid}"
    assert caller.permissions == frozenset(Permission)


async def test_the_organisation_of_a_login_stands_in_the_name_or_beside_it(
    access: Access, stranger: Principal
) -> None:
    assert (await login(access, "admin@other")).user.org == OTHER
    assert (await login(access, org=OTHER)).user.org == OTHER
    assert (await login(access)).user.org == HOME


@pytest.mark.parametrize(
    ("name", "password", "org"),
    [
        ("admin", "wrong password", None),
        ("nobody", PASSWORD, None),
        ("admin", PASSWORD, "nowhere"),
        ("admin", "", None),
        ("", PASSWORD, None),
        ("a" * 5000, PASSWORD, None),
        ("admin\0", PASSWORD, None),
    ],
)
async def test_a_wrong_login_says_nothing_about_what_was_wrong(
    access: Access, name: str, password: str, org: str | None
) -> None:
    with pytest.raises(Unauthenticated, match="User name or password is wrong") as caught:
        await access.sessions.login(name, password, org, address="127.0.0.1")
    assert caught.value.facts == {"reason": "credentials"}


async def test_thirty_wrong_passwords_a_minute_are_borne_and_then_slowed(
    access: Access, clock: Clock
) -> None:
    async def guess(address: str = "10.0.0.1") -> None:
        await access.sessions.login("admin", "wrong password", address=address)

    for _ in range(30):
        with pytest.raises(Unauthenticated):
            await guess()
    with pytest.raises(TooManyRequests) as caught:
        await access.sessions.login("admin", PASSWORD, address="10.0.0.1")
    assert caught.value.facts["retry_after_s"] == 60
    with pytest.raises(TooManyRequests):
        await guess("10.0.0.2")
    clock.advance(60)
    assert (await access.sessions.login("admin", PASSWORD, address="10.0.0.1")).user.name == "admin"


async def test_guesses_side_by_side_do_not_pass_the_limit(access: Access) -> None:
    guesses = (
        access.sessions.login("admin", "wrong password", address="10.0.0.1") for _ in range(60)
    )
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert [type(each) for each in outcomes].count(Unauthenticated) == 30
    assert [type(each) for each in outcomes].count(TooManyRequests) == 30


async def test_right_logins_are_never_slowed(access: Access) -> None:
    for _ in range(35):
        await login(access)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "token", "Token abc"]
)
async def test_a_header_without_a_token_is_told_from_a_wrong_token(
    access: Access, header: str | None
) -> None:
    assert await refused(access, header) == "missing"


@pytest.mark.parametrize("header", ["Bearer x", "Bearer a.b.c", "ApiKey x", "Bearer myk_1_2"])
async def test_a_wrong_token_is_invalid(access: Access, header: str) -> None:
    assert await refused(access, header) == "invalid"


async def test_a_token_expires(access: Access, clock: Clock) -> None:
    session = await login(access)
    clock.advance(299)
    await principal(access, session)
    clock.advance(10)
    assert await refused(access, f"Bearer {session.access}") == "expired"


async def test_a_refresh_token_opens_no_door_and_an_access_token_refreshes_nothing(
    access: Access,
) -> None:
    session = await login(access)
    assert await refused(access, f"Bearer {session.refresh}") == "wrong_kind"
    with pytest.raises(Unauthenticated) as caught:
        await access.sessions.refresh(session.access)
    assert caught.value.facts["reason"] == "wrong_kind"


async def test_refreshing_gives_a_new_access_token_again_and_again(
    access: Access, clock: Clock
) -> None:
    session = await login(access)
    for _ in range(3):
        clock.advance(400)
        renewed = await access.sessions.refresh(session.refresh)
        assert renewed.refresh == session.refresh
        assert (await principal(access, renewed)).name == "admin"
    clock.advance(8 * 3600)
    with pytest.raises(Unauthenticated) as caught:
        await access.sessions.refresh(session.refresh)
    assert caught.value.facts["reason"] == "expired"


async def test_a_session_ends_as_a_whole(access: Access, clock: Clock) -> None:
    session = await login(access)
    clock.advance(8 * 3600 - 10)
    renewed = await access.sessions.refresh(session.refresh)
    clock.advance(20)
    assert await refused(access, f"Bearer {renewed.access}") == "expired"


async def test_verify_takes_either_kind(access: Access) -> None:
    session = await login(access)
    for text in (session.access, session.refresh):
        assert (await access.sessions.read(text, None)).org == HOME


async def test_a_door_may_ask_for_a_longer_access_token(access: Access, clock: Clock) -> None:
    session = await access.sessions.login("admin", PASSWORD, address="127.0.0.1", access_s=3600)
    clock.advance(3500)
    await principal(access, session)


async def test_logging_out_ends_the_session_everywhere(
    store: Store, access: Access, clock: Clock
) -> None:
    session = await login(access)
    elsewhere = Access(records(store, clock), settings(), CHEAP)
    await principal(elsewhere, session)
    renewed = await access.sessions.refresh(session.refresh)
    await access.sessions.logout(renewed.access)
    for text in (session.access, renewed.access):
        assert await refused(access, f"Bearer {text}") == "revoked"
    with pytest.raises(Unauthenticated):
        await access.sessions.refresh(session.refresh)
    clock.advance(5)
    assert await refused(elsewhere, f"Bearer {session.access}") == "revoked"
    assert (await principal(access, await login(access))).name == "admin"


async def test_notes_about_ended_sessions_are_cleared_away(
    store: Store, access: Access, clock: Clock
) -> None:
    await access.sessions.logout((await login(access)).access)
    clock.advance(10 * 3600)
    await access.sessions.logout((await login(access)).access)
    assert await store.count(Token, org=HOME, where={"kind": "session"}) == 1


async def test_another_key_signs_for_nobody(store: Store, clock: Clock, access: Access) -> None:
    foreign = Access(records(store, clock), settings(signing_key=SecretStr("f" * 32)), CHEAP)
    assert await refused(access, f"Bearer {(await login(foreign)).access}") == "invalid"


async def test_the_organisation_inside_a_token_cannot_be_exchanged(access: Access) -> None:
    session = await login(access)
    payload = jwt.decode(session.access, options={"verify_signature": False}) | {"org": OTHER}
    forged = jwt.encode(payload, "x" * 32, algorithm="HS256")
    head, _, signature = session.access.split(".")
    assert await refused(access, f"Bearer {forged}") == "invalid"
    assert await refused(access, f"Bearer {head}.{forged.split('.')[1]}.{signature}") == "invalid"
