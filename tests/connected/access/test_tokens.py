"""API keys and long-lived tokens on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.access.service import Access
from pipeline.access.tokens import Issued
from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict, InvalidInput, KeyReused, NotFound, PermissionDenied
from schemas.access import Permission, Principal, Role, Token
from tests.support.access import CHEAP, HOME, Clock, login, records, refused, settings


@pytest.mark.parametrize("scheme", ["Bearer", "ApiKey", "apikey", "bearer"])
async def test_an_api_key_opens_the_door_with_its_own_role(
    access: Access, admin: Principal, scheme: str
) -> None:
    issued = await access.tokens.issue(admin, name="ci", role=Role.VIEWER)
    caller = await access.authenticate(f"{scheme} {issued.text}")
    assert caller.id == f"token:{issued.token.uuid}"
    assert (caller.org, caller.name, caller.roles) == (HOME, "ci", frozenset({Role.VIEWER}))
    assert Permission.IMAGE_WRITE not in caller.permissions


async def test_only_a_hash_of_an_api_key_is_kept(
    store: Store, access: Access, admin: Principal
) -> None:
    issued = await access.tokens.issue(admin, name="ci", role=Role.VIEWER)
    stored = await store.get(Token, issued.token.uuid, org=HOME)
    secret = issued.text.rpartition("_")[2]
    assert secret not in stored.model_dump_json()
    assert secret not in repr(issued)
    assert stored.secret_hash is not None
    assert stored.secret_hash not in repr(stored)


async def test_a_token_is_shown_until_it_is_revoked(access: Access, admin: Principal) -> None:
    issued = await access.tokens.issue(admin, name="ci", role=Role.VIEWER)
    assert (await access.tokens.get(admin, issued.token.uuid)).name == "ci"
    await access.tokens.revoke(admin, issued.token.uuid)
    with pytest.raises(NotFound):
        await access.tokens.get(admin, issued.token.uuid)


async def test_an_issued_jwt_opens_the_door_until_it_ends(
    access: Access, admin: Principal, clock: Clock
) -> None:
    issued = await access.tokens.issue(admin, name="ci", role=Role.MEMBER, kind="jwt", ttl_s=3600)
    caller = await access.authenticate(f"Bearer {issued.text}")
    assert (caller.id, caller.roles) == (f"token:{issued.token.uuid}", frozenset({Role.MEMBER}))
    clock.advance(3610)
    assert await refused(access, f"Bearer {issued.text}") == "expired"


async def test_an_api_key_ends_when_its_time_is_over(
    access: Access, admin: Principal, clock: Clock
) -> None:
    issued = await access.tokens.issue(admin, name="ci", role=Role.MEMBER, ttl_s=60)
    forever = await access.tokens.issue(admin, name="ci", role=Role.MEMBER)
    clock.advance(60)
    assert await refused(access, f"ApiKey {issued.text}") == "expired"
    clock.advance(86_400 * 4000)
    await access.authenticate(f"ApiKey {forever.text}")


@pytest.mark.parametrize("kind", ["api-key", "jwt"])
async def test_a_revoked_token_opens_nothing_here_at_once_and_elsewhere_within_seconds(
    store: Store, access: Access, admin: Principal, clock: Clock, kind: Any
) -> None:
    elsewhere = Access(records(store, clock), settings(), CHEAP)
    issued = await access.tokens.issue(admin, name="ci", role=Role.MEMBER, kind=kind, ttl_s=3600)
    for each in (access, elsewhere):
        await each.authenticate(f"Bearer {issued.text}")
    await access.tokens.revoke(admin, issued.token.uuid)
    await access.tokens.revoke(admin, issued.token.uuid)
    assert await refused(access, f"Bearer {issued.text}") == "revoked"
    clock.advance(5)
    assert await refused(elsewhere, f"Bearer {issued.text}") == "revoked"


async def test_the_hot_path_asks_the_store_once_in_five_seconds(
    access: Access, admin: Principal, clock: Clock, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await access.tokens.issue(admin, name="ci", role=Role.MEMBER)).text
    text = (await access.tokens.issue(admin, name="ci", role=Role.MEMBER, kind="jwt")).text
    asked = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def count(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return await call(*args, **kwargs)

        return count

    for name in ("get", "find", "find_one"):
        monkeypatch.setattr(store, name, counted(name, getattr(store, name)))
    clock.advance(5)
    for _ in range(50):
        await asyncio.gather(
            *(access.authenticate(f"Bearer {each}") for each in (key, text) for _ in range(5))
        )
    assert asked.count("find") == 2
    assert asked.count("find_one") <= 6


@pytest.mark.parametrize("kind", ["api-key", "jwt"])
async def test_a_repeat_with_the_same_key_gets_the_same_token(
    access: Access, admin: Principal, clock: Clock, kind: Any
) -> None:
    async def issue(**changed: Any) -> Issued:
        wanted = {"name": "ci", "role": Role.VIEWER, "kind": kind, "ttl_s": 3600, "key": "k"}
        return await access.tokens.issue(admin, **(wanted | changed))

    first, *others = await asyncio.gather(*(issue() for _ in range(5)))
    clock.advance(60)
    for again in (*others, await issue()):
        assert (again.token.uuid, again.text) == (first.token.uuid, first.text)
    assert len((await access.tokens.list(admin)).items) == 1
    await access.authenticate(f"Bearer {first.text}")
    assert (await issue(key="other")).text != first.text
    for changed in ({"name": "x"}, {"role": Role.MEMBER}, {"ttl_s": 60}):
        with pytest.raises(KeyReused):
            await issue(**changed)
    await access.tokens.revoke(admin, first.token.uuid)
    with pytest.raises(Conflict):
        await issue()


async def test_a_repeat_by_somebody_else_is_not_shown_the_token(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    mine = await access.tokens.issue(admin, name="ci", role=Role.VIEWER, key="k")
    colleague = admin.model_copy(update={"id": f"token:{mine.token.uuid}"})
    with pytest.raises(KeyReused):
        await access.tokens.issue(colleague, name="ci", role=Role.VIEWER, key="k")
    theirs = await access.tokens.issue(stranger, name="ci", role=Role.VIEWER, key="k")
    assert theirs.text != mine.text


async def test_tokens_are_listed_without_their_texts_and_revoked_ones_not_at_all(
    access: Access, admin: Principal
) -> None:
    kept = await access.tokens.issue(admin, name="kept", role=Role.MEMBER)
    gone = await access.tokens.issue(admin, name="gone", role=Role.MEMBER)
    await access.tokens.revoke(admin, gone.token.uuid)
    await access.sessions.logout((await login(access)).access)
    listed = await access.tokens.list(admin)
    assert [token.uuid for token in listed.items] == [kept.token.uuid]
    assert kept.text not in repr(listed)


async def test_another_organisation_neither_sees_nor_revokes_a_token(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    issued = await access.tokens.issue(admin, name="ci", role=Role.MEMBER)
    assert (await access.tokens.list(stranger)).items == []
    with pytest.raises(NotFound):
        await access.tokens.revoke(stranger, issued.token.uuid)
    assert (await access.authenticate(f"ApiKey {issued.text}")).org == HOME


async def test_nodes_are_admitted_only_by_the_installation_s_own_organisation(
    access: Access, admin: Principal, stranger: Principal
) -> None:
    issued = await access.tokens.issue(admin, name="gpu-1", role=Role.NODE)
    node = await access.authenticate(f"ApiKey {issued.text}")
    assert Permission.NODE_WRITE in node.permissions
    with pytest.raises(PermissionDenied):
        await access.tokens.issue(stranger, name="gpu-1", role=Role.NODE)
    assert Permission.NODE_WRITE not in stranger.permissions


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 256},
        {"name": "a\nb"},
        {"kind": "cookie"},
        {"ttl_s": 0},
        {"ttl_s": 10**12},
    ],
)
async def test_a_bad_wish_for_a_token_is_refused_by_field(
    access: Access, admin: Principal, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await access.tokens.issue(admin, **({"name": "ci", "role": Role.MEMBER} | wrong))
    assert caught.value.facts["field"] in wrong
