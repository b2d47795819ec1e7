"""Encryption at rest: AES-256-GCM, with the id of the key in the clear beside the ciphertext.

A sealed text is `v1.<key id>.<base64url(nonce + ciphertext + tag)>`. Organisation and uuid of the
record are associated data: a ciphertext that is moved to another record no longer opens.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.errors import Misconfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"
_KEY_ID = re.compile(r"^[A-Za-z0-9_-]{1,32}$")
_KEY_BYTES = 32
_NONCE_BYTES = 12
_SETTING = "MODELYARD_ENCRYPTION_KEYS"


class Vault:
    """Seals with the first key and opens with all of them.

    Without keys it can be made, so that a process that never touches a secret needs none; sealing
    and opening then raise Misconfigured.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)

    def __repr__(self) -> str:
        return f"Vault(keys={list(self._keys)})"

    @classmethod
    def from_setting(cls, text: str) -> Vault:
        """From `id:base64(32 bytes)`, comma-separated. Raises Misconfigured; shows no key."""
        keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            id, key = _read_key(entry)
            if id in keys:
                raise Misconfigured(f"{_SETTING} names the key id {id} twice.")
            keys[id] = key
        return cls(keys)

    @property
    def key_id(self) -> str:
        """Of the key that seals."""
        if not self._keys:
            raise Misconfigured(f"{_SETTING} is empty: secrets can be neither kept nor read.")
        return next(iter(self._keys))

    @property
    def current_prefix(self) -> str:
        """How every text begins that was sealed with the first key."""
        return f"{_VERSION}.{self.key_id}."

    def seal(self, plain: str, *, org: str, record: str) -> str:
        body = self._encrypted(plain.encode(), org, record)
        return self.current_prefix + base64.urlsafe_b64encode(body).decode()

    def seal_bytes(self, plain: bytes, *, org: str, record: str) -> bytes:
        """As `seal`, without base64: for what is large."""
        return self.current_prefix.encode() + self._encrypted(plain, org, record)

    def open(self, sealed: str, *, org: str, record: str) -> str:
        """Raises Misconfigured: unknown key, or the text was altered, moved or made by another."""
        id, body = _split(sealed)
        return self._decrypted(id, body, org, record).decode()

    def open_bytes(self, sealed: bytes, *, org: str, record: str) -> bytes:
        """Raises Misconfigured as `open` does."""
        version, _, rest = sealed.partition(b".")
        id, _, body = rest.partition(b".")
        if version != _VERSION.encode() or not _KEY_ID.match(id.decode("latin-1")):
            raise _unreadable("bytes that it did not seal")
        return self._decrypted(id.decode(), body, org, record)

    def rotate(self, sealed: str, *, org: str, record: str) -> str:
        """The same plain text sealed with the first key; unchanged when it is already."""
        if sealed.startswith(self.current_prefix):
            return sealed
        return self.seal(self.open(sealed, org=org, record=record), org=org, record=record)

    def _encrypted(self, plain: bytes, org: str, record: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        cipher, associated = _cipher(self._keys[self.key_id]), _associated(self.key_id, org, record)
        return nonce + cipher.encrypt(nonce, plain, associated)

    def _decrypted(self, id: str, body: bytes, org: str, record: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        if id not in self._keys:
            raise Misconfigured(f"{_SETTING} lacks the key {id!r} that sealed record {record}.")
        try:
            return _cipher(self._keys[id]).decrypt(
                body[:_NONCE_BYTES], body[_NONCE_BYTES:], _associated(id, org, record)
            )
        except (InvalidTag, ValueError) as error:
            raise _unreadable(f"record {record} with the key {id!r}") from error


def _cipher(key: bytes) -> AESGCM:
    # Loaded with the first secret: it is 9 MiB, and many a process meets none.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _read_key(entry: str) -> tuple[str, bytes]:
    id, _, encoded = entry.partition(":")
    if not _KEY_ID.match(id) or not encoded:
        raise Misconfigured(f"{_SETTING} must be a list of <id>:<base64 of 32 bytes>.")
    try:
        key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise Misconfigured(f"{_SETTING}: the key {id} is not base64.") from None
    if len(key) != _KEY_BYTES:
        raise Misconfigured(f"{_SETTING}: the key {id} has {len(key)} bytes, not {_KEY_BYTES}.")
    return id, key


def _associated(key_id: str, org: str, record: str) -> bytes:
    return json.dumps([_VERSION, key_id, org, record]).encode()


def _split(sealed: str) -> tuple[str, bytes]:
    version, _, rest = sealed.partition(".")
    id, _, body = rest.partition(".")
    if version != _VERSION:
        raise _unreadable("a text that it did not seal")
    try:
        return id, base64.b64decode(body, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable(f"a damaged text of the key {id!r}") from None


def _unreadable(what: str) -> Misconfigured:
    return Misconfigured(
        f"{_SETTING} does not open {what}: the key was replaced under its id, or the stored "
        "text was altered or moved."
    )
