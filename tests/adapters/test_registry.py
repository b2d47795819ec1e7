"""What the registry client finds out about an image."""

from __future__ import annotations

import json

import pytest
from starlette.responses import Response

from pipeline.errors import ImageRejected, InvalidInput
from tests.support.fake_registry import FakeRegistry, digest_of
from tests.support.registry_world import HOST, World


@pytest.fixture
def world() -> World:
    return World()


# --- what an image is ---------------------------------------------------------------------------


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


# --- platforms ----------------------------------------------------------------------------------


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
