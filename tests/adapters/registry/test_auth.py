"""Proving to a registry who asks, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from itertools import count

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.errors import (
    AddressRefused,
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
)
from pipeline.ports import Credentials
from tests.support.registries.fake_registry import Basic, Bearer
from tests.support.registries.registry_world import ACCOUNT, AT, HOST, SECRET, TOKENS, World


class NeverContent(Bearer):
    def accepts(self, authorization: str | None) -> bool:
        return False


@pytest.fixture
def world() -> World:
    return World()


async def test_401_then_token_then_200(world: World) -> None:
    world.demand_token()
    world.registry.push("team/model", "1")
    await world.resolve()
    assert [seen.status for seen in world.registry.seen] == [401, 200, 200, 200]
    (asked,) = world.tokens.seen
    assert "service=fake.registry" in asked.query
    assert "scope=repository%3Ateam%2Fmodel%3Apull" in asked.query
    assert "authorization" not in asked.headers


async def test_the_secret_goes_to_the_token_service_and_only_the_token_to_the_registry(
    world: World,
) -> None:
    world.demand_token(ACCOUNT)
    world.registry.push("team/model", "1")
    await world.resolve(credentials=SECRET)
    assert ACCOUNT.accepts(world.tokens.seen[0].headers["authorization"])
    proofs = {seen.headers.get("authorization") for seen in world.registry.seen}
    assert proofs == {None, "Bearer token-0"}


async def test_a_token_serves_until_it_expires(world: World) -> None:
    world.demand_token(expires_in=300)
    world.registry.push("team/model", "1")
    await world.resolve()
    await world.resolve()
    assert len(world.tokens.seen) == 1
    world.clock.now += 300
    await world.resolve()
    assert len(world.tokens.seen) == 2


async def test_a_token_that_expires_midway_is_refreshed_once(world: World) -> None:
    world.demand_token()
    world.registry.push("team/model", "1")

    def expire_after_the_manifest(request: Request) -> Response | None:
        if "/blobs/" in request.url.path and len(world.tokens.seen) == 1:
            world.tokens.expire_all()
        return None

    world.registry.intercept = expire_after_the_manifest
    await world.resolve()
    assert len(world.tokens.seen) == 2


async def test_a_registry_that_refuses_every_token_is_asked_twice_and_no_more(world: World) -> None:
    world.registry.auth = NeverContent(f"https://{TOKENS}/token", world.tokens)
    with pytest.raises(RegistryDenied):
        await world.resolve()
    assert len(world.registry.seen) == 2


async def test_each_repository_gets_a_token_of_its_own_without_being_asked(world: World) -> None:
    world.demand_token()
    world.registry.push("team/model", "1")
    world.registry.push("team/other", "1")
    await world.resolve()
    del world.registry.seen[:]
    await world.resolve(f"{HOST}/team/other:1")
    assert [seen.status for seen in world.registry.seen] == [200, 200, 200]
    assert "other" in world.tokens.seen[1].query


async def test_a_token_of_one_account_serves_no_other(world: World) -> None:
    world.demand_token()
    world.registry.push("team/model", "1")
    await world.resolve(credentials=SECRET)
    await world.resolve(credentials=None)
    assert ["authorization" in seen.headers for seen in world.tokens.seen] == [True, False]


async def test_many_requests_at_once_fetch_one_token(world: World) -> None:
    world.demand_token()
    world.registry.push("team/model", "1", layers=[bytes([n]) for n in range(20)])
    await asyncio.gather(*(world.resolve() for _ in range(8)))
    assert len(world.tokens.seen) == 1


async def test_basic_authentication(world: World) -> None:
    world.registry.auth = ACCOUNT
    world.registry.push("team/model", "1")
    await world.resolve(credentials=SECRET)
    assert [seen.status for seen in world.registry.seen] == [401, 200, 200, 200]


@pytest.mark.parametrize("credentials", [None, Credentials(HOST, "me", "wrong")])
@pytest.mark.parametrize("is_bearer", [True, False])
@pytest.mark.parametrize("tag", ["1", "absent"])
async def test_denied_is_never_read_as_absent(
    world: World, credentials: Credentials | None, is_bearer: bool, tag: str
) -> None:
    world.registry.push("team/model", "1")
    if is_bearer:
        world.demand_token(ACCOUNT)
    else:
        world.registry.auth = ACCOUNT
    with pytest.raises(RegistryDenied, match="may be private or absent") as caught:
        await world.resolve(f"{HOST}/team/model:{tag}", credentials=credentials)
    assert not isinstance(caught.value, ManifestNotFound)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denied_layer_is_not_a_missing_one(world: World, status: int) -> None:
    world.registry.push("team/model", "1")
    world.registry.intercept = lambda request: (
        Response(status_code=status) if request.method == "HEAD" else None
    )
    with pytest.raises(RegistryDenied):
        await world.resolve()


async def test_the_secret_of_another_server_stays_at_home(world: World) -> None:
    world.registry.auth = ACCOUNT
    world.registry.push("team/model", "1")
    with pytest.raises(RegistryDenied):
        await world.resolve(credentials=Credentials("other.example", "me", "hunter2"))
    assert all("authorization" not in contact.headers for contact in world.network.contacts)


async def test_docker_hubs_many_names_are_one_server(world: World) -> None:
    world.network.name("registry-1.docker.io", AT)
    world.registry.auth = ACCOUNT
    world.registry.push("library/nginx", "1")
    secret = Credentials("index.docker.io", "me", "hunter2")
    assert (await world.resolve("nginx:1", credentials=secret)).parts.repository == "library/nginx"


async def test_an_insecure_token_service_gets_no_secret(world: World) -> None:
    world.registry.auth = Bearer(f"http://{TOKENS}/token", world.tokens)
    with pytest.raises(RegistryProtocolError, match="not on https"):
        await world.resolve(credentials=SECRET)
    assert {contact.address for contact in world.network.contacts} == {AT}


@pytest.mark.parametrize("realm", ["https://169.254.169.254/token", "https://10.0.0.1/token"])
async def test_a_token_service_at_a_forbidden_address_is_not_asked(
    world: World, realm: str
) -> None:
    world.registry.auth = Bearer(realm, world.tokens)
    with pytest.raises(AddressRefused):
        await world.resolve(credentials=SECRET)
    assert {contact.address for contact in world.network.contacts} == {AT}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response("<html>", 200, media_type="text/html"), RegistryProtocolError),
        (JSONResponse({}), RegistryProtocolError),
        (JSONResponse([]), RegistryProtocolError),
        (JSONResponse({"token": "a\r\nX-Evil: 1"}), RegistryProtocolError),
        (JSONResponse({}, 401), RegistryDenied),
        (JSONResponse({}, 403), RegistryDenied),
        (JSONResponse({}, 429, {"Retry-After": "7"}), RegistryUnavailable),
        (JSONResponse({}, 500), RegistryUnavailable),
    ],
)
async def test_what_a_token_service_may_do_wrong(
    world: World, answer: Response, error: type[RegistryError]
) -> None:
    world.demand_token()
    world.tokens.intercept = lambda request: answer
    with pytest.raises(error):
        await world.resolve()


@pytest.mark.parametrize("lasts", [float("nan"), -1, 0, "300", None, True, 10**9])
async def test_a_token_with_an_odd_lifetime_is_not_kept_for_ever(
    world: World, lasts: object
) -> None:
    world.demand_token()
    number = count()

    def answer(request: Request) -> Response:
        token = f"odd-{next(number)}"
        world.tokens.valid.add(token)
        body = json.dumps({"access_token": token, "expires_in": lasts})
        return Response(body, media_type="application/json")

    world.tokens.intercept = answer
    world.registry.push("team/model", "1")
    await world.resolve()
    fetched = len(world.tokens.seen)
    world.clock.now += 3600
    await world.resolve()
    assert len(world.tokens.seen) > fetched


async def test_no_secret_is_in_any_error(world: World) -> None:
    world.demand_token(Basic("me", "other"))
    with pytest.raises(RegistryDenied) as caught:
        await world.resolve(credentials=SECRET)
    shown = repr(caught.value) + repr(caught.value.facts) + repr(SECRET)
    assert "hunter2" not in shown
