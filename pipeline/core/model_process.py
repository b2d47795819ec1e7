"""What load tests, trial runs and starts have in common: one at a time, resumable, voidable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import model_events, records
from pipeline.core.model_launches import Start
from pipeline.core.model_writes import Change, ModelWrites
from pipeline.errors import LostRace, Superseded, YardError
from schemas.commands import VersionOrder
from schemas.image import Image
from schemas.message import Message
from schemas.model import Fault, LoadTest, ModelVersion, Phase, Serving, TrialRun

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

SWEPT_AT_ONCE = 50
BEAT_S = 2
"""How often whoever carries something out says that he still does."""

Field = Literal["load", "run", "serve"]
Proof = TypeVar("Proof", LoadTest, TrialRun, Serving)
Begin = Callable[[ModelVersion, datetime], Proof | None]
"""The process to begin, or None when the one that is there is the answer."""
Update = Callable[[Proof, datetime], Mapping[str, Any] | None]
"""New values of the process as it is; None leaves it."""
Say = Callable[[Proof], Sequence[str]]
"""Kinds of the events that tell of the process as it will be."""


@dataclass(slots=True)
class Course:
    """A process that is carried out: `version` is as its last write left it."""

    version: ModelVersion
    image: Image
    start: Start
    beaten_at: float = 0


class ModelProcess(Generic[Proof]):
    """Writes to the part of a version's record that is about one kind of process."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        writes: ModelWrites,
        field: Field,
        *,
        stuck_after_s: float,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._writes = writes
        self._field = field
        self._actor = f"worker:{field}"
        self._stuck_after = timedelta(seconds=stuck_after_s)
        self._clock = clock

    def of(self, version: ModelVersion) -> Proof:
        proof: Proof = getattr(version, self._field)
        return proof

    def is_current(self, version: ModelVersion, order: VersionOrder) -> bool:
        """Whether there is something to do for an order."""
        proof = self.of(version)
        return proof.id == order.attempt and proof.phase is Phase.RUNNING

    async def begin(
        self, version: ModelVersion, image: Image, actor: str, begin: Begin[Proof]
    ) -> ModelVersion:
        """Begin what `begin` makes, tell of it, and have a worker carry it out."""

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            proof = begin(now, at)
            if proof is None:
                return None
            after = self._after(now, proof)
            kind = f"{self._field}.started"
            said = model_events.about(after, image, kind, at=at, actor=actor)
            return Change({self._field: proof}, [said, self._order(after, at, actor)])

        return await self._writes.amend(version, decide)

    async def write(self, course: Course, update: Update[Proof], say: Say[Proof]) -> None:
        """Change the process and tell of it. Raises Superseded when it is another one now."""
        id = self.of(course.version).id

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            proof = self.of(now)
            if proof.id != id or proof.phase is not Phase.RUNNING:
                raise Superseded(f"The {self._field} process {id} is over or void.")
            values = update(proof, at)
            if values is None:
                return None
            proof = proof.model_copy(update={"alive_at": at, **values})
            after = self._after(now, proof)
            said = [
                model_events.about(after, course.image, kind, at=at, actor=self._actor)
                for kind in say(proof)
            ]
            return Change({self._field: proof}, said)

        course.version = await self._writes.amend(course.version, decide)

    async def note(self, course: Course, outcome: Mapping[str, Any]) -> None:
        """Write down how it went before its containers are removed: who takes over must know."""
        await self.write(course, lambda _proof, _at: outcome, lambda _proof: ())

    async def beat(self, course: Course) -> None:
        """Now and then say that somebody carries it out; call it as often as you like.

        Raises Superseded when there is no more need.
        """
        now = asyncio.get_running_loop().time()
        if now - course.beaten_at < BEAT_S:
            return
        course.beaten_at = now
        version, id = course.version, self.of(course.version).id
        alive = await self._store.update(
            ModelVersion,
            version.uuid,
            org=version.org,
            guard={f"{self._field}.id": id, f"{self._field}.phase": Phase.RUNNING.value},
            update={"$set": {f"{self._field}.alive_at": self._clock()}},
        )
        if alive is None:
            raise Superseded(f"The {self._field} process {id} is over or void.")

    async def sweep(self) -> None:
        """Order again what nobody carries out any more. Safe in several workers at once."""
        late = self._clock() - self._stuck_after
        where = {
            f"{self._field}.phase": Phase.RUNNING.value,
            f"{self._field}.alive_at": {"$lt": late},
        }
        for version in await self._store.find(
            ModelVersion, org=EVERY_ORG, where=where, sort=[], limit=SWEPT_AT_ONCE
        ):
            await self._again(version)

    async def _again(self, version: ModelVersion) -> None:
        at = self._clock()
        proof = self.of(version).model_copy(update={"alive_at": at})
        again = self._order(self._after(version, proof), at, self._actor)
        try:
            changed = await self._store.change(
                version, {self._field: proof}, at=at, messages=[again]
            )
        except LostRace:
            return  # somebody carries it out after all
        log.info("%s of %s stood still: ordered again", self._field, version.uuid)
        await self._outbox.send(changed)

    def _after(self, version: ModelVersion, proof: Proof) -> ModelVersion:
        """The record as the write of `proof` leaves it."""
        return version.model_copy(update={self._field: proof, "revision": version.revision + 1})

    def _order(self, after: ModelVersion, at: datetime, actor: str) -> Message:
        return model_events.order(after, self._field, self.of(after).id, at=at, actor=actor)


def fault_of(error: Exception) -> Fault:
    """What callers are told of a failure; details of what nobody foresaw stay in the log."""
    if not isinstance(error, YardError):
        message = "Something went wrong on our side: try again later."
        return Fault(code="internal_error", message=message, technical=type(error).__name__)
    technical = str(error.facts.get("technical") or f"{error.code}: {error.message}")
    return Fault(code=error.code, message=error.message, technical=technical)
