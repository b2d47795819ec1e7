"""What the registry client finds out about an image."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import Response

from pipeline.errors import ImageRejected, InvalidInput
from pipeline.oci.manifests import OCI_MANIFEST
from tests.support.registries.fake_registry import OCI_INDEX, FakeRegistry, digest_of
from tests.support.registries.registry_world import HOST, World


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


UNUSUAL = ["application/octet-stream", "application/json", "text/html", "", None]


def called(world: World, media_type: str | None, body: bytes, **more: Any) -> None:
    """Something whose configuration has that media type."""
    config = world.registry.blob("team/model", body, "")
    config.pop("mediaType")
    config |= {"mediaType": media_type} if media_type is not None else {}
    layer = world.registry.blob("team/model", b"layer", "application/vnd.oci.image.layer.v1.tar")
    document = {"schemaVersion": 2, "config": config, "layers": [layer], **more}
    world.registry.put("team/model", "1", OCI_MANIFEST, json.dumps(document).encode())


@pytest.mark.parametrize("media_type", UNUSUAL)
async def test_an_image_may_call_its_configuration_otherwise(
    world: World, media_type: str | None
) -> None:
    called(world, media_type, b'{"os":"linux","architecture":"amd64","config":{"Cmd":["x"]}}')
    assert (await world.resolve()).command == ("x",)


@pytest.mark.parametrize("media_type", UNUSUAL)
async def test_under_such_a_name_an_artifact_stays_refused(
    world: World, media_type: str | None
) -> None:
    called(world, media_type, b'{"name":"chart"}')
    with pytest.raises(ImageRejected, match="something else than an image"):
        await world.resolve()
    called(world, media_type, b'{"os":"linux","architecture":"amd64"}', artifactType="x/note")
    with pytest.raises(ImageRejected, match="x/note"):
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


def entry(world: World, tag: str | None, **document: Any) -> dict[str, Any]:
    """An index, pushed, as an entry of another one."""
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX} | document).encode()
    digest = world.registry.put("team/model", tag, OCI_INDEX, body)
    return {"mediaType": OCI_INDEX, "digest": digest, "size": len(body)}


def note(world: World) -> dict[str, Any]:
    """An artifact, as an index lists it."""
    empty = world.registry.blob("team/model", b"{}", "application/vnd.oci.empty.v1+json")
    document = {"schemaVersion": 2, "artifactType": "application/x-note", "config": empty}
    body = json.dumps(document | {"layers": []}).encode()
    digest = world.registry.put("team/model", None, OCI_MANIFEST, body)
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(body)}


def silent(world: World, architecture: str | None, **told: Any) -> dict[str, Any]:
    """An image, as an index lists it that names no platform."""
    digest = world.registry.push("team/model", None, architecture=architecture)
    return {"digest": digest, "size": 1} | told


EMPTY = {"os": "", "architecture": ""}
ARM, AMD = ({"os": "linux", "architecture": name} for name in ("arm64", "amd64"))


@pytest.mark.parametrize("platform", [None, "linux/amd64"])
@pytest.mark.parametrize(
    "entries",
    [
        lambda world: [silent(world, "arm64"), silent(world, "amd64")],
        lambda world: [note(world), silent(world, "amd64")],
        lambda world: [note(world) | {"artifactType": "x/note"}, silent(world, "amd64")],
        lambda world: [silent(world, "arm64", platform=ARM), silent(world, "amd64")],
        lambda world: [{"digest": "sha256:" + "0" * 64}, silent(world, "amd64")],
        lambda world: [
            entry(world, None, manifests=[silent(world, "arm64")]) | {"platform": ARM},
            entry(world, None, manifests=[silent(world, "amd64")]) | {"platform": AMD},
        ],
        lambda world: [
            silent(world, "arm64", platform=ARM),
            entry(world, None, manifests=[note(world), silent(world, "amd64")]),
        ],
        lambda world: [silent(world, name, platform={}) for name in ("arm64", "amd64")],
        lambda world: [silent(world, name, platform=EMPTY) for name in ("arm64", "amd64")],
        lambda world: [silent(world, "amd64", platform={"os": "linux"}, mediaType=None)],
        lambda world: [silent(world, "amd64", platform={"architecture": "amd64"}, mediaType="")],
    ],
    ids=[
        "silent",
        "artifact",
        "typed",
        "beside",
        "absent",
        "nested",
        "platform beside nested",
        "empty platform",
        "empty texts",
        "os alone",
        "architecture alone",
    ],
)
async def test_where_an_index_is_silent_the_configurations_tell(
    world: World, platform: str | None, entries: Callable[[World], list[dict[str, Any]]]
) -> None:
    entry(world, "1", manifests=entries(world))
    assert (await world.resolve(platform=platform)).platform.architecture == "amd64"


@pytest.mark.parametrize("architecture", [None, ""])
async def test_where_a_configuration_is_silent_the_index_tells(
    world: World, architecture: str | None
) -> None:
    told = {"os": "linux", "architecture": "amd64"}
    inner = entry(world, None, manifests=[silent(world, architecture)]) | {"platform": told}
    for tag, listed in (("1", silent(world, architecture, platform=told)), ("2", inner)):
        entry(world, tag, manifests=[listed])
        image = await world.resolve(f"{HOST}/team/model:{tag}", platform="linux/amd64")
        assert str(image.platform) == "linux/amd64"


async def test_an_index_of_artifacts_has_no_platform(world: World) -> None:
    entry(world, "1", manifests=[note(world), note(world)])
    with pytest.raises(ImageRejected, match="no platform"):
        await world.resolve()


async def test_of_a_great_many_silent_entries_only_so_many_are_looked_into(world: World) -> None:
    inner = entry(world, None, manifests=[silent(world, "s390x")] * 30)
    entry(world, "1", manifests=[inner] * 5)
    with pytest.raises(ImageRejected, match="name no platform"):
        await world.resolve()
    assert len(world.registry.asked("GET", "/manifests/")) <= 66


async def test_an_entry_that_says_what_is_wanted_costs_no_look(world: World) -> None:
    listed = [silent(world, "arm64"), silent(world, "amd64", platform=AMD)]
    entry(world, "1", manifests=listed)
    await world.resolve()
    assert world.registry.asked("GET", listed[0]["digest"]) == []


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
