"""Ending the containers that answer calls: asked for by one write, carried out by any worker."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import model_events, records
from pipeline.core.model_containers import acting_for, spec_for
from pipeline.core.model_launches import Start
from pipeline.core.model_process import BEAT_S, SWEPT_AT_ONCE
from pipeline.core.model_writes import Change, ModelWrites
from pipeline.errors import Superseded
from schemas.commands import VersionOrder
from schemas.image import Image
from schemas.model import ModelVersion, Phase, Serving

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.model_starts import ModelStarts

log = logging.getLogger(__name__)

VERB = "shutdown"
PURPOSE = "serve"
WORKER = "worker:shutdown"
USED = frozenset({Phase.RUNNING, Phase.SUCCEEDED})
"""Phases in which there is, or may be, a container."""


def retired(now: ModelVersion, *, at: datetime, actor: str | None) -> Change:
    """What a write must hold so that nobody uses the container any more and a worker ends it.

    Changes nothing when there is none.
    """
    if now.serve.phase not in USED:
        return Change({"serve": Serving()})
    ending = now.serve.model_copy(update={"alive_at": at, "calls": {}})
    after = now.model_copy(update={"revision": now.revision + 1})
    order = model_events.order(after, VERB, ending.id, at=at, actor=actor)
    return Change({"serve": Serving(), "ending": [*now.ending, ending]}, [order])


def start_of(version: ModelVersion, image: Image, serve: Serving, *, place_s: float = 0) -> Start:
    """The start that made, or makes, the containers of `serve`."""
    return Start(
        id=serve.id or "",
        caller=acting_for(version.org, serve.asked_by),
        image=image,
        spec=spec_for(version, image, requirement=serve.requirement, purpose=PURPOSE),
        requirement=serve.requirement,
        timeout_s=serve.timeout_ms / 1000,
        place_s=place_s,
    )


class ModelEndings:
    """A container stays listed in its version until it is gone, so that none is forgotten."""

    def __init__(
        self,
        store: Store,
        writes: ModelWrites,
        starts: ModelStarts,
        *,
        stuck_after_s: float,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._writes = writes
        self._starts = starts
        self._stuck_after = timedelta(seconds=stuck_after_s)
        self._clock = clock

    async def carry_out(self, org: str, order: VersionOrder) -> None:
        """Ask the model to end, stop and remove its container, and tell of it. Idempotent.

        Raises what the store and the broker raise while another try may help.
        """
        version = await self._writes.load(org, order.identifier, order.version)
        ending = _find(version, order.attempt)
        if ending is None:
            return
        image = await self._store.get(Image, ending.image or "", org=org)
        start = start_of(version, image, ending)
        beat = _Beat(self._store, version, ending, self._clock)
        try:
            was_there = await self._starts.wind_down(start, beat)
        except Superseded:
            log.info("container of %s was ended by somebody else", ending.id)
            return
        await self._writes.amend(
            version, lambda now, at: _forgotten(now, ending, image, at, tell=was_there)
        )

    async def sweep(self) -> None:
        """Order again what nobody carries out any more. Safe in several workers at once."""
        late = self._clock() - self._stuck_after
        for version in await self._store.find(
            ModelVersion,
            org=EVERY_ORG,
            where={"ending.alive_at": {"$lt": late}},
            sort=[],
            limit=SWEPT_AT_ONCE,
        ):
            await self._writes.amend(version, lambda now, at: _again(now, late, at))


class _Beat:
    """Says now and then that somebody is at it. Raises Superseded when there is no more need."""

    def __init__(
        self, store: Store, version: ModelVersion, ending: Serving, clock: records.Clock
    ) -> None:
        self._store = store
        self._version = version
        self._id = ending.id
        self._clock = clock
        self._beaten_at = 0.0

    async def __call__(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._beaten_at < BEAT_S:
            return
        self._beaten_at = now
        alive = await self._store.update(
            ModelVersion,
            self._version.uuid,
            org=self._version.org,
            guard={"ending.id": self._id},
            update={"$set": {"ending.$.alive_at": self._clock()}},
        )
        if alive is None:
            raise Superseded(f"The container of {self._id} is gone.")


def _find(version: ModelVersion, id: str | None) -> Serving | None:
    return next((each for each in version.ending if each.id == id), None)


def _forgotten(
    now: ModelVersion, ending: Serving, image: Image, at: datetime, *, tell: bool
) -> Change | None:
    if _find(now, ending.id) is None:
        return None
    kept = [each for each in now.ending if each.id != ending.id]
    after = now.model_copy(update={"ending": kept, "revision": now.revision + 1})
    stopped = model_events.about(after, image, "container.stopped", at=at, actor=WORKER)
    return Change({"ending": kept}, [stopped] if tell else [])


def _again(now: ModelVersion, late: datetime, at: datetime) -> Change | None:
    stuck = [each.id for each in now.ending if each.alive_at is None or each.alive_at < late]
    if not stuck:
        return None
    after = now.model_copy(update={"revision": now.revision + 1})
    orders = [model_events.order(after, VERB, id, at=at, actor=WORKER) for id in stuck]
    reminded = [each.model_copy(update={"alive_at": at}) for each in now.ending]
    return Change({"ending": reminded}, orders)
