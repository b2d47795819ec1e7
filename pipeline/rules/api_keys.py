"""API keys: `myk_<id>_<secret>`, of which only a hash of the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

_API_KEY: Final = re.compile(r"myk_([0-9a-f]{32})_([0-9a-f]{32,128})")


def make_api_key(id: str, secret: bytes) -> str:
    """`myk_<id>_<secret>`: `id` is the token's uuid, `secret` at least 16 random bytes."""
    return f"myk_{id.replace('-', '')}_{secret.hex()}"


def read_api_key(text: str) -> tuple[str, str] | None:
    """uuid and secret part, or None when `text` is not an API key."""
    found = _API_KEY.fullmatch(text)
    if found is None:
        return None
    id = found[1]
    return f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}", found[2]


def secret_hash(secret: str) -> str:
    """SHA-256 in hex of the secret part: random, so it needs neither salt nor stretching."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, hashed: str | None) -> bool:
    """In constant time, also when there is no hash."""
    return hmac.compare_digest(secret_hash(secret), hashed or "")
