"""Whose a reference is, wherever its name leads, and what engines may pull."""

from __future__ import annotations

from typing import Any, cast

import jwt
import pytest

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.adapters.store.store import Store
from pipeline.containers.pulls import Pulls, login
from pipeline.errors import InvalidReference, Unauthenticated, Unreachable
from pipeline.images.ownership import OwnRegistry
from pipeline.oci import references
from schemas.states import ContainerStatus as Status
from tests.support.records import container
from tests.support.registries.platform_registry import KEYS

HOST = "registry.example:5000"
ADDRESSES = {
    "registry.example": ("10.1.2.3",),
    "alias.example": ("10.9.9.9", "10.1.2.3"),
    "elsewhere.example": ("10.9.9.9",),
}
PULL = f"{HOST}/images/acme/model@sha256:" + "a" * 64


class Names:
    """Resolves names as `GuardedHttp` does."""

    async def pinned(self, url: str) -> tuple[tuple[str, ...], int]:
        host = url.removeprefix("https://").partition(":")[0]
        if host not in ADDRESSES:
            raise Unreachable(f"{host} is unknown.", kind="dns")
        return ADDRESSES[host], 5000


@pytest.fixture
def own(store: Store) -> OwnRegistry:
    return OwnRegistry(store, RegistryTokens(HOST, KEYS), cast(GuardedHttp, Names()))


@pytest.mark.parametrize("host", [HOST, "alias.example:5000"])
async def test_a_name_that_leads_to_our_registry_is_its_name(own: OwnRegistry, host: str) -> None:
    asked = references.parse(f"{host}/images/acme/model:1")
    claimed, credentials = await own.claim("acme", asked)
    assert str(claimed) == f"{HOST}/images/acme/model:1"
    assert credentials is not None
    assert (credentials.server, scopes(credentials.token)) == (HOST, ["images/acme/model"])
    with pytest.raises(InvalidReference, match="another organisation"):
        await own.claim("other", asked)


@pytest.mark.parametrize(
    "host", ["elsewhere.example:5000", "alias.example:5001", "no.example:5000"]
)
async def test_any_other_registry_is_left_alone(own: OwnRegistry, host: str) -> None:
    asked = references.parse(f"{host}/images/acme/model:1")
    assert await own.claim("other", asked) == (asked, None)


async def test_an_engine_gets_a_token_for_what_it_pulls_while_it_pulls(
    own: OwnRegistry, store: Store
) -> None:
    pulls = Pulls(store, own)
    uuid, key = await kept(store)
    assert scopes(await pulls.token(uuid, key)) == ["images/acme/model"]


@pytest.mark.parametrize(
    "values",
    [
        {"status": Status.PLACED},
        {"status": Status.RUNNING},
        {"org": "other"},
        {"pull": PULL.replace(HOST, "elsewhere.example:5000")},
    ],
)
async def test_it_gets_none_for_anything_else(
    own: OwnRegistry, store: Store, values: dict[str, Any]
) -> None:
    uuid, key = await kept(store, **values)
    with pytest.raises(Unauthenticated):
        await Pulls(store, own).token(uuid, key)


async def test_only_the_key_of_the_newest_pull_counts(own: OwnRegistry, store: Store) -> None:
    pulls = Pulls(store, own)
    uuid, _ = await kept(store)
    other, key = await kept(store)
    for user, shown in ((uuid, key), (uuid, ""), (other, f"{key}x"), ("nobody", key)):
        with pytest.raises(Unauthenticated):
            await pulls.token(user, shown)
    anonymous = container(status=Status.PULLING, pull=PULL)
    await store.insert(anonymous)
    with pytest.raises(Unauthenticated):
        await pulls.token(anonymous.uuid, "")


async def kept(store: Store, **values: Any) -> tuple[str, str]:
    """uuid of a container, and the key that its agent has made for this pull."""
    record = container(**{"status": Status.PULLING, "pull": PULL} | values)
    record.pull_key, credentials = login(HOST, record)
    await store.insert(record)
    return record.uuid, credentials.password


def scopes(token: str) -> list[str]:
    claims = jwt.decode(token, options={"verify_signature": False})
    assert all(one["actions"] == ["pull"] for one in claims["access"])
    return [one["name"] for one in claims["access"]]
