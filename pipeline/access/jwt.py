"""Signed tokens: JWT (RFC 7519) with HS256, read as strictly as they are written."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import ModuleType
from typing import Any, Final

from cachetools import FIFOCache

from pipeline.errors import Misconfigured, Unauthenticated
from schemas.access import Role

ISSUER: Final = "modelyard"
LEEWAY_S: Final = 5
"""How far the clocks of two of our processes may differ."""
_KEY_BYTES: Final = 32
_TYPE: Final = "JWT"
_CLAIMS: Final = ("iss", "sub", "org", "role", "name", "kind", "jti", "sid", "iat", "exp")
_UNJUDGED: Final = dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf"), False)
"""Times are judged by the caller's clock, not by the library's."""
_TEXTS: Final = {"subject": "sub", "org": "org", "name": "name", "id": "jti", "session": "sid"}


class TokenKind(StrEnum):
    ACCESS = "access"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a signed token says. Times are UTC in whole seconds."""

    subject: str
    """The principal, `user:<uuid>` or `token:<uuid>`."""
    org: str
    name: str
    role: Role
    kind: TokenKind
    id: str
    session: str
    """Id of the refresh token that this one hangs on, or its own: revoking it ends both."""
    user: str | None
    """The user with whom it ends, as `User.holder` says it."""
    issued_at: datetime
    expires_at: datetime


REMEMBERED = 1024
"""Genuine tokens whose claims are kept, under a hash of their text."""


class Signer:
    """Signs and reads tokens with one secret. Its calls raise Misconfigured when that is too short.

    It can be made without, so that a process that never meets a token needs no key.
    """

    def __init__(self, key: str) -> None:
        self._bytes = key.encode()
        self._genuine: FIFOCache[bytes, Claims] = FIFOCache(REMEMBERED)

    @property
    def _key(self) -> bytes:
        self.require_key()
        return self._bytes

    def require_key(self) -> None:
        if len(self._bytes) < _KEY_BYTES:
            raise Misconfigured(f"MODELYARD_SIGNING_KEY needs at least {_KEY_BYTES} bytes.")

    def __repr__(self) -> str:
        return "Signer()"

    def sign(self, claims: Claims) -> str:
        jwt = _jwt()
        payload = {
            "iss": ISSUER,
            "sub": claims.subject,
            "org": claims.org,
            "role": claims.role.value,
            "name": claims.name,
            "kind": claims.kind.value,
            "jti": claims.id,
            "sid": claims.session,
            "usr": claims.user,
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
        }
        return str(jwt.encode(payload, self._key, algorithm="HS256", headers={"typ": _TYPE}))

    def derive(self, purpose: str) -> bytes:
        """32 bytes that only who has the key can tell, and always the same for a `purpose`."""
        return hmac.digest(self._key, f"derived\n{purpose}".encode(), "sha256")

    def read(self, text: str, *, at: datetime, kind: TokenKind | None) -> Claims:
        """Raises Unauthenticated; `facts["reason"]` is `invalid`, `expired` or `wrong_kind`.

        `kind` None takes either kind.
        """
        claims = self._verified(text)
        if at >= claims.expires_at + timedelta(seconds=LEEWAY_S):
            raise Unauthenticated("The token has expired: log in again.", reason="expired")
        if at < claims.issued_at - timedelta(seconds=LEEWAY_S):
            raise _invalid()
        if kind is not None and claims.kind is not kind:
            raise Unauthenticated(
                f"This is a token of the kind {claims.kind}, not {kind}.", reason="wrong_kind"
            )
        return claims

    def _verified(self, text: str) -> Claims:
        """What a genuine token says never changes, so a signature is checked once, not per call."""
        known = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        claims = self._genuine.get(known)
        if claims is None:
            claims = self._genuine[known] = self._verify(text)
        return claims

    def _verify(self, text: str) -> Claims:
        jwt = _jwt()
        try:
            decoded = jwt.decode_complete(
                text,
                self._key,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": list(_CLAIMS), **_UNJUDGED},
            )
            if decoded["header"].get("typ") != _TYPE:
                raise _invalid()
            return _claims(decoded["payload"])
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError):
            raise _invalid() from None


def _claims(payload: dict[str, Any]) -> Claims:
    texts = {field: payload[claim] for field, claim in _TEXTS.items()}
    user = payload.get("usr")
    if not all(isinstance(text, str) for text in (*texts.values(), user or "")):
        raise TypeError
    return Claims(
        **texts,
        role=Role(payload["role"]),
        kind=TokenKind(payload["kind"]),
        user=user,
        issued_at=datetime.fromtimestamp(payload["iat"], UTC),
        expires_at=datetime.fromtimestamp(payload["exp"], UTC),
    )


def _invalid() -> Unauthenticated:
    return Unauthenticated("The token is invalid: log in or ask for a new one.", reason="invalid")


def _jwt() -> ModuleType:
    """Brings `cryptography` with it, 9 MiB that a process which meets no token need not pay."""
    import jwt

    return jwt
