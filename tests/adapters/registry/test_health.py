"""What a look at `/v2/` tells about a registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pipeline.adapters.http.guarded import GuardedHttp, Limits
from pipeline.adapters.http.resolving import GuardedResolver, Rules
from pipeline.adapters.registry import health as registry_health
from pipeline.adapters.registry.client import RegistryClient
from pipeline.errors import InvalidInput
from pipeline.ports import Credentials
from schemas.registries.registry import PingResult
from tests.support.http.fake_network import FakeNetwork
from tests.support.registries.fake_registry import Basic, Bearer, FakeRegistry, TokenService

HOST = "registry.example"
URL = f"https://{HOST}"
SECRET = Credentials(HOST, "me", "hunter2")
ACCOUNT = Basic("me", "hunter2")


class World:
    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.registry = FakeRegistry()
        self.network.name(HOST, "8.8.8.1")
        self.network.listen("8.8.8.1", 443, self.registry)
        self.network.listen("8.8.8.1", 80, self.registry, tls=False)
        self.network.name("auth.example", "8.8.8.2")
        self.network.name("other.example", "8.8.8.3")
        names = GuardedResolver(self.network.resolve, Rules(allow_local=False))
        self.client = RegistryClient(GuardedHttp(self.network, names))

    async def ping(self, url: str = URL, credentials: Credentials | None = None) -> PingResult:
        return await self.client.ping(url, credentials=credentials)

    def answer(self, response: Callable[[Request], Response | None]) -> None:
        self.registry.intercept = response

    def sent_proofs(self) -> set[str]:
        return {
            f"{contact.address} {contact.headers['authorization'].split()[0]}"
            for contact in self.network.contacts
            if "authorization" in contact.headers
        }


@pytest.fixture
def world() -> World:
    return World()


async def test_an_open_registry(world: World) -> None:
    health = await world.ping()
    assert health.latency_ms is not None
    assert (health.reachable, health.status_code, health.reason) == (True, 200, "OK")
    assert (health.oci, health.auth_required, health.credentials_ok) == (True, False, None)
    assert health.error_kind is None


@pytest.mark.parametrize("url", [URL, URL + "/", URL + "/mirror"])
async def test_v2_is_appended_to_the_url(world: World, url: str) -> None:
    await world.ping(url)
    assert world.network.contacts[0].url == url.rstrip("/") + "/v2/"


async def test_a_registry_that_asks_for_proof(world: World) -> None:
    world.registry.auth = ACCOUNT
    health = await world.ping()
    assert (health.status_code, health.oci, health.auth_required) == (401, True, True)
    assert health.credentials_ok is None


async def test_a_401_without_a_challenge_is_no_registry(world: World) -> None:
    world.answer(lambda request: Response(status_code=401))
    health = await world.ping(credentials=SECRET)
    assert (health.oci, health.auth_required, health.credentials_ok) == (False, True, None)


@pytest.mark.parametrize("status", [204, 403, 404, 429, 500])
async def test_any_other_answer_is_reachable_and_no_registry(world: World, status: int) -> None:
    world.answer(lambda request: Response(status_code=status))
    health = await world.ping()
    assert (health.reachable, health.status_code, health.oci) == (True, status, False)


@pytest.mark.parametrize(("password", "accepted"), [("hunter2", True), ("wrong", False)])
@pytest.mark.parametrize("is_bearer", [True, False])
async def test_the_secret_is_tried(
    world: World, password: str, accepted: bool, is_bearer: bool
) -> None:
    tokens = TokenService(ACCOUNT)
    world.network.listen("8.8.8.2", 443, tokens)
    world.registry.auth = Bearer("https://auth.example/token", tokens) if is_bearer else ACCOUNT
    health = await world.ping(credentials=Credentials(HOST, "me", password))
    assert (health.status_code, health.auth_required) == (401, True)
    assert health.credentials_ok is accepted


@pytest.mark.parametrize(
    ("server", "is_own"),
    [
        (HOST, True),
        (HOST.upper(), True),
        (f"{HOST}:443", True),
        (f"{HOST}:5000", False),
        ("other.example", False),
        ("not a host", False),
    ],
)
async def test_the_secret_goes_only_to_its_own_server(
    world: World, server: str, is_own: bool
) -> None:
    world.registry.auth = ACCOUNT
    health = await world.ping(credentials=Credentials(server, "me", "hunter2"))
    assert health.credentials_ok is (True if is_own else None)
    assert bool(world.sent_proofs()) is is_own


async def test_the_secret_never_follows_a_redirect(world: World) -> None:
    other = FakeRegistry(auth=ACCOUNT)
    world.network.listen("8.8.8.3", 443, other)
    world.answer(
        lambda request: Response(status_code=302, headers={"Location": "https://other.example/v2/"})
    )
    for server in (HOST, "other.example"):
        health = await world.ping(credentials=Credentials(server, "me", "hunter2"))
        assert (health.status_code, health.auth_required) == (401, True)
        assert health.credentials_ok is None
    assert world.sent_proofs() == set()


async def test_the_secret_does_not_cross_the_world_in_clear_text(world: World) -> None:
    world.registry.auth = ACCOUNT
    health = await world.ping(f"http://{HOST}", credentials=Credentials(f"{HOST}:80", "me", "pw"))
    assert health.auth_required
    assert health.credentials_ok is None
    assert world.sent_proofs() == set()


@pytest.mark.parametrize(("status", "accepted"), [(403, False), (429, None), (500, None)])
async def test_what_the_registry_says_to_the_secret_decides(
    world: World, status: int, accepted: bool | None
) -> None:
    """It is asked again once, whatever it answers."""
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}

    def answer(request: Request) -> Response:
        is_proven = "authorization" in request.headers
        return Response(status_code=status if is_proven else 401, headers=challenge)

    world.answer(answer)
    health = await world.ping(credentials=SECRET)
    assert (health.status_code, health.auth_required, health.oci) == (401, True, True)
    assert health.credentials_ok is accepted
    proofs = ["authorization" in contact.headers for contact in world.network.contacts]
    assert proofs == [False, True]


async def test_a_token_service_that_fails_leaves_the_secret_untried(world: World) -> None:
    world.registry.auth = Bearer("https://auth.example/token", TokenService())
    health = await world.ping(credentials=SECRET)
    assert health.reachable
    assert health.credentials_ok is None


async def test_an_unknown_name(world: World) -> None:
    health = await world.ping("https://nowhere.example")
    assert (health.reachable, health.status_code, health.error_kind) == (False, None, "dns")
    assert health.reason


async def test_nobody_listening(world: World) -> None:
    assert (await world.ping(URL + ":5000")).error_kind == "refused"


async def test_no_tls_where_tls_was_asked_for(world: World) -> None:
    world.network.listen("8.8.8.1", 443, world.registry, tls=False)
    assert (await world.ping()).error_kind == "tls"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://0251.0376.0251.0376",
        "http://[::ffff:169.254.169.254]",
        "http://127.0.0.1:5000",
    ],
)
async def test_a_forbidden_address_is_blocked(world: World, url: str) -> None:
    health = await world.ping(url)
    assert (health.reachable, health.status_code, health.error_kind) == (False, None, "blocked")
    assert world.network.contacts == []


@pytest.mark.parametrize(
    "found",
    [
        ["169.254.169.254"],
        ["8.8.8.1", "169.254.169.254"],
        ["fe80::1"],
        ["fd00:ec2::254"],
        ["::ffff:169.254.169.254"],
        ["224.0.0.1"],
        ["ff02::1"],
        ["0.0.0.0"],
        ["::"],
        ["240.0.0.1"],
        ["127.0.0.1"],
        ["10.0.0.1"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("is_hop", [False, True], ids=["itself", "a hop"])
async def test_a_name_is_judged_by_what_it_resolves_to(
    world: World, found: list[str], is_hop: bool
) -> None:
    world.network.name("inner.example", *found)
    if is_hop:
        target = {"Location": "https://inner.example/v2/"}
        world.answer(lambda request: Response(status_code=307, headers=target))
    health = await world.ping(URL if is_hop else "https://inner.example", SECRET)
    assert health.error_kind == "blocked"
    assert (health.reachable, health.status_code) == (is_hop, 307 if is_hop else None)
    assert [contact.address for contact in world.network.contacts] == ["8.8.8.1"] * is_hop


async def test_a_name_is_resolved_once_and_asked_where_it_was_judged(world: World) -> None:
    world.network.name_changing("rebinding.example", "8.8.8.1", "169.254.169.254")
    world.registry.auth = ACCOUNT
    health = await world.ping(
        "https://rebinding.example", Credentials("rebinding.example", "me", "hunter2")
    )
    assert health.credentials_ok
    assert {contact.address for contact in world.network.contacts} == {"8.8.8.1"}
    assert world.network.asked_names == ["rebinding.example"]


async def test_a_bad_certificate_is_a_fault_of_tls(world: World) -> None:
    world.network.listen("8.8.8.1", 443, world.registry, good_certificate=False)
    health = await world.ping()
    assert (health.reachable, health.error_kind) == (False, "tls")


async def test_a_blocked_hop_leaves_the_redirect_as_the_answer(world: World) -> None:
    world.answer(
        lambda request: Response(status_code=301, headers={"Location": "http://169.254.169.254/"})
    )
    health = await world.ping()
    assert (health.reachable, health.status_code) == (True, 301)
    assert health.reason == "Moved Permanently"
    assert health.error_kind == "blocked"


async def test_three_redirects_are_followed_and_no_more(world: World) -> None:
    def hop(request: Request) -> Response | None:
        left = int(request.query_params.get("left", "-1"))
        if left == 0:
            return None
        target = f"/v2/?left={left - 1}" if left > 0 else f"/v2/?left={wanted - 1}"
        return Response(status_code=302, headers={"Location": target})

    world.answer(hop)
    wanted = 3
    assert (await world.ping()).status_code == 200
    wanted = 4
    health = await world.ping()
    assert (health.reachable, health.status_code, health.error_kind) == (True, 302, "redirect")


def test_a_look_is_bounded_in_time_bytes_and_redirects() -> None:
    assert Limits(total_s=5, body_max_bytes=64 * 1024, redirects=3) == registry_health.LIMITS


async def test_a_big_body_does_no_harm(world: World) -> None:
    world.answer(lambda request: Response(b"x" * 1_000_000))
    assert (await world.ping()).oci


async def test_a_registry_that_hangs_is_unreachable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_health, "LIMITS", Limits(total_s=0.05))
    world.registry.pause = asyncio.Event().wait
    health = await world.ping()
    assert (health.reachable, health.error_kind) == (False, "timeout")


@pytest.mark.parametrize("url", ["ftp://registry.example", "https://", "https://me:pw@h", "x"])
async def test_a_malformed_url_is_the_callers_mistake(world: World, url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await world.ping(url)
    assert "pw" not in caught.value.message
