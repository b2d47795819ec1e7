from typing import Any

import pytest

from pipeline.errors import InvalidInput, InvalidReference
from pipeline.secrets.types import FIELDS, SecretDraft, parse, registry_server
from schemas.registries.secret import SecretType

SERVERS = {SecretType.DOCKER_HUB: "registry-1.docker.io", SecretType.DEPOT: "registry.depot.dev"}
TOKEN = {"username": "ada", "token": "s3cr3t"}
PASSWORD = {"server": "nvcr.io", "username": "$oauthtoken", "password": "s3cr3t"}


def draft(secret_type: str, data: object, name: object = "mine") -> SecretDraft:
    return parse(name, secret_type, data, servers=SERVERS)


def errors(secret_type: Any, data: object, name: object = "mine") -> Any:
    with pytest.raises(InvalidInput) as caught:
        parse(name, secret_type, data, servers=SERVERS)
    assert "s3cr3t" not in str(caught.value) + repr(caught.value.facts)
    return {
        field: [one.message for one in found]
        for field, found in caught.value.facts["faults"].items()
    }


@pytest.mark.parametrize(
    ("secret_type", "server"),
    [("docker_hub", "registry-1.docker.io"), ("depot", "registry.depot.dev")],
)
def test_token_types_have_a_default_server(secret_type: str, server: str) -> None:
    made = draft(secret_type, TOKEN)
    assert made.credentials.server == server
    assert (made.credentials.username, made.credentials.password) == ("ada", "s3cr3t")
    chosen = draft(secret_type, TOKEN | {"server": "mirror.acme.org:5000"})
    assert chosen.credentials.server == "mirror.acme.org:5000"


@pytest.mark.parametrize("secret_type", ["nvidiadockersecret", "registry"])
def test_password_types_name_their_server(secret_type: str) -> None:
    assert draft(secret_type, PASSWORD).credentials.server == "nvcr.io"
    assert errors(secret_type, PASSWORD | {"server": ""}) == {"data": ["server is required."]}


@pytest.mark.parametrize("secret_type", list(SecretType))
def test_every_gap_is_told_at_once(secret_type: SecretType) -> None:
    required = [f"{field.name} is required." for field in FIELDS[secret_type] if field.required]
    assert errors(secret_type, {}) == {"data": required}
    assert errors(secret_type, {"username": None, "token": " ", "password": ""}) == {
        "data": required
    }


def test_the_faults_of_all_fields_come_together() -> None:
    assert errors("ftp", [], name=" ") == {
        "name": ["must not be blank"],
        "secret_type": ["must be one of docker_hub, depot, nvidiadockersecret, registry"],
        "data": ["must be an object"],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token": 7}, "token must be a string."),
        ({"token": ["s3cr3t"]}, "token must be a string."),
        ({"token": "s3cr3t" * 4096}, "token must have no more than 16384 characters."),
        ({"token": "s3cr3t\0"}, "token must be Unicode text without NUL."),
        ({"token": "s3cr3t\ud800"}, "token must be Unicode text without NUL."),
        ({"username": "a:b"}, "username must not contain a colon."),
        ({"server": "s3cr3t/path"}, "server must be host or host:port."),
        ({"server": "ada:s3cr3t@host"}, "server must be host or host:port."),
    ],
)
def test_a_bad_value_is_named_but_not_shown(change: dict[str, Any], message: str) -> None:
    assert errors("docker_hub", TOKEN | change) == {"data": [message]}


@pytest.mark.parametrize("name", [None, 7, "", "x" * 256, "a\nb", "a\0b", "a\x85b", "\ud800"])
def test_a_bad_name_is_refused(name: object) -> None:
    assert list(errors("docker_hub", TOKEN, name)) == ["name"]


@pytest.mark.parametrize("name", ["x" * 255, "日本", "a\u00a0b", "\U0001f469\u200d\U0001f4bb"])
def test_a_name_may_be_in_any_script(name: str) -> None:
    assert draft("docker_hub", TOKEN, name).name == name


@pytest.mark.parametrize("secret_type", [None, 7, "", "DOCKER_HUB"])
def test_an_unknown_type_is_refused(secret_type: object) -> None:
    assert list(errors(secret_type, TOKEN)) == ["secret_type"]


def test_other_values_are_not_kept_and_names_are_trimmed() -> None:
    made = draft("docker_hub", TOKEN | {"email": "ada@acme.org"}, name=" mine ")
    assert made == draft("docker_hub", TOKEN)


@pytest.mark.parametrize("stray", ["other", 7, None, ["s3cr3t"]])
def test_a_value_that_the_kind_does_not_have_is_never_taken_for_the_proof(stray: object) -> None:
    by_password = draft("registry", PASSWORD | {"token": stray})
    assert by_password == draft("registry", PASSWORD)
    assert by_password.credentials.password == "s3cr3t"
    assert draft("docker_hub", TOKEN | {"password": stray}) == draft("docker_hub", TOKEN)


@pytest.mark.parametrize("server", [None, "", "  "])
def test_a_blank_server_is_one_that_was_left_out(server: str | None) -> None:
    assert draft("depot", TOKEN | {"server": server}) == draft("depot", TOKEN)


def test_the_password_does_not_show_in_repr() -> None:
    assert "s3cr3t" not in repr(draft("docker_hub", TOKEN))


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("NVCR.io", "nvcr.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("ghcr.io:443", "ghcr.io"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_spellings_of_one_server_become_the_same(text: str, server: str) -> None:
    assert registry_server(text) == server


@pytest.mark.parametrize("text", ["", "a/b", "ftp://a", "a:0", "a b", "https://", "u@h", "a:70000"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        registry_server(text)
