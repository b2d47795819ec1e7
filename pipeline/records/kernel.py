"""The kernel: one way to write a record, to say what happened, and to try again.

A write is guarded by the revision that was read. What is said about it is stored by the same
write and published right after, see `messages`. Nothing else in the pipeline writes records.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from pipeline.adapters.store import bulk
from pipeline.adapters.store.documents import EVERY_ORG, KEEP, Keep, planned_update
from pipeline.adapters.store.store import Store
from pipeline.errors import AlreadyExists, Conflict, LostRace, Overloaded, StaleRevision
from pipeline.records.closing import require_open
from pipeline.records.idempotency import new_id, replayed
from pipeline.records.messages import Draft, Outbox
from pipeline.telemetry import current_cause, current_origin, current_traceparent
from schemas.base import Record
from schemas.message import Message

R = TypeVar("R", bound=Record)
Clock = Callable[[], datetime]

ATTEMPTS: Final = 100
"""Decisions on one record while others change it. Each costs one read and one write."""


def now() -> datetime:
    """UTC in whole milliseconds, which is what the store keeps."""
    at = datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Change:
    """What a write makes of a record, and what it says about it.

    `send` is made from the record as the write leaves it. `guard` is what must still hold of parts
    that change without a new revision.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    status: StrEnum | None = None
    reason: str | Keep | None = KEEP
    send: Sequence[Draft] = ()
    guard: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewrite(Generic[R]):
    """One of many changes.

    `own` are fields whose values tell it from whatever anybody else may write on that revision.
    `cause` stands in place of the one that the record has.
    """

    record: R
    change: Change
    own: Sequence[str]
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """From what a change follows: the command or request, and its trace."""

    cause: str | None
    traceparent: str | None

    @classmethod
    def of(cls, record: Record) -> Source:
        """Of a change now; what nobody asks for now follows from what was asked for last."""
        return cls(current_cause() or record.cause, current_traceparent() or record.traceparent)

    def changed(self, record: Record) -> dict[str, Any]:
        """What of it is to be written."""
        known = {"cause": self.cause, "traceparent": self.traceparent}
        return {name: each for name, each in known.items() if each != getattr(record, name)}

    def mark(self, message: Message) -> Message:
        told = {"causation_id": self.cause, "traceparent": self.traceparent}
        return message.model_copy(update={**told, "origin": current_origin()})


Decide = Callable[[R, datetime], Change | Awaitable[Change | None] | None]
"""What to write on top of the record as it is; None leaves it. May be asked more than once."""


class Records:
    """Writes records and tells of them. Reads go to `store`."""

    def __init__(self, store: Store, outbox: Outbox, clock: Clock = now) -> None:
        self.store = store
        self.outbox = outbox
        self.clock = clock

    async def commit(
        self, record: R, change: Change, *, actor: str | None = None, at: datetime | None = None
    ) -> R:
        """Write on top of exactly this revision and publish what it says. Returns the new record.

        Raises IllegalTransition before any I/O, LostRace when the record has moved on or the guard
        does not hold, NotFound when it is gone. `at` is the time of the write, now by default.
        """
        at = at or self.clock()
        source = Source.of(record)
        after = _after(record, change, at) if change.send else record
        changed = await self.store.change(
            record,
            {**change.values, **source.changed(record)},
            at=at,
            status=change.status,
            reason=change.reason,
            messages=[source.mark(draft(after, at, actor)) for draft in change.send],
            guard=change.guard,
        )
        await self.outbox.send(changed)
        return changed

    async def write_all(
        self, kind: type[R], wanted: Sequence[Rewrite[R]], *, actor: str | None = None
    ) -> list[R | None]:
        """As `commit` for many, in one call to the store; in order, None for who lost his race.

        What is said is left to the caller (`outbox.send` of each), or to the sweep.
        """
        at = self.clock()
        planned = [_planned(each, at, actor) for each in wanted]
        if await bulk.write_all(self.store, kind, [write for write, _ in planned]):
            return [after for _, after in planned]
        where = {"_id": {"$in": [each.record.uuid for each in wanted]}}
        found = await self.store.find(kind, org=EVERY_ORG, where=where, sort=())
        now = {each.uuid: each for each in found}
        return [
            after if _is_written(each, now.get(each.record.uuid)) else None
            for each, (_, after) in zip(wanted, planned, strict=True)
        ]

    async def amend(self, record: R, decide: Decide[R], *, actor: str | None = None) -> R:
        """Commit what `decide` wants, on the newest state: who loses a race decides anew.

        Raises what `decide` raises, NotFound when the record is gone, and Overloaded when it keeps
        changing.
        """
        for _ in range(ATTEMPTS):
            at = self.clock()
            wanted = decide(record, at)
            change = await wanted if inspect.isawaitable(wanted) else wanted
            if change is None:
                return record
            try:
                return await self.commit(record, change, actor=actor, at=at)
            except LostRace:
                record = await self.store.get(type(record), record.uuid, org=record.org)
        raise Overloaded(f"Too many change this {record.resource} at the same time: try again.")

    def initial(
        self, org: str, uuid: str | None = None, *, at: datetime | None = None
    ) -> dict[str, Any]:
        """What every new record begins with: `Image(**records.initial(org), name=…)`."""
        at = at or self.clock()
        times = {"created_at": at, "updated_at": at, "status_since": at}
        return {"uuid": uuid or new_id(), "org": org, **times}

    async def insert(
        self,
        record: R,
        send: Sequence[Draft],
        *,
        actor: str | None = None,
        taken: str | None = None,
    ) -> R:
        """Store a new record and publish what is said about it.

        Raises AlreadyExists, which says `taken` when that is given, and Conflict when the
        organisation is deleted, or being deleted: nothing is left of the record then.
        """
        source = Source(current_cause(), current_traceparent())
        record.cause, record.traceparent = source.cause, source.traceparent
        made = (draft(record, record.created_at, actor) for draft in send)
        record.outbox = [source.mark(message) for message in made]
        try:
            record = await self.store.insert(record)
        except AlreadyExists as error:
            raise AlreadyExists(taken or error.message, **error.facts) from error
        try:
            await require_open(self.store, record.org, self.clock())
        except Conflict:
            await self.store.delete(type(record), record.uuid, org=record.org)
            raise
        await self.outbox.send(record)
        return record

    async def insert_once(
        self,
        record: R,
        send: Sequence[Draft],
        *,
        actor: str | None = None,
        taken: str | None = None,
        is_same: Callable[[R], bool] | None = None,
    ) -> R:
        """Like `insert`; a repeat, which has the same uuid, gets the record of the first request.

        Raises KeyReused when the earlier record is of another request (`idempotency.replayed`), and
        AlreadyExists when another record has something that must be unique.
        """
        try:
            return await self.insert(record, send, actor=actor, taken=taken)
        except AlreadyExists:
            own = {"_id": record.uuid}
            earlier = await self.store.find_one(type(record), org=record.org, where=own)
            if earlier is None:
                raise
        return replayed(earlier, record.request_hash, is_same)

    async def remind(self, record: R, send: Draft, *, actor: str | None = None) -> bool:
        """Publish a command once more, for a record that has stood still since it was read.

        It moves no revision: work that is under way after all must not lose its next write to a
        reminder. False when the record has changed meanwhile; then nothing is sent.
        """
        at = self.clock()
        first = send(record.model_copy(update={"revision": record.revision + 1}), at, actor)
        kept = Source(record.cause, record.traceparent)
        told = {"id": f"{first.id}.{at.timestamp():.3f}"}
        again = kept.mark(first.model_copy(update=told))
        changed = await self.store.update(
            type(record),
            record.uuid,
            org=record.org,
            guard={"revision": record.revision, "updated_at": record.updated_at},
            update={"$push": {"outbox": again.model_dump()}, "$set": {"updated_at": at}},
        )
        if changed is None:
            return False
        await self.outbox.send(changed)
        return True

    async def tell(self, record: Record, send: Draft, *, actor: str | None = None) -> None:
        """Publish what left the record as it is. It is lost while the broker is away."""
        told = send(record, self.clock(), actor)
        own = told.model_copy(update={"id": f"{told.id}.{new_id()}"})
        await self.outbox.tell(Source(current_cause(), current_traceparent()).mark(own))

    async def purge(self, record: Record) -> bool:
        """Remove a record for good, unless messages of it still wait for the broker. Idempotent.

        False when it was left to wait with them.
        """
        if not await self.outbox.send(record):
            return False
        await self.store.delete(type(record), record.uuid, org=record.org)
        return True


def _planned(wanted: Rewrite[R], at: datetime, actor: str | None) -> tuple[bulk.Write, R]:
    """The write, and the record as it leaves it."""
    record, change = wanted.record, wanted.change
    # Many are written for many callers: the trace in which that happens is nobody's.
    source = Source(wanted.cause or record.cause, record.traceparent)
    after = _after(record, change, at)
    after.cause = source.cause
    messages = [source.mark(draft(after, at, actor)) for draft in change.send]
    values = {**change.values, **source.changed(record)}
    update = planned_update(record, values, at, change.status, change.reason, messages)
    guard = {**change.guard, "revision": record.revision, "org": record.org}
    after.outbox = [*record.outbox, *messages]
    return bulk.Write(record.uuid, guard, update), after


def _is_written(wanted: Rewrite[R], found: R | None) -> bool:
    if found is None or found.revision <= wanted.record.revision:
        return False
    return all(getattr(found, name) == wanted.change.values[name] for name in wanted.own)


def require_revision(record: Record, revision: int | None) -> None:
    """Raises StaleRevision for another one than a caller has seen (`If-Match`); None is any."""
    if revision is not None and revision != record.revision:
        raise StaleRevision(f"It is at revision {record.revision}, not {revision}.")


def living(ended: StrEnum, status: str | None = None, **where: Any) -> dict[str, Any]:
    """The query for records that are not `ended`, or for those of `status` when it is asked for.

    Conditions that are None are left out.
    """
    given = {name: value for name, value in where.items() if value is not None}
    return {"status": status or {"$ne": ended.value}, **given}


def _after(record: R, change: Change, at: datetime) -> R:
    """The record as the write leaves it."""
    known = dict(record) | dict(change.values)
    known |= {"revision": record.revision + 1, "updated_at": at}
    if change.status is not None:
        known["status"] = change.status
    if change.reason is not KEEP:
        known["reason"] = change.reason
    return type(record).model_validate(known)
