"""Tokens that open the platform's own registry, made with a key that only it can check.

https://distribution.github.io/distribution/spec/auth/jwt/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from cachetools import TTLCache

from pipeline.errors import Misconfigured
from pipeline.ports import Credentials

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ISSUER: Final = "modelyard"
SERVICE: Final = "modelyard-registry"
TOKEN_S: Final = 300
"""A request that began in time may last longer; whoever asks again needs another token."""
SPARE_S: Final = 60
"""A token that ends sooner is handed out no more."""
CERTIFICATE_LIFE: Final = timedelta(days=36_500)
"""Registries heed the key alone."""

Action: TypeAlias = Literal["pull", "push", "delete"]
PULL: Final[tuple[Action, ...]] = ("pull",)
PUSH: Final[tuple[Action, ...]] = ("pull", "push", "delete")


class Access(NamedTuple):
    repository: str
    actions: tuple[Action, ...]


class RegistryTokens:
    """Made with the first of the keys. Safe to share; keeps tokens as long as they are good."""

    def __init__(self, registry: str, keys: str, *, clock: Callable[[], float] = time.time) -> None:
        """`keys` as in MODELYARD_REGISTRY_KEYS; empty for a registry that asks nobody who he is.

        Raises Misconfigured.
        """
        self.registry = registry.lower()
        self._key = keys.partition(",")[0].strip()
        self._clock = clock
        self._made: TTLCache[tuple[Access, ...], str] = TTLCache(1024, TOKEN_S - SPARE_S, clock)

    def __repr__(self) -> str:
        return "RegistryTokens()"

    @property
    def are_needed(self) -> bool:
        return bool(self._key)

    def token(self, *access: Access) -> str:
        """Good for at least SPARE_S; anew, it lasts TOKEN_S."""
        if (token := self._made.get(access)) is None:
            token = self._made[access] = self._sign(access)
        return token

    def credentials(self, *access: Access) -> Credentials | None:
        """None when the registry asks nobody who he is."""
        if not self._key:
            return None
        return Credentials(self.registry, "", "", token=self.token(*access))

    def _sign(self, access: Iterable[Access]) -> str:
        # They bring `cryptography`, 9 MiB that a process which meets no registry need not pay.
        import jwt

        key, now = _read(self._key), int(self._clock())
        payload = {
            "iss": ISSUER,
            "sub": ISSUER,
            "aud": SERVICE,
            "nbf": now - 5,
            "iat": now,
            "exp": now + TOKEN_S,
            "jti": secrets.token_hex(8),
            "access": [
                {"type": "repository", "name": one.repository, "actions": list(one.actions)}
                for one in access
            ],
        }
        return str(jwt.encode(payload, key, algorithm="ES256", headers={"kid": _key_id(key)}))


def make_key() -> str:
    """A new one, as it stands in MODELYARD_REGISTRY_KEYS: PKCS #8 in base64."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    der = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(der).decode()


def certificates(keys: str) -> str:
    """What the registry needs to check tokens of any of `keys`: its `rootcertbundle`, in PEM.

    Raises Misconfigured.
    """
    return "".join(
        _certificate(_read(key)) for key in filter(None, map(str.strip, keys.split(",")))
    )


def _certificate(key: EllipticCurvePrivateKey) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    begins = datetime(2024, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + CERTIFICATE_LIFE)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _read(text: str) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_der_private_key(base64.b64decode(text, validate=True), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError
    except (binascii.Error, ValueError, TypeError):
        raise Misconfigured(
            "MODELYARD_REGISTRY_KEYS needs P-256 keys, PKCS #8 in base64, separated by commas."
        ) from None
    return key


def _key_id(key: EllipticCurvePrivateKey) -> str:
    """How registries of version 2 call a key: libtrust's fingerprint."""
    from cryptography.hazmat.primitives import serialization

    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(spki).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))
