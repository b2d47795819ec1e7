"""Which requests are the same request: what an `Idempotency-Key` or a command's `ce-id` means.

The key makes the uuid of the record (`id_for`), so that a repeat meets the record of the first
request: no table of keys is needed. The record keeps the `fingerprint` of the request that made it
as `request_hash`, which tells a repeat from another request that has the key (`replayed`).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.errors import KeyReused
from schemas.base import Record

R = TypeVar("R", bound=Record)

_REQUESTS = uuid.UUID("6f1f1d5e-2c62-4c52-9d7e-5b8f3f7d9f10")


def new_id() -> str:
    return str(uuid.uuid4())


def id_for(org: str, resource: str, key: str | None) -> str:
    """The uuid of the record that a request creates: with a key always the same one."""
    return new_id() if key is None else str(uuid.uuid5(_REQUESTS, f"{org}\n{resource}\n{key}"))


def fingerprint(request: BaseModel | Mapping[str, Any]) -> str:
    """SHA-256 of a request in canonical JSON."""
    plain = request.model_dump(mode="json") if isinstance(request, BaseModel) else request
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def replayed(earlier: R, request_hash: str | None, is_same: Callable[[R], bool] | None = None) -> R:
    """The record of the first request with a key, for another one that has the key, too.

    Raises KeyReused unless it is a repeat: one with the same fingerprint, or, for records that keep
    none, what `is_same` says. Records of before there were fingerprints have none.
    """
    if not (is_same(earlier) if is_same else earlier.request_hash in (None, request_hash)):
        raise KeyReused("This key was used for another request: send a new key.")
    return earlier.model_copy(update={"replayed": True})
