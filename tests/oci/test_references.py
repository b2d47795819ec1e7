"""References are parsed once, strictly, and written back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InvalidReference
from pipeline.oci import references
from pipeline.oci.references import DOCKER_HUB, Reference, parse
from schemas.image import ReferenceParts

HEX = "0123456789abcdef"
SHA256 = "sha256:" + HEX * 4
SHA512 = "sha512:" + HEX * 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Reference(DOCKER_HUB, "library/nginx", "latest")),
        ("nginx:1.27", Reference(DOCKER_HUB, "library/nginx", "1.27")),
        ("team/model", Reference(DOCKER_HUB, "team/model", "latest")),
        ("docker.io/nginx", Reference(DOCKER_HUB, "library/nginx", "latest")),
        ("index.docker.io/team/m:1", Reference(DOCKER_HUB, "team/m", "1")),
        ("registry.hub.docker.com/nginx:1", Reference(DOCKER_HUB, "library/nginx", "1")),
        ("registry-1.docker.io/library/nginx:1", Reference(DOCKER_HUB, "library/nginx", "1")),
        ("localhost/m:1", Reference("localhost", "m", "1")),
        ("localhost:5000/m", Reference("localhost:5000", "m", "latest")),
        ("127.0.0.1:5000/a/b/c:v_1.0-x", Reference("127.0.0.1:5000", "a/b/c", "v_1.0-x")),
        ("[::1]:5000/m:1", Reference("[::1]:5000", "m", "1")),
        ("ECR.Example/m:V1", Reference("ecr.example", "m", "V1")),
        (f"nginx@{SHA256}", Reference(DOCKER_HUB, "library/nginx", None, SHA256)),
        (f"ghcr.io/a/b:1@{SHA256}", Reference("ghcr.io", "a/b", "1", SHA256)),
        (f"ghcr.io/a/b@{SHA512}", Reference("ghcr.io", "a/b", None, SHA512)),
        ("ghcr.io/a__b/c--d.e_f:1", Reference("ghcr.io", "a__b/c--d.e_f", "1")),
        ("https://ecr.example/v2/a/b/manifests/1", Reference("ecr.example", "a/b", "1")),
        ("https://h.example:8443/v2/m/manifests/1", Reference("h.example:8443", "m", "1")),
        (
            "https://registry.hub.docker.com/v2/library/nginx/manifests/1",
            Reference(DOCKER_HUB, "library/nginx", "1"),
        ),
        (
            f"https://ecr.example/v2/a/b/manifests/{SHA256}",
            Reference("ecr.example", "a/b", None, SHA256),
        ),
    ],
)
def test_every_form_is_read(text: str, expected: Reference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " nginx",
        "nginx ",
        "nginx\n",
        "nginx:1\n",
        "Team/model",
        "ghcr.io/Team/model",
        "nginx:",
        "nginx:-a",
        "nginx:.a",
        "nginx:" + "a" * 129,
        "nginx@",
        "nginx@sha256:abc",
        f"nginx@{SHA256.upper()}",
        "nginx@md5:" + HEX * 2,
        f"nginx@{SHA256}@{SHA256}",
        "a//b",
        "/a",
        "a/",
        "a..b",
        "a___b",
        "a/../b",
        "ghcr.io/",
        "ghcr.io:1/",
        "ghcr.io:0/a",
        "ghcr.io:65536/a",
        "ghcr.io:/a",
        "-ghcr.io/a",
        "user:pass@ghcr.io/a",
        "user@ghcr.io/a",
        "[::1/a",
        "[::g]:5000/a",
        "[1:2]:5000/a",
        "http://ghcr.io/v2/a/manifests/1",
        "https://ghcr.io/a:1",
        "https://user:pw@ghcr.io/v2/a/manifests/1",
        "https://ghcr.io/v2/a/manifests/1?x=1",
        "https://ghcr.io/v2/a/manifests/",
        "https:///v2/a/manifests/1",
        "docker://ghcr.io/a:1",
        "a" * 513,
        "ghcr.io/" + "a" * 250,
        "ärger",
        "ghcr.io/a\x00b",
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert caught.value.message.endswith(".")
    assert len(caught.value.message) < 400


def test_a_reference_is_split_as_the_container_image_contract_says() -> None:
    parsed = parse("ecr.example/models/location/classifier:0.2.0")
    assert (parsed.registry, parsed.prefix, parsed.namespace, parsed.name) == (
        "ecr.example",
        "models/location",
        "models",
        "classifier",
    )


def test_a_repository_of_one_segment_has_no_prefix_and_no_namespace() -> None:
    parsed = parse("ecr.example/classifier:1")
    assert (parsed.prefix, parsed.namespace, parsed.name) == ("", "", "classifier")


def test_its_fields_are_those_of_the_record() -> None:
    parts = ReferenceParts(**parse(f"nginx:1@{SHA256}").asdict())
    assert parts.repository == "library/nginx"
    assert parts.digest == SHA256


def test_two_spellings_of_a_registry_compare_equal() -> None:
    assert references.registry_host("Docker.IO") == references.registry_host("index.docker.io")
    assert references.registry_host("HOST:5000") == "host:5000"


@pytest.mark.parametrize("text", ["", "https://h", "h/x", "h:", "h:99999", "a b"])
def test_a_registry_host_with_anything_around_it_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        references.registry_host(text)


_label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_host = st.one_of(
    st.lists(_label, min_size=2, max_size=4).map(".".join), st.just("localhost"), st.just("[::1]")
)
_port = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
_component = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
_repository = st.lists(_component, min_size=1, max_size=4).map("/".join)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
_digest = st.text(HEX, min_size=64, max_size=64).map(lambda digits: f"sha256:{digits}")


@st.composite
def _references(draw: st.DrawFn) -> Reference:
    tag, digest = draw(
        st.one_of(
            st.tuples(_tag, st.none()), st.tuples(st.none(), _digest), st.tuples(_tag, _digest)
        )
    )
    return Reference(draw(_host) + draw(_port), draw(_repository), tag, digest)


@given(_references())
def test_writing_and_reading_gives_the_same_reference(reference: Reference) -> None:
    assert parse(str(reference)) == reference


@given(st.text(max_size=80))
def test_any_text_is_either_read_and_written_back_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except InvalidReference:
        return
    assert parse(str(parsed)) == parsed
