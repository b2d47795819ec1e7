"""The registry client against a registry that speaks the protocol, over a network in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import count

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.adapters.http_guard import GuardedHttp
from pipeline.adapters.http_names import Names, Rules
from pipeline.adapters.registry import RegistryClient
from pipeline.errors import (
    AddressRefused,
    DigestMismatch,
    ImageRejected,
    InvalidInput,
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
)
from pipeline.ports import Credentials, ResolvedImage
from pipeline.rules import references
from tests.support.fake_network import FakeNetwork
from tests.support.fake_registry import (
    Basic,
    Bearer,
    FakeRegistry,
    TokenService,
    digest_of,
)

HOST = "registry.example"
AT = "8.8.8.1"
TOKENS = "auth.example"
STORAGE = "storage.example"
SECRET = Credentials(server=HOST, username="me", password="hunter2")
ACCOUNT = Basic("me", "hunter2")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NeverContent(Bearer):
    def accepts(self, authorization: str | None) -> bool:
        return False


class World:
    """A network with one registry at `registry.example`, and a client that knows only it."""

    def __init__(self, *, allow_local: bool = False, **options: float) -> None:
        self.network = FakeNetwork()
        self.registry = FakeRegistry()
        self.tokens = TokenService()
        self.clock = Clock()
        self.network.name(HOST, AT)
        self.network.listen(AT, 443, self.registry)
        self.network.name(TOKENS, "8.8.8.2")
        self.network.listen("8.8.8.2", 443, self.tokens)
        self.network.name(STORAGE, "8.8.8.3")
        names = Names(self.network.resolve, Rules(allow_local=allow_local), clock=self.clock)
        self.client = RegistryClient(
            GuardedHttp(self.network, names),
            clock=self.clock,
            document_max_bytes=4096,
            **options,  # type: ignore[arg-type]
        )

    def demand_token(self, account: Basic | None = None, **options: int) -> None:
        self.tokens = TokenService(account, **options)
        self.network.listen("8.8.8.2", 443, self.tokens)
        self.registry.auth = Bearer(f"https://{TOKENS}/token", self.tokens)

    async def resolve(
        self,
        reference: str = f"{HOST}/team/model:1",
        *,
        platform: str | None = None,
        credentials: Credentials | None = None,
    ) -> ResolvedImage:
        return await self.client.resolve(
            references.parse(reference), platform=platform, credentials=credentials
        )


@pytest.fixture
def world() -> World:
    return World()


# --- what an image is -------------------------------------------------------------------------


async def test_an_image_is_described_without_being_copied(world: World) -> None:
    digest = world.registry.push(
        "team/model",
        "1",
        layers=[b"one", b"three"],
        config={
            "Entrypoint": ["/serve"],
            "Cmd": ["--fast"],
            "Env": ["A=1", "CUDA_VERSION=12.4.1"],
            "Labels": {"a": "b"},
            "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
            "User": "1000",
            "Healthcheck": {"Test": ["CMD", "true"]},
        },
    )
    image = await world.resolve()
    assert image.digest == image.parts.digest == digest
    assert image.parts.tag == "1"
    assert str(image.platform) == "linux/amd64"
    assert image.command == ("/serve", "--fast")
    assert image.env == {"A": "1", "CUDA_VERSION": "12.4.1"}
    assert image.labels == {"a": "b"}
    assert image.needs.ports == [8080]
    assert image.needs.cuda == "12.4"
    assert image.user == "1000"
    assert image.has_healthcheck
    assert [layer.size_bytes for layer in image.layers] == [3, 5]
    assert image.size_bytes > 8
    assert image.missing == ()
    assert not world.registry.asked("GET", digest_of(b"one"))


async def test_a_digest_is_resolved_like_a_tag(world: World) -> None:
    digest = world.registry.push("team/model", None)
    image = await world.resolve(f"{HOST}/team/model@{digest}")
    assert image.digest == digest
    assert image.parts.tag is None


async def test_every_missing_layer_is_listed(world: World) -> None:
    world.registry.push("team/model", "1", layers=[b"a", b"b", b"c"])
    world.registry.lose_blob("team/model", digest_of(b"a"))
    world.registry.lose_blob("team/model", digest_of(b"c"))
    image = await world.resolve()
    assert image.missing == (digest_of(b"a"), digest_of(b"c"))


async def test_a_foreign_layer_is_not_looked_for(world: World) -> None:
    layer = world.registry.blob("team/model", b"x", "application/vnd.docker.image.rootfs.foreign")
    config = world.registry.blob(
        "team/model",
        b'{"os":"linux","architecture":"amd64"}',
        "application/vnd.oci.image.config.v1+json",
    )
    world.registry.lose_blob("team/model", layer["digest"])
    document = {"schemaVersion": 2, "config": config, "layers": [layer]}
    world.registry.put(
        "team/model",
        "1",
        "application/vnd.oci.image.manifest.v1+json",
        json.dumps(document).encode(),
    )
    assert (await world.resolve()).missing == ()
    assert not world.registry.asked("HEAD", layer["digest"])


async def test_a_missing_configuration_rejects_the_image(world: World) -> None:
    world.registry.push("team/model", "1", config={"Cmd": ["x"]})
    world.registry.intercept = lambda request: (
        Response(status_code=404)
        if request.method == "GET" and "/blobs/" in str(request.url)
        else None
    )
    with pytest.raises(ImageRejected) as caught:
        await world.resolve()
    assert caught.value.facts["findings"][0]["code"] == "config_missing"


async def test_a_manifest_of_schema_1_is_refused_clearly(world: World) -> None:
    world.registry.put("team/model", "1", "application/json", b'{"schemaVersion": 1}')
    with pytest.raises(ImageRejected, match="schema 1"):
        await world.resolve()


async def test_something_else_than_an_image_is_refused(world: World) -> None:
    chart = world.registry.blob("team/model", b"{}", "application/vnd.cncf.helm.config.v1+json")
    document = {"schemaVersion": 2, "config": chart, "layers": []}
    world.registry.put("team/model", "1", "application/json", json.dumps(document).encode())
    with pytest.raises(ImageRejected, match="helm"):
        await world.resolve()


# --- platforms --------------------------------------------------------------------------------


def push_both(registry: FakeRegistry, *more: tuple[str, dict[str, str]]) -> dict[str, str]:
    found = {
        name: registry.push("team/model", None, architecture=name) for name in ("amd64", "arm64")
    }
    entries = [(found[name], {"os": "linux", "architecture": name}) for name in ("arm64", "amd64")]
    registry.push_index("team/model", "1", *more, *entries)
    return found


async def test_of_an_index_the_platform_of_the_nodes_is_taken(world: World) -> None:
    found = push_both(world.registry)
    assert (await world.resolve()).digest == found["amd64"]


async def test_of_an_index_the_platform_that_was_asked_for_is_taken(world: World) -> None:
    found = push_both(world.registry)
    for spelling in ("linux/arm64", "linux/arm64/v8", "arm64", "linux/aarch64"):
        image = await world.resolve(platform=spelling)
        assert image.digest == found["arm64"]
        assert image.platform.architecture == "arm64"


async def test_attestations_in_an_index_are_ignored(world: World) -> None:
    unknown = {"os": "unknown", "architecture": "unknown"}
    found = push_both(world.registry, ("sha256:" + "0" * 64, unknown))
    assert (await world.resolve()).digest == found["amd64"]


async def test_another_supported_platform_is_better_than_none(world: World) -> None:
    digest = world.registry.push("team/model", None, architecture="arm64")
    world.registry.push_index("team/model", "1", (digest, {"os": "linux", "architecture": "arm64"}))
    assert (await world.resolve()).digest == digest


async def test_a_platform_that_an_index_lacks_is_refused_naming_what_is_there(world: World) -> None:
    push_both(world.registry)
    with pytest.raises(ImageRejected, match="linux/amd64, linux/arm64, not for linux/s390x"):
        await world.resolve(platform="linux/s390x")


async def test_a_single_image_of_another_platform_than_asked_for_is_refused(world: World) -> None:
    world.registry.push("team/model", "1")
    with pytest.raises(ImageRejected) as caught:
        await world.resolve(platform="linux/arm64")
    assert caught.value.facts["findings"][0]["code"] == "platform_unavailable"


async def test_a_malformed_platform_is_the_callers_mistake(world: World) -> None:
    with pytest.raises(InvalidInput, match="linux/arm64"):
        await world.resolve(platform="linux/arm64/v8/extra")


async def test_an_index_of_indexes_ends(world: World) -> None:
    body = b""
    digest = world.registry.push("team/model", None)
    for depth in range(6):
        entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest}
        body = json.dumps({"schemaVersion": 2, "manifests": [entry], "depth": depth}).encode()
        digest = world.registry.put("team/model", "1", "application/json", body)
    with pytest.raises(ImageRejected, match="too deeply"):
        await world.resolve()


# --- who asks ---------------------------------------------------------------------------------


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


# --- what may go wrong ------------------------------------------------------------------------


async def test_an_absent_tag_is_not_found(world: World) -> None:
    world.registry.push("team/model", "1")
    with pytest.raises(ManifestNotFound):
        await world.resolve(f"{HOST}/team/model:2")


async def test_429_carries_how_long_to_wait(world: World) -> None:
    world.registry.intercept = lambda request: Response(
        status_code=429, headers={"Retry-After": "17"}
    )
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve()
    assert caught.value.facts["retry_after_s"] == 17
    assert len(world.registry.seen) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_failing_registry_may_be_asked_again(world: World, status: int) -> None:
    world.registry.intercept = lambda request: Response(status_code=status)
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve()
    assert caught.value.retryable


@pytest.mark.parametrize("status", [200, 400, 405, 406, 418])
async def test_a_web_page_is_not_a_registry(world: World, status: int) -> None:
    world.registry.intercept = lambda request: Response(
        "<html>hello</html>", status, media_type="text/html"
    )
    with pytest.raises(RegistryProtocolError, match="OCI registry"):
        await world.resolve()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 4000,
        b"{}",
        b'{"layers": [], "manifests": []}',
        b'{"layers": {}, "config": {}}',
        b'{"layers": [], "config": []}',
        b'{"manifests": [{"digest": "../../etc/passwd"}]}',
        b'{"manifests": [{"digest": "sha256:abc"}]}',
        b'{"manifests": [1]}',
        b'{"layers": [], "config": {"digest": 1, "size": 1}}',
        b'{"layers": [], "config": {"digest": "sha256:%s", "size": -1}}' % (b"0" * 64),
        b'{"layers": [], "config": {"digest": "sha256:%s", "size": true}}' % (b"0" * 64),
        b'{"layers": [], "config": {"digest": "sha256:%s", "size": 1e400}}' % (b"0" * 64),
    ],
)
async def test_a_broken_manifest_is_the_registrys_fault(world: World, body: bytes) -> None:
    world.registry.put("team/model", "1", "application/json", body)
    with pytest.raises(RegistryProtocolError):
        await world.resolve()


async def test_an_empty_index_has_no_platform(world: World) -> None:
    world.registry.push_index("team/model", "1")
    with pytest.raises(ImageRejected, match="no platform"):
        await world.resolve()


async def test_a_manifest_that_is_not_what_its_digest_says_is_refused(world: World) -> None:
    digest = world.registry.push("team/model", None)
    world.registry.intercept = lambda request: (
        JSONResponse({"schemaVersion": 2}) if "/manifests/" in request.url.path else None
    )
    with pytest.raises(DigestMismatch):
        await world.resolve(f"{HOST}/team/model@{digest}")


async def test_a_manifest_that_is_not_what_the_registry_says_is_refused(world: World) -> None:
    world.registry.intercept = lambda request: Response(
        b'{"schemaVersion": 2}', headers={"Docker-Content-Digest": "sha256:" + "0" * 64}
    )
    with pytest.raises(DigestMismatch):
        await world.resolve()


async def test_a_configuration_that_is_not_what_its_digest_says_is_refused(world: World) -> None:
    world.registry.push("team/model", "1")
    world.registry.intercept = lambda request: (
        JSONResponse({}) if "/blobs/" in request.url.path else None
    )
    with pytest.raises(DigestMismatch):
        await world.resolve()


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_an_oversize_body_is_refused(world: World, part: str) -> None:
    world.registry.push("team/model", "1")
    world.registry.intercept = lambda request: (
        Response(b" " * 4097) if part in request.url.path else None
    )
    with pytest.raises(ImageRejected, match="exceeds 4096 bytes"):
        await world.resolve()


async def test_a_configuration_that_announces_too_much_is_not_even_asked_for(
    world: World,
) -> None:
    world.registry.push("team/model", "1", config={"Cmd": ["x" * 5000]})
    with pytest.raises(ImageRejected, match="exceeds 4096 bytes"):
        await world.resolve()
    assert not world.registry.asked("GET", "/blobs/")


@pytest.mark.parametrize("status", [400, 405])
async def test_head_answered_with_a_refusal_of_head_turns_into_get(
    world: World, status: int
) -> None:
    world.registry.push("team/model", "1", layers=[b"here", b""])
    world.registry.lose_blob("team/model", digest_of(b""))
    world.registry.intercept = lambda request: (
        Response(status_code=status) if request.method == "HEAD" else None
    )
    assert (await world.resolve()).missing == (digest_of(b""),)
    (asked,) = world.registry.asked("GET", digest_of(b"here"))
    assert asked.headers["range"] == "bytes=0-0"


async def test_a_registry_that_hangs_is_given_up() -> None:
    world = World(resolve_s=0.05)
    world.registry.pause = asyncio.Event().wait
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve()
    assert caught.value.facts["kind"] == "timeout"


async def test_one_request_that_hangs_is_given_up() -> None:
    world = World(request_s=0.05)
    world.registry.pause = asyncio.Event().wait
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve()
    assert caught.value.facts["kind"] == "timeout"


async def test_a_name_that_does_not_exist_is_said_so(world: World) -> None:
    with pytest.raises(RegistryUnavailable) as caught:
        await world.resolve("nowhere.example/team/model:1")
    assert caught.value.facts["kind"] == "dns"


# --- redirects --------------------------------------------------------------------------------


def redirect_blobs(world: World, to: Callable[[str], str], status: int = 307) -> None:
    world.registry.intercept = lambda request: (
        Response(status_code=status, headers={"Location": to(request.url.path)})
        if "/blobs/" in request.url.path
        else None
    )


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


# --- addresses --------------------------------------------------------------------------------


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


# --- plain HTTP -------------------------------------------------------------------------------


async def test_a_private_registry_without_tls_is_spoken_to_plainly() -> None:
    world = World(allow_local=True)
    world.network.listen("127.0.0.1", 5000, world.registry, tls=False)
    world.registry.push("team/model", "1")
    await world.resolve("127.0.0.1:5000/team/model:1")
    await world.resolve("127.0.0.1:5000/team/model:1")
    schemes = [contact.url.partition(":")[0] for contact in world.network.contacts]
    assert schemes == ["https"] + ["http"] * 4


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
    client = RegistryClient(GuardedHttp(world.network, Names(world.network.resolve, rules)))
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


# --- how often it asks ------------------------------------------------------------------------


async def test_a_second_look_at_a_tag_costs_one_request_without_a_body(world: World) -> None:
    world.registry.push("team/model", "1")
    first = await world.resolve()
    del world.registry.seen[:]
    assert await world.resolve() == first
    assert [(seen.method, seen.status) for seen in world.registry.seen] == [("GET", 304)]


async def test_a_moved_tag_is_noticed(world: World) -> None:
    world.registry.push("team/model", "1")
    await world.resolve()
    moved = world.registry.push("team/model", "1", config={"Cmd": ["other"]})
    image = await world.resolve()
    assert image.digest == moved
    assert image.command == ("other",)


async def test_an_old_presence_is_checked_again(world: World) -> None:
    world.registry.push("team/model", "1")
    await world.resolve()
    world.registry.lose_blob("team/model", digest_of(b"layer"))
    assert (await world.resolve()).missing == ()
    world.clock.now += 61
    assert (await world.resolve()).missing == (digest_of(b"layer"),)


async def test_a_digest_opens_no_other_repository(world: World) -> None:
    world.registry.push("team/model", "1", layers=[b"a"])
    world.registry.push("team/other", "1", layers=[b"a"])
    await world.resolve()
    world.registry.lose_blob("team/other", digest_of(b"a"))
    assert (await world.resolve(f"{HOST}/team/other:1")).missing == (digest_of(b"a"),)


async def test_what_one_caller_saw_is_not_shown_to_one_without_access(world: World) -> None:
    digest = world.registry.push("team/model", "1")
    world.registry.auth = ACCOUNT
    await world.resolve(credentials=SECRET)
    for reference in (f"{HOST}/team/model:1", f"{HOST}/team/model@{digest}"):
        with pytest.raises(RegistryDenied):
            await world.resolve(reference)


async def test_a_deleted_tag_is_noticed_at_once(world: World) -> None:
    world.registry.push("team/model", "1")
    await world.resolve()
    world.registry.intercept = lambda request: Response(status_code=404)
    with pytest.raises(ManifestNotFound):
        await world.resolve()


# --- lists and blobs --------------------------------------------------------------------------


async def test_tags_are_read_page_by_page(world: World) -> None:
    tags = [f"{number:03}" for number in range(250)]
    for tag in tags:
        world.registry.push("team/model", tag)
    assert await world.client.tags(HOST, "team/model", most=1000) == tags
    assert await world.client.tags(HOST, "team/model", most=120) == tags[:120]
    assert await world.client.tags(HOST, "team/model", most=7) == tags[:7]


async def test_the_catalog_is_read(world: World) -> None:
    world.registry.push("a/b", "1")
    world.registry.push("c", "1")
    assert await world.client.catalog(HOST, most=10) == ["a/b", "c"]


async def test_the_tags_of_an_unknown_repository_are_not_found(world: World) -> None:
    with pytest.raises(ManifestNotFound):
        await world.client.tags(HOST, "team/unknown", most=10)


async def test_a_list_that_goes_on_elsewhere_is_not_followed(world: World) -> None:
    world.registry.intercept = lambda request: JSONResponse(
        {"tags": ["1"]}, headers={"Link": f'<https://{STORAGE}/v2/x/tags/list>; rel="next"'}
    )
    with pytest.raises(RegistryProtocolError, match="another host"):
        await world.client.tags(HOST, "x", most=10)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": 1}', b'{"tags": [1]}', b"<html>"])
async def test_a_list_that_is_none_is_the_registrys_fault(world: World, body: bytes) -> None:
    world.registry.intercept = lambda request: Response(body)
    with pytest.raises(RegistryProtocolError):
        await world.client.tags(HOST, "x", most=10)


async def test_a_repository_that_lost_its_last_tag_has_none(world: World) -> None:
    world.registry.intercept = lambda request: JSONResponse({"name": "x", "tags": None})
    assert await world.client.tags(HOST, "x", most=10) == []


async def test_blobs_are_looked_for(world: World) -> None:
    world.registry.push("team/model", "1", layers=[b"a"])
    assert await world.client.has_blob(HOST, "team/model", digest_of(b"a"))
    assert not await world.client.has_blob(HOST, "team/model", digest_of(b"b"))
