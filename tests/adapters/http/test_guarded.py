"""The guarded client: limits, redirects and what it never sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from pipeline.adapters.http.guarded import GuardedHttp, Limits
from pipeline.adapters.http.resolving import GuardedResolver, PlainHttp, Rules
from pipeline.errors import AddressRefused, InvalidInput, Unreachable
from tests.support.http.fake_network import FakeNetwork

HOST = "hook.example"
URL = f"https://{HOST}/in"


class Server:
    """Answers with `answers` in turn, the last one for ever, and keeps what it got."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.got: list[tuple[str, str, dict[str, str], bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.got.append(
            (request.method, request.url.path, dict(request.headers), await request.body())
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await answer(scope, receive, send)


class World:
    def __init__(self, rules: Rules | None = None) -> None:
        self.network = FakeNetwork()
        self.network.name(HOST, "8.8.8.1")
        self.network.name("other.example", "8.8.8.2")
        names = GuardedResolver(self.network.resolve, rules or Rules(allow_local=False))
        self.http = GuardedHttp(self.network, names)

    def serve(self, *answers: Response, address: str = "8.8.8.1", port: int = 443) -> Server:
        server = Server(*answers)
        self.network.listen(address, port, server, tls=port != 80)
        return server


@pytest.fixture
def world() -> World:
    return World()


def redirect(target: str, status: int = 302) -> Response:
    return RedirectResponse(target, status)


async def test_any_status_is_an_answer(world: World) -> None:
    world.serve(Response(b"gone", 410, {"X-Why": "because"}))
    reply = await world.http.request("GET", URL)
    assert (reply.status, reply.reason, reply.body) == (410, "Gone", b"gone")
    assert reply.headers["x-why"] == "because"
    assert (reply.url, reply.is_foreign, reply.is_truncated) == (URL, False, False)


async def test_a_body_is_sent(world: World) -> None:
    server = world.serve(Response())
    await world.http.request("POST", URL, content=b"hello", headers={"Content-Type": "text/plain"})
    method, _, headers, body = server.got[0]
    assert (method, body, headers["content-type"]) == ("POST", b"hello", "text/plain")
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == HOST


async def test_a_body_is_streamed(world: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    server = world.serve(Response())
    await world.http.request("PUT", URL, content=pieces())
    assert server.got[0][3] == b"one two"


@pytest.mark.parametrize(("limit", "truncated"), [(10, False), (9, True), (0, True)])
async def test_a_body_is_read_up_to_the_limit(world: World, limit: int, truncated: bool) -> None:
    world.serve(Response(b"0123456789"))
    reply = await world.http.request("GET", URL, limits=Limits(body_max_bytes=limit))
    assert reply.body == b"0123456789"[:limit]
    assert reply.is_truncated is truncated


async def test_the_time_limit_covers_everything(world: World) -> None:
    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    world.serve(redirect("https://other.example/x"))
    world.network.listen("8.8.8.2", 443, hang)
    with pytest.raises(Unreachable) as caught:
        await world.http.request("GET", URL, limits=Limits(total_s=0.05))
    facts = caught.value.facts
    assert (facts["kind"], facts["host"], facts["status"]) == ("timeout", "other.example:443", 302)


async def test_a_resolver_that_hangs_is_given_up() -> None:
    async def hang(host: str) -> list[object]:
        await asyncio.Event().wait()
        return []

    http = GuardedHttp(FakeNetwork(), GuardedResolver(hang, Rules(allow_local=False)))  # type: ignore[arg-type]
    with pytest.raises(Unreachable) as caught:
        await http.request("GET", URL, limits=Limits(total_s=0.05))
    assert caught.value.facts["kind"] == "timeout"


SECRETS = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Api-Key": "k", "X-Other": "kept"}


@pytest.mark.parametrize(
    ("target", "address", "port"),
    [
        ("https://other.example/x", "8.8.8.2", 443),
        (f"https://{HOST}:8443/x", "8.8.8.1", 8443),
        (f"http://{HOST}/x", "8.8.8.1", 80),
    ],
)
async def test_another_host_port_or_scheme_gets_no_credentials(
    world: World, target: str, address: str, port: int
) -> None:
    world.serve(redirect(target))
    server = world.serve(Response(), address=address, port=port)
    reply = await world.http.request("GET", URL, headers=SECRETS)
    headers = server.got[0][2]
    assert reply.is_foreign
    assert reply.url == target
    assert headers.keys().isdisjoint({"authorization", "cookie", "x-api-key"})
    assert headers["x-other"] == "kept"


async def test_the_same_origin_keeps_them(world: World) -> None:
    server = world.serve(redirect("/there"), Response())
    reply = await world.http.request("GET", URL, headers=SECRETS)
    assert not reply.is_foreign
    assert server.got[1][2]["authorization"] == "Bearer x"


async def test_credentials_do_not_come_back_by_a_detour(world: World) -> None:
    server = world.serve(redirect("https://other.example/x"), Response())
    world.serve(redirect(URL), address="8.8.8.2")
    reply = await world.http.request("GET", URL, headers=SECRETS)
    assert reply.is_foreign
    assert "authorization" not in server.got[1][2]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (302, "HEAD", "HEAD"),
    ],
)
async def test_the_method_after_a_redirect(
    world: World, status: int, method: str, then: str
) -> None:
    server = world.serve(redirect("/there", status), Response())
    content = None if method == "HEAD" else b"hello"
    await world.http.request(method, URL, content=content)
    _, _, headers, body = server.got[1]
    assert server.got[1][0] == then
    assert body == (b"hello" if then == method and content else b"")
    assert ("content-length" in headers) is bool(body)


async def test_a_streamed_body_is_not_sent_twice(world: World) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    world.serve(redirect("/there", 307), Response())
    with pytest.raises(Unreachable) as caught:
        await world.http.request("PUT", URL, content=pieces())
    assert caught.value.facts["kind"] == "redirect"


async def test_redirects_end(world: World) -> None:
    server = world.serve(redirect("/again"))
    with pytest.raises(Unreachable) as caught:
        await world.http.request("GET", URL, limits=Limits(redirects=2))
    assert caught.value.facts["kind"] == "redirect"
    assert len(server.got) == 3


async def test_a_redirect_without_a_target_is_an_answer(world: World) -> None:
    world.serve(Response(status_code=302))
    assert (await world.http.request("GET", URL)).status == 302


async def test_no_cookie_is_kept(world: World) -> None:
    server = world.serve(Response(headers={"Set-Cookie": "id=1; Path=/"}))
    await world.http.request("GET", URL)
    await world.http.request("GET", URL)
    assert "cookie" not in server.got[1][2]


async def test_plain_http_can_be_kept_to_local_addresses() -> None:
    world = World(Rules(allow_local=True, plain_hosts=frozenset({"hook.example"})))
    world.network.name("inner.example", "10.0.0.1")
    world.serve(Response(), port=80)
    world.serve(Response(), address="10.0.0.1", port=80)
    world.serve(Response(), address="8.8.8.2", port=80)
    for host in (HOST, "inner.example"):
        await world.http.request("GET", f"http://{host}/", plain=PlainHttp.LOCAL)
    await world.http.request("GET", "http://other.example/")
    with pytest.raises(AddressRefused, match="use https"):
        await world.http.request("GET", "http://other.example/", plain=PlainHttp.LOCAL)


async def test_a_name_with_a_public_and_a_private_address_is_not_local() -> None:
    world = World(Rules(allow_local=True))
    world.network.name("mixed.example", "10.0.0.1", "8.8.8.2")
    with pytest.raises(AddressRefused):
        await world.http.request("GET", "http://mixed.example/", plain=PlainHttp.LOCAL)


async def test_the_installations_own_hosts_may_be_private() -> None:
    world = World(Rules(allow_local=False, local_hosts=frozenset({"10.0.0.1:5000"})))
    world.serve(Response(), address="10.0.0.1", port=5000)
    await world.http.request("GET", "https://10.0.0.1:5000/")
    with pytest.raises(AddressRefused):
        await world.http.request("GET", "https://10.0.0.1:5001/")


async def test_not_even_the_installations_own_hosts_may_be_metadata() -> None:
    world = World(Rules(allow_local=True, local_hosts=frozenset({"169.254.169.254"})))
    with pytest.raises(AddressRefused):
        await world.http.request("GET", "http://169.254.169.254/")


@pytest.mark.parametrize(
    "url",
    ["", "/x", "file:///etc/passwd", "gopher://h/", "https://", "https://a:b@h/", "http://[/"],
)
async def test_what_is_no_url_for_us_is_the_callers_mistake(world: World, url: str) -> None:
    with pytest.raises(InvalidInput):
        await world.http.request("GET", url)
    assert world.network.contacts == []


@pytest.mark.parametrize("host", ["127。0。0。1", "①②⑦.0.0.1", "ⓛocalhost", "localhost"])
async def test_lookalikes_of_local_hosts_get_nowhere(world: World, host: str) -> None:
    world.network.name("localhost", "127.0.0.1")
    with pytest.raises((AddressRefused, InvalidInput)):
        await world.http.request("GET", f"http://{host}/")
    assert world.network.contacts == []


async def test_headers_cannot_be_smuggled_into_a_request() -> None:
    async with GuardedHttp.open(Rules(allow_local=True)) as http:
        with pytest.raises(Unreachable) as caught:
            await http.request("GET", "http://127.0.0.1:9/", headers={"X": "a\r\nHost: evil"})
    assert caught.value.facts["kind"] == "protocol"


async def test_the_transport_meets_only_judged_addresses(world: World) -> None:
    world.serve(Response())
    await world.http.request("GET", URL)
    assert [contact.address for contact in world.network.contacts] == ["8.8.8.1"]


async def test_the_environments_proxies_are_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://169.254.169.254:1")
    world.serve(Response())
    assert (await world.http.request("GET", URL)).status == 200


def test_the_fake_network_is_a_transport_of_httpx() -> None:
    assert issubclass(FakeNetwork, httpx.AsyncBaseTransport)
