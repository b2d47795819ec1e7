"""Where requests to registries go: redirects, forbidden addresses, plain HTTP."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import Response

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import GuardedResolver, Rules
from pipeline.adapters.registry.client import RegistryClient
from pipeline.errors import (
    AddressRefused,
    RegistryDenied,
    RegistryProtocolError,
    RegistryUnavailable,
)
from pipeline.oci import references
from pipeline.ports import Credentials
from tests.support.registries.fake_registry import Bearer, FakeRegistry, TokenService
from tests.support.registries.registry_world import (
    ACCOUNT,
    AT,
    SECRET,
    STORAGE,
    World,
    redirect_blobs,
)


@pytest.fixture
def world() -> World:
    return World()


# --- redirects ----------------------------------------------------------------------------------


async def test_a_redirect_to_another_host_drops_the_credentials(world: World) -> None:
    storage = FakeRegistry()
    world.network.listen("8.8.8.3", 443, storage)
    world.registry.auth = ACCOUNT
    world.registry.push("team/model", "1")
    storage.push("team/model", "1")
    redirect_blobs(world, lambda path: f"https://{STORAGE}{path}")
    assert (await world.resolve(credentials=SECRET)).missing == ()
    assert len(storage.seen) == 2
    assert all("authorization" not in seen.headers for seen in storage.seen)


async def test_a_redirect_within_the_registry_keeps_them(world: World) -> None:
    world.registry.auth = ACCOUNT
    world.registry.push("team/model", "1")
    world.registry.push("moved/model", "1")
    redirect_blobs(
        world, lambda path: path.replace("team", "moved") if "team" in path else path + "#"
    )
    guarded = world.registry.intercept
    world.registry.intercept = lambda request: (
        guarded(request) if "team" in request.url.path else None
    )
    assert (await world.resolve(credentials=SECRET)).missing == ()


async def test_a_401_behind_a_redirect_is_answered_with_nothing(world: World) -> None:
    thief = FakeRegistry(auth=Bearer(f"https://{STORAGE}/token", TokenService()))
    world.network.listen("8.8.8.3", 443, thief)
    world.registry.push("team/model", "1")
    redirect_blobs(world, lambda path: f"https://{STORAGE}{path}")
    with pytest.raises(RegistryDenied):
        await world.resolve(credentials=SECRET)
    assert all("authorization" not in seen.headers for seen in thief.seen)
    assert not [seen for seen in thief.seen if seen.path == "/token"]


@pytest.mark.parametrize(
    "target",
    [
        "https://169.254.169.254/latest",
        "https://[fe80::1]/x",
        "https://[::ffff:169.254.169.254]/x",
        "https://2852039166/x",
        "https://0xa9fea9fe/x",
        "https://0251.0376.0251.0376/x",
        "https://metadata.example/x",
        "https://10.1.2.3/x",
        "https://127.0.0.1/x",
        "http://8.8.8.9/x",
    ],
)
async def test_a_redirect_to_a_forbidden_address_is_not_followed(world: World, target: str) -> None:
    world.network.name("metadata.example", "169.254.169.254")
    world.registry.push("team/model", "1")
    redirect_blobs(world, lambda path: target)
    with pytest.raises(AddressRefused) as caught:
        await world.resolve()
    assert caught.value.facts["kind"] == "blocked"
    assert caught.value.facts["status"] == 307
    assert {contact.address for contact in world.network.contacts} == {AT}


@pytest.mark.parametrize("target", ["ftp://storage.example/x", "https://me:pw@storage.example/x"])
async def test_a_redirect_to_what_we_do_not_speak_is_not_followed(
    world: World, target: str
) -> None:
    world.registry.push("team/model", "1")
    redirect_blobs(world, lambda path: target)
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve()
    assert caught.value.facts["kind"] == "redirect"


async def test_a_storage_that_refuses_head_is_asked_with_get(world: World) -> None:
    storage = FakeRegistry()
    storage.intercept = lambda request: (
        Response(status_code=403) if request.method == "HEAD" else None
    )
    storage.push("team/model", "1")
    world.network.listen("8.8.8.3", 443, storage)
    world.registry.push("team/model", "1")
    redirect_blobs(world, lambda path: f"https://{STORAGE}{path}")
    assert (await world.resolve()).missing == ()


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::a9fe:a9fe]",
        "0.0.0.0:5000",
        "224.0.0.1",
        "2130706433:5000",
        "0x7f000001:5000",
        "0177.0.0.1:5000",
        "127.1:5000",
        "metadata.example",
        "mixed.example",
    ],
)
@pytest.mark.parametrize("allow_local", [True, False])
async def test_a_forbidden_address_is_never_contacted(host: str, allow_local: bool) -> None:
    world = World(allow_local=allow_local)
    world.network.name("metadata.example", "169.254.169.254")
    world.network.name("mixed.example", "8.8.8.8", "169.254.169.254")
    with pytest.raises(AddressRefused):
        await world.resolve(f"{host}/team/model:1")
    assert world.network.contacts == []


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "10.0.0.1", "100.64.0.1", "inner.example"])
async def test_private_addresses_need_the_setting(host: str) -> None:
    world = World()
    world.network.name("inner.example", "192.168.0.7")
    with pytest.raises(AddressRefused):
        await world.resolve(f"{host}/team/model:1")
    assert world.network.contacts == []


async def test_a_name_that_changes_after_the_check_changes_nothing(world: World) -> None:
    world.network.name_changing("rebinding.example", AT, "169.254.169.254")
    world.registry.push("team/model", "1")
    await world.resolve("rebinding.example/team/model:1")
    assert {contact.address for contact in world.network.contacts} == {AT}
    assert world.network.asked_names == ["rebinding.example"]


async def test_a_name_that_changes_later_is_judged_again(world: World) -> None:
    world.network.name_changing("rebinding.example", AT, "169.254.169.254")
    world.registry.push("team/model", "1")
    await world.resolve("rebinding.example/team/model:1")
    world.clock.now += 60
    with pytest.raises(AddressRefused):
        await world.resolve("rebinding.example/team/model:1")
    assert {contact.address for contact in world.network.contacts} == {AT}


# --- plain HTTP ---------------------------------------------------------------------------------


async def test_a_private_registry_without_tls_is_spoken_to_plainly() -> None:
    world = World(allow_local=True)
    world.network.listen("127.0.0.1", 5000, world.registry, tls=False)
    world.registry.push("team/model", "1")
    await world.resolve("127.0.0.1:5000/team/model:1")
    await world.resolve("127.0.0.1:5000/team/model:1")
    schemes = [contact.url.partition(":")[0] for contact in world.network.contacts]
    assert schemes == ["https"] + ["http"] * 4


async def test_a_registry_that_answered_plainly_is_named_with_the_port_of_plain_http() -> None:
    world = World(allow_local=True, resolve_s=0.5)
    world.network.listen("10.0.0.1", 80, world.registry, tls=False)
    world.registry.push("team/model", "1")
    assert world.client.place("10.0.0.1") == "10.0.0.1:443"
    await world.resolve("10.0.0.1/team/model:1")
    world.registry.pause = asyncio.Event().wait
    with pytest.raises(RegistryUnavailable, match=r"^10\.0\.0\.1:80 cannot be reached"):
        await world.resolve("10.0.0.1/team/model:1")
    assert world.client.place("10.0.0.1:5000") == "10.0.0.1:5000"


async def test_a_private_registry_with_tls_is_spoken_to_securely() -> None:
    world = World(allow_local=True)
    world.network.listen("10.0.0.1", 443, world.registry)
    world.registry.push("team/model", "1")
    await world.resolve("10.0.0.1/team/model:1")
    assert all(contact.url.startswith("https://") for contact in world.network.contacts)


async def test_a_public_registry_without_tls_is_not_spoken_to(world: World) -> None:
    world.network.name("plain.example", "8.8.8.9")
    world.network.listen("8.8.8.9", 80, world.registry, tls=False)
    world.network.listen("8.8.8.9", 443, world.registry, tls=False)
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve("plain.example/team/model:1")
    assert caught.value.facts["kind"] == "tls"
    assert world.registry.seen == []


async def test_a_bad_certificate_never_leads_to_plain_http() -> None:
    world = World(allow_local=True)
    world.network.listen("10.0.0.1", 443, world.registry, good_certificate=False)
    world.network.listen("10.0.0.1", 80, world.registry, tls=False)
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve("10.0.0.1/team/model:1", credentials=Credentials("10.0.0.1", "a", "b"))
    assert caught.value.facts["kind"] == "tls"
    assert world.registry.seen == []


async def test_a_host_that_the_settings_name_may_be_plain_anywhere() -> None:
    world = World()
    rules = Rules(allow_local=False, plain_hosts=frozenset({"plain.example:5000"}))
    client = RegistryClient(
        GuardedHttp(world.network, GuardedResolver(world.network.resolve, rules))
    )
    world.network.name("plain.example", "8.8.8.9")
    world.network.listen("8.8.8.9", 5000, world.registry, tls=False)
    world.registry.push("team/model", "1")
    await client.resolve(references.parse("plain.example:5000/team/model:1"))


async def test_a_registry_that_turns_to_tls_is_found_again() -> None:
    world = World(allow_local=True)
    world.network.listen("127.0.0.1", 5000, world.registry, tls=False)
    world.registry.push("team/model", "1")
    await world.resolve("127.0.0.1:5000/team/model:1")
    world.network.listen("127.0.0.1", 5000, world.registry, tls=True)
    with pytest.raises(RegistryProtocolError):
        await world.resolve("127.0.0.1:5000/team/model:1")
    await world.resolve("127.0.0.1:5000/team/model:1")
