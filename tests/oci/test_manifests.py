"""Manifests and configurations are read as hostile."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ImageRejected, RegistryProtocolError
from pipeline.oci import manifests, platforms
from pipeline.oci.manifests import Config, Index, Manifest

DIGEST = "sha256:" + "0" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 7}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 11}


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def read_config(**inner: Any) -> Config:
    return manifests.read_config(body({"os": "linux", "architecture": "amd64", "config": inner}))


def test_a_manifest_of_one_image() -> None:
    found = manifests.read_manifest(body({"config": CONFIG, "layers": [LAYER, LAYER]}))
    assert isinstance(found, Manifest)
    assert found.size_bytes == 7 + 11 + 11
    assert found.layers[0].media_type.endswith("tar+gzip")


def test_an_index_without_what_is_no_image() -> None:
    entries = [
        {"digest": DIGEST, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
        {"digest": DIGEST, "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": DIGEST, "platform": {"os": "unknown"}},
        {"digest": DIGEST, "mediaType": "application/vnd.in-toto+json"},
        {"digest": DIGEST},
    ]
    found = manifests.read_manifest(body({"manifests": entries}))
    assert isinstance(found, Index)
    assert [str(entry.platform) for entry in found.entries] == ["linux/arm/v7", "None"]


@pytest.mark.parametrize(
    ("artifact", "is_left_out"),
    [("application/x-note", True), (CONFIG["mediaType"], False), ("", False)],
)
def test_an_entry_that_calls_itself_an_artifact_is_left_out(
    artifact: str, is_left_out: bool
) -> None:
    found = manifests.read_manifest(
        body({"manifests": [{"digest": DIGEST, "artifactType": artifact}]})
    )
    assert isinstance(found, Index)
    assert (found.entries == ()) is is_left_out


@pytest.mark.parametrize(
    ("own", "indexed", "expected"),
    [
        ({}, "linux/amd64", "linux/amd64"),
        ({"architecture": ""}, "linux/arm64/v8", "linux/arm64/v8"),
        ({"os": "linux", "architecture": "arm64"}, "linux/amd64", "linux/arm64"),
        ({"os": "linux", "architecture": "arm64"}, "linux/arm64/v8", "linux/arm64/v8"),
        ({"os": "linux", "architecture": "arm64"}, "linux/amd64/v3", "linux/arm64"),
        ({"os": "linux", "architecture": "amd64"}, None, "linux/amd64"),
        ({}, None, "unknown/unknown"),
    ],
)
def test_an_index_tells_what_a_configuration_leaves_out(
    own: dict[str, str], indexed: str | None, expected: str
) -> None:
    config = manifests.read_config(body(own))
    told = platforms.parse(indexed) if indexed else None
    assert str(manifests.told_by_index(config.platform, told)) == expected


@pytest.mark.parametrize("count", [513])
def test_a_manifest_has_a_sane_number_of_layers(count: int) -> None:
    with pytest.raises(RegistryProtocolError, match="at most 512"):
        manifests.read_manifest(body({"config": CONFIG, "layers": [LAYER] * count}))


def test_a_document_that_reads_as_both_is_refused() -> None:
    with pytest.raises(RegistryProtocolError):
        manifests.read_manifest(body({"config": CONFIG, "layers": [], "manifests": []}))


def test_schema_1_is_refused_with_a_finding() -> None:
    with pytest.raises(ImageRejected) as caught:
        manifests.read_manifest(body({"schemaVersion": 1}))
    assert caught.value.facts["findings"][0]["code"] == "schema1_manifest"


def test_foreign_layers_are_told() -> None:
    for media_type, foreign in [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", True),
        ("application/vnd.oci.image.layer.v1.tar+zstd", False),
    ]:
        found = manifests.read_manifest(
            body({"config": CONFIG, "layers": [LAYER | {"mediaType": media_type}]})
        )
        assert isinstance(found, Manifest)
        assert manifests.is_foreign(found.layers[0]) is foreign


def test_a_configuration_with_everything() -> None:
    config = read_config(
        Entrypoint=["/serve"],
        Cmd=["--fast"],
        Env=["A=1", "B=x=y", "C", "=d"],
        Labels={"a": "b"},
        ExposedPorts={"9000/tcp": {}, "8080": {}, "53/udp": {}, "0/tcp": {}, "70000/tcp": {}},
        User="me",
        Healthcheck={"Test": ["CMD", "true"]},
    )
    assert config.command == ("/serve", "--fast")
    assert config.env == {"A": "1", "B": "x=y", "C": ""}
    assert config.ports == (8080, 9000)
    assert config.has_healthcheck


def test_a_configuration_with_nothing() -> None:
    config = manifests.read_config(b"{}")
    assert str(config.platform) == "unknown/unknown"
    assert (config.command, config.ports, config.user) == ((), (), "")


@pytest.mark.parametrize("check", [{"Test": ["NONE"]}, {"Test": []}, {}, None])
def test_a_healthcheck_that_was_switched_off_is_none(check: object) -> None:
    assert not read_config(Healthcheck=check).has_healthcheck


@pytest.mark.parametrize(
    "inner",
    [
        {"Env": "A=1"},
        {"Env": [1]},
        {"Cmd": "sh"},
        {"Entrypoint": {"a": 1}},
        {"ExposedPorts": ["80"]},
        {"Labels": [1]},
        {"User": 0},
        {"Healthcheck": []},
        {"Healthcheck": {"Test": "x"}},
    ],
)
def test_a_configuration_of_wrong_types_is_refused(inner: dict[str, Any]) -> None:
    with pytest.raises(RegistryProtocolError):
        read_config(**inner)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("manifests", "layers", "config", "digest", "size", "mediaType", "platform"),
                    *("os", "architecture", "schemaVersion"),
                    *("Env", "Cmd", "ExposedPorts", "Labels", "Healthcheck", "Test", "User"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_json)
def test_any_json_is_read_or_refused_within_the_error_tree(document: object) -> None:
    for read in (manifests.read_manifest, manifests.read_config):
        with contextlib.suppress(RegistryProtocolError, ImageRejected):
            read(body(document))
