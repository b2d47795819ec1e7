"""How a delivery proves where it comes from: Standard Webhooks 1.0.0 (standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

PREFIX: Final = "whsec_"
KEY_BYTES: Final = 24
"""The specification wants between 24 and 64."""


def new_secret() -> str:
    """`whsec_` and the key in base64, as receivers' libraries take it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def headers(id: str, at: datetime, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """Of one try. `id` is that of the delivery: the same in each of them, so that its receiver can
    tell a repeat. Signed with every key, so that he may go over to a new one when he likes."""
    time = str(int(at.timestamp()))
    signed = b".".join((id.encode(), time.encode(), body))
    signatures = (_signature(key, signed) for key in keys)
    return {"webhook-id": id, "webhook-timestamp": time, "webhook-signature": " ".join(signatures)}


def _signature(key: str, signed: bytes) -> str:
    digest = hmac.digest(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
