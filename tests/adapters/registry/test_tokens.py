"""Tokens for the platform's registry, as that reads them. The real one: tests/connected."""

from __future__ import annotations

import jwt
import pytest
from cryptography import x509

from pipeline.adapters.registry.push_connection import Endpoint
from pipeline.adapters.registry.tokens import (
    PULL,
    PUSH,
    SPARE_S,
    TOKEN_S,
    Access,
    RegistryTokens,
    certificates,
    make_key,
)
from pipeline.errors import Misconfigured

OLD, NEW = make_key(), make_key()
HOST = "registry.example:5000"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def opened(authorization: str) -> dict[str, list[str]]:
    """Repository → actions."""
    token = authorization.removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    return {one["name"]: one["actions"] for one in claims["access"]}


def test_a_token_is_signed_with_the_first_key_and_says_until_when() -> None:
    clock = Clock()
    token = RegistryTokens(HOST, f"{NEW}, {OLD}", clock=clock).token(Access("a/b", PULL))
    newest, _ = x509.load_pem_x509_certificates(certificates(f"{NEW},{OLD}").encode())
    claims = jwt.decode(
        token,
        newest.public_key(),  # type: ignore[arg-type]
        algorithms=["ES256"],
        audience="modelyard-registry",
        issuer="modelyard",
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert claims["exp"] == clock.now + TOKEN_S
    assert claims["access"] == [{"type": "repository", "name": "a/b", "actions": ["pull"]}]


def test_a_token_is_used_again_while_it_is_good_for_a_minute() -> None:
    clock = Clock()
    tokens = RegistryTokens(HOST, NEW, clock=clock)
    first = tokens.token(Access("a/b", PULL))
    assert tokens.token(Access("a/b", PUSH)) != first != tokens.token(Access("a/c", PULL))
    clock.now += TOKEN_S - SPARE_S - 1
    assert tokens.token(Access("a/b", PULL)) == first
    clock.now += 2
    assert tokens.token(Access("a/b", PULL)) != first


@pytest.mark.parametrize(
    ("path", "repositories"),
    [
        ("/v2/layers/acme/blobs/uploads/", {"layers/acme"}),
        ("/v2/images/acme/blobs/x/manifests/1", {"images/acme/blobs/x"}),
        ("/v2/a/blobs/uploads/?mount=sha256:1&from=layers/acme", {"a", "layers/acme"}),
        ("/v2/a/blobs/uploads/u?_state=x%3D&digest=sha256:1", {"a"}),
    ],
)
def test_a_push_opens_the_repositories_of_its_request(path: str, repositories: set[str]) -> None:
    proof = Endpoint(RegistryTokens(HOST, NEW)).authorization(path)["Authorization"]
    assert opened(proof) == {name: list(PUSH) for name in repositories}


def test_without_a_key_nothing_is_proved() -> None:
    tokens = RegistryTokens(HOST, "")
    assert tokens.credentials(Access("a/b", PULL)) is None
    assert Endpoint(tokens).authorization("/v2/a/manifests/1") == {}


@pytest.mark.parametrize("key", ["nonsense", "QUJD", make_key()[:-8]])
def test_a_key_that_is_none_is_told(key: str) -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_REGISTRY_KEYS"):
        RegistryTokens(HOST, key).token(Access("a/b", PULL))


def test_no_key_and_no_token_is_shown() -> None:
    tokens = RegistryTokens(HOST, NEW)
    credentials = tokens.credentials(Access("a/b", PULL))
    assert credentials is not None
    assert NEW not in repr(tokens)
    assert credentials.token not in repr(credentials)
