"""How a delivery proves where it comes from: Standard Webhooks 1.0.0 (standardwebhooks.com).

Signed is `<id>.<seconds>.<body>` with HMAC-SHA256. The time is that of the try, since receivers
refuse what is older than some minutes; the id is what tells a repeat.
"""

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
    """Of one try at the delivery `id`, made at `at`.

    `keys` are secrets as `new_secret` makes them. There is a signature with each, so that the
    receiver may go over from one to the next when he likes.
    """
    time = str(int(at.timestamp()))
    signed = b".".join((id.encode(), time.encode(), body))
    signatures = (_signature(key, signed) for key in keys)
    return {"webhook-id": id, "webhook-timestamp": time, "webhook-signature": " ".join(signatures)}


def _signature(key: str, signed: bytes) -> str:
    digest = hmac.digest(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
