"""What is asked again and what is not, and what misbehaving registries lead to."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.errors import (
    DigestMismatch,
    ImageRejected,
    ManifestNotFound,
    RegistryDenied,
    RegistryProtocolError,
    RegistryUnavailable,
)
from tests.support.registries.fake_registry import digest_of
from tests.support.registries.registry_world import ACCOUNT, HOST, SECRET, STORAGE, World, has_blob


@pytest.fixture
def world() -> World:
    return World()


# --- what may go wrong --------------------------------------------------------------------------


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


async def test_what_has_its_digest_may_be_served_as_a_web_page(world: World) -> None:
    digest = world.registry.push("team/model", "1", config={"Cmd": ["x"]})

    def as_page(request: Request) -> Response | None:
        body = world.registry.stored(request.url.path) if request.method == "GET" else None
        return None if body is None else Response(body, media_type="text/html")

    world.registry.intercept = as_page
    assert (await world.resolve(f"{HOST}/team/model@{digest}")).command == ("x",)


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


@pytest.mark.parametrize(
    ("part", "rest"), [("layers", {"config": {}}), ("manifests", {}), ("config", {"layers": []})]
)
async def test_a_part_that_is_null_is_named(
    world: World, part: str, rest: dict[str, object]
) -> None:
    body = json.dumps({"schemaVersion": 2, part: None, **rest}).encode()
    world.registry.put("team/model", "1", "application/json", body)
    with pytest.raises(RegistryProtocolError, match=f"{part} is null"):
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


def compressing(world: World, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """From now on every document is sent so, although nobody asks for it."""

    def answer(request: Request) -> Response | None:
        assert request.headers.get("accept-encoding", "identity") == "identity"
        found = world.registry.stored(request.url.path)
        if request.method != "GET" or found is None:
            return None
        return Response(pack(found), headers={"Content-Encoding": encoding})

    world.registry.intercept = answer


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
async def test_documents_that_come_compressed_are_opened_and_then_verified(
    world: World, encoding: str
) -> None:
    digest = world.registry.push("team/model", "1")
    compressing(world, encoding, gzip.compress)
    for reference in (f"{HOST}/team/model:1", f"{HOST}/team/model@{digest}"):
        assert (await world.resolve(reference)).digest == digest
    compressing(world, encoding, lambda body: gzip.compress(body + b" "))
    with pytest.raises(DigestMismatch):
        await world.resolve(f"{HOST}/team/model@{digest}")


async def test_a_document_that_opens_to_too_much_is_refused(world: World) -> None:
    world.registry.push("team/model", "1")
    compressing(world, "gzip", lambda body: gzip.compress(bytes(64 * 1024 * 1024)))
    with pytest.raises(ImageRejected, match="exceeds 4096 bytes"):
        await world.resolve()


@pytest.mark.parametrize(
    ("encoding", "pack", "told"),
    [
        ("gzip", lambda body: body, "broken gzip"),
        ("gzip", lambda body: gzip.compress(body)[:-9], "ends early"),
        ("br", lambda body: body, "Content-Encoding br"),
    ],
)
async def test_a_compression_that_cannot_be_opened_is_named(
    world: World, encoding: str, pack: Callable[[bytes], bytes], told: str
) -> None:
    world.registry.push("team/model", "1")
    compressing(world, encoding, pack)
    with pytest.raises(RegistryProtocolError, match=told):
        await world.resolve()


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_an_oversize_body_is_refused(world: World, part: str) -> None:
    world.registry.push("team/model", "1")
    world.registry.intercept = lambda request: (
        Response(b" " * 4097) if part in request.url.path else None
    )
    with pytest.raises(ImageRejected, match="exceeds 4096 bytes"):
        await world.resolve()


async def test_a_configuration_that_announces_too_much_is_not_even_asked_for(world: World) -> None:
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
    with pytest.raises(RegistryUnavailable, match=f"{HOST}:443 cannot be reached") as caught:
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


# --- how often it asks --------------------------------------------------------------------------


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


# --- lists and blobs ----------------------------------------------------------------------------


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
    assert await has_blob(world.client, HOST, "team/model", digest_of(b"a"))
    assert not await has_blob(world.client, HOST, "team/model", digest_of(b"b"))
