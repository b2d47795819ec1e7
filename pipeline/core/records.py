"""How records come to be and how their changes are announced."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.errors import KeyReused
from pipeline.rules import topology
from schemas.base import Record
from schemas.message import Message

Clock = Callable[[], datetime]
R = TypeVar("R", bound=Record)

_REQUESTS = uuid.UUID("6f1f1d5e-2c62-4c52-9d7e-5b8f3f7d9f10")


def now() -> datetime:
    """UTC in whole milliseconds, which is what the store keeps."""
    at = datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def new_id() -> str:
    return str(uuid.uuid4())


def id_for(org: str, resource: str, key: str | None) -> str:
    """The uuid of the record that a request creates.

    With a key (an `Idempotency-Key`, or the `ce-id` of a command) it is always the same one, so
    that a repeated request meets the record of the first: no table of keys is needed.
    """
    return new_id() if key is None else str(uuid.uuid5(_REQUESTS, f"{org}\n{resource}\n{key}"))


def fingerprint(request: BaseModel) -> str:
    """SHA-256 of a request in canonical JSON: tells a retry from a reused key."""
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def replayed(earlier: R, *, is_same: bool) -> R:
    """The record of the first request with a key, for a repeat of it.

    Raises KeyReused when it is another request that has the key.
    """
    if not is_same:
        raise KeyReused("This key was used for another request: send a new key.")
    return earlier.model_copy(update={"replayed": True})


def event(
    record: Record, kind: str, *, at: datetime, actor: str | None, revision: int, **facts: Any
) -> Message:
    """What happened to `record`; its id makes the same fact the same message.

    `revision` is the one that the write which announces it will produce.
    """
    return Message(
        id=f"{record.uuid}.{revision}.{kind}",
        subject=topology.event(record.org, record.resource, record.uuid, kind),
        type=f"modelyard.{record.resource}.{kind}",
        time=at,
        actor=actor,
        data={"id": record.uuid, "org": record.org, "revision": revision} | facts,
    )


def command(
    record: Record, verb: str, *, at: datetime, actor: str | None, revision: int, **facts: Any
) -> Message:
    """An order about `record` to the workers. It carries the id; the handler loads the rest."""
    return Message(
        id=f"{record.uuid}.{revision}.cmd-{verb}",
        subject=topology.command(record.org, record.resource, verb),
        type=f"modelyard.cmd.{record.resource}.{verb}",
        time=at,
        actor=actor,
        data={"id": record.uuid} | facts,
    )
