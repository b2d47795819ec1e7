import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.errors import Misconfigured, Unauthenticated
from schemas.access import Role

KEY = "k" * 32
NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
CLAIMS = Claims(
    subject="user:u1",
    org="acme",
    name="ada",
    role=Role.MEMBER,
    kind=TokenKind.ACCESS,
    id="j1",
    session="s1",
    user="u1",
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=5),
)


def refused(text: str, *, at: datetime = NOW, kind: TokenKind | None = TokenKind.ACCESS) -> str:
    with pytest.raises(Unauthenticated) as caught:
        Signer(KEY).read(text, at=at, kind=kind)
    assert len(text) < 10 or text not in str(caught.value)
    return str(caught.value.facts["reason"])


def forged(
    key: str = KEY, algorithm: str = "HS256", typ: str = "JWT", missing: str = "", **changes: Any
) -> str:
    """A token like ours with some claims changed and one left out."""
    payload = jwt.decode(Signer(KEY).sign(CLAIMS), options={"verify_signature": False}) | changes
    payload.pop(missing, None)
    return jwt.encode(payload, key, algorithm=algorithm, headers={"typ": typ})


def test_a_signed_token_reads_back_as_it_was() -> None:
    assert Signer(KEY).read(Signer(KEY).sign(CLAIMS), at=NOW, kind=TokenKind.ACCESS) == CLAIMS
    without_user = replace(CLAIMS, user=None, subject="token:t1")
    assert Signer(KEY).read(Signer(KEY).sign(without_user), at=NOW, kind=None) == without_user


def test_an_expired_token_is_told_from_an_invalid_one() -> None:
    text = Signer(KEY).sign(CLAIMS)
    assert refused(text, at=CLAIMS.expires_at + timedelta(seconds=5)) == "expired"
    assert refused(text + "x") == "invalid"
    assert refused(forged("z" * 32), at=NOW + timedelta(days=9)) == "invalid"


def test_a_few_seconds_of_clock_difference_are_forgiven() -> None:
    signer, text = Signer(KEY), Signer(KEY).sign(CLAIMS)
    assert signer.read(text, at=CLAIMS.expires_at + timedelta(seconds=4), kind=None) == CLAIMS
    assert signer.read(text, at=NOW - timedelta(seconds=4), kind=None) == CLAIMS
    assert refused(text, at=NOW - timedelta(seconds=6)) == "invalid"


def test_a_refresh_token_opens_nothing() -> None:
    refresh = Signer(KEY).sign(replace(CLAIMS, kind=TokenKind.REFRESH))
    assert refused(refresh) == "wrong_kind"
    assert Signer(KEY).read(refresh, at=NOW, kind=None).kind is TokenKind.REFRESH


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "x" * 10_000,
        "\ud800",
        forged("other key, long enough for HS256"),
        forged(algorithm="HS512", key=KEY * 2),
        forged(typ="at+jwt"),
        forged(iss="somebody else"),
        forged(role="root"),
        forged(kind="id"),
        forged(org=7),
        forged(usr=["u1"]),
        forged(exp="soon"),
        forged(exp=10**30),
        *(forged(missing=name) for name in ("sub", "org", "role", "jti", "kind", "iat", "exp")),
    ],
)
def test_whatever_we_did_not_sign_like_this_is_invalid(text: str) -> None:
    assert refused(text) == "invalid"


def test_an_unsigned_token_is_invalid() -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode()
    body = Signer(KEY).sign(CLAIMS).split(".")[1]
    assert refused(f"{head.rstrip('=')}.{body}.") == "invalid"


def test_a_short_signing_key_is_refused() -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_SIGNING_KEY needs at least 32 bytes"):
        Signer("k" * 31).sign(CLAIMS)
    with pytest.raises(Misconfigured, match="MODELYARD_SIGNING_KEY needs at least 32 bytes"):
        Signer("").read(Signer(KEY).sign(CLAIMS), at=NOW, kind=None)


def test_the_signer_does_not_show_its_key() -> None:
    assert KEY not in repr(Signer(KEY))
