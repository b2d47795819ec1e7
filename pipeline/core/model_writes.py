"""Guarded changes of a model's version, made again when somebody else was faster."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.core import records
from pipeline.errors import Conflict, LostRace, NotFound
from schemas.message import Message
from schemas.model import ModelVersion

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

ATTEMPTS = 30
SHOWN_CHARACTERS = 100

_VERSIONS = uuid.UUID("5a4a3f4e-6d0c-4b1e-8f0e-5f9d7b2c9a10")


@dataclass(frozen=True, slots=True)
class Change:
    values: Mapping[str, Any]
    messages: Sequence[Message] = field(default=())
    guard: Mapping[str, Any] = field(default_factory=dict)
    """What must still hold of parts that change without a new revision."""


Decide = Callable[[ModelVersion, datetime], Change | None]
"""What to write on top of the version as it is; None leaves it. May be asked more than once."""


def version_id(model: str, version: str) -> str:
    """uuid of the version: the same version of a model cannot exist twice."""
    return str(uuid.uuid5(_VERSIONS, f"{model}\n{version}"))


class ModelWrites:
    """Whoever loses a race decides anew on what is there then."""

    def __init__(self, store: Store, outbox: Outbox, clock: records.Clock) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock

    async def load(self, org: str, model: str, version: str) -> ModelVersion:
        """Raises NotFound."""
        try:
            return await self._store.get(ModelVersion, version_id(model, version), org=org)
        except NotFound:
            raise NotFound(
                f"The model {model[:SHOWN_CHARACTERS]} has no version {version[:SHOWN_CHARACTERS]}."
            ) from None

    async def amend(self, version: ModelVersion, decide: Decide) -> ModelVersion:
        """Write what `decide` wants, on the newest state. Raises what it raises, and NotFound."""
        for _ in range(ATTEMPTS):
            at = self._clock()
            change = decide(version, at)
            if change is None:
                return version
            try:
                changed = await self._store.change(
                    version,
                    change.values,
                    at=at,
                    messages=change.messages,
                    guard=change.guard,
                )
            except LostRace:
                version = await self._store.get(ModelVersion, version.uuid, org=version.org)
                continue
            await self._outbox.send(changed)
            return changed
        raise Conflict("The version keeps changing: try again.")
