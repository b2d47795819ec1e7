"""What is said about entries of the registry directory."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pipeline.core import records
from schemas.message import Message
from schemas.registry import Ask, Registry

ASKS_MAX: Final = 200
"""Of those who wait for a check, the newest are remembered by name."""


def announce(
    registry: Registry, kind: str, *, at: datetime, actor: str | None, revision: int, **facts: Any
) -> Message:
    """An event of an entry. `id` is the caller's own; `uuid` is the one in the subject."""
    seen = {
        "id": registry.container_registry_id,
        "uuid": registry.uuid,
        "name": registry.container_registry_name,
        "public_url": registry.container_registry_public_url,
    }
    return records.event(registry, kind, at=at, actor=actor, revision=revision, **(seen | facts))


def check(registry: Registry, *, at: datetime, actor: str, revision: int) -> tuple[Ask, Message]:
    """The order to look at a registry, and the note of who gave it.

    Both belong into the record, by the write that makes it `revision`: a worker believes the note,
    not the order.
    """
    ask = Ask(id=f"{registry.uuid}.{revision}", actor=actor)
    facts = {"id": registry.container_registry_id, "ask": ask.id}
    command = records.command(registry, "health", at=at, actor=actor, revision=revision, **facts)
    return ask, command


def joined(registry: Registry, ask: Ask) -> list[Ask]:
    """Those who wait, with one more."""
    return [*registry.asked, ask][-ASKS_MAX:]
