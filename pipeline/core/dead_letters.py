"""Dead letters, for those whose messages they are: read, given to the workers again, dropped."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from pipeline.adapters.bus import Bus, StoredEvent
from pipeline.core.burials import HEADER
from pipeline.core.paging import MOST, Page
from pipeline.errors import Conflict, InvalidInput, NotFound
from pipeline.rules import topology
from schemas.access import Principal
from schemas.dead import DeadLetter, Obituary
from schemas.message import ID_HEADER

log = logging.getLogger(__name__)

WINDOW = 256
"""Sequences that are looked at together; doubled while nothing is found."""
WIDEST = 16_384


class DeadLetters:
    """Every call sees the letters of its caller's organisation only.

    `home` is the installation's own organisation; to it belong letters of which nobody can tell
    whose they are.
    """

    def __init__(self, bus: Bus, *, home: str = "default") -> None:
        self._bus = bus
        self._home = home

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DeadLetter]:
        """Newest first, without payloads. Raises InvalidInput and BusUnavailable."""
        if not 1 <= limit <= MOST:
            raise InvalidInput(f"limit must be between 1 and {MOST}.", field="limit")
        before = None if cursor is None else _sequence(cursor, "cursor")
        letters: list[DeadLetter] = []
        async with aclosing(self._newest_first(before)) as found:
            async for letter in found:
                if self._owner(letter) != caller.org:
                    continue
                if len(letters) == limit:
                    return Page(letters, letters[-1].id)
                letters.append(letter)
        return Page(letters, None)

    async def get(self, caller: Principal, id: str) -> DeadLetter:
        """With its payload. Raises NotFound."""
        return _shown(await self._stored(caller, id), payload=True)

    async def requeue(self, caller: Principal, id: str) -> DeadLetter:
        """Publish the message again where it was, then remove the letter.

        The CloudEvent keeps its id, so handlers know it again; only the broker's message id is
        new, or the dedupe window would swallow it. Idempotent. Raises NotFound, and Conflict when
        the payload was not kept.
        """
        stored = await self._stored(caller, id)
        letter = _shown(stored, payload=False)
        if letter.truncated:
            raise Conflict("Its payload was too large to be kept: send the message again.")
        headers = {name: value for name, value in stored.headers.items() if name != HEADER}
        headers[ID_HEADER] = f"requeue.{id}.{stored.headers.get(ID_HEADER, '')}"
        await self._bus.publish_raw(letter.subject, stored.data, headers)
        await self._bus.delete_stored(topology.DEAD.name, stored.sequence)
        log.info("%s requeued dead letter %s (%s)", caller.id, id, letter.subject)
        return letter

    async def drop(self, caller: Principal, id: str) -> None:
        """Forget it. Raises NotFound."""
        stored = await self._stored(caller, id)
        await self._bus.delete_stored(topology.DEAD.name, stored.sequence)
        log.info("%s dropped dead letter %s", caller.id, id)

    async def _stored(self, caller: Principal, id: str) -> StoredEvent:
        try:
            stored = await self._bus.stored(topology.DEAD.name, _sequence(id, "id"))
            if self._owner(_shown(stored, payload=False)) == caller.org:
                return stored
        except (InvalidInput, NotFound) as error:
            raise NotFound(f"There is no dead letter {id}.") from error
        raise NotFound(f"There is no dead letter {id}.")

    async def _newest_first(self, before: int | None) -> AsyncGenerator[DeadLetter, None]:
        at = await self._bus.position(topology.DEAD)
        end = at.last + 1 if before is None else min(before, at.last + 1)
        width = WINDOW
        while end > at.first:
            start = max(at.first, end - width)
            letters = await self._between(start, end)
            for letter in reversed(letters):
                yield letter
            width = WINDOW if letters else min(width * 2, WIDEST)
            end = start

    async def _between(self, start: int, end: int) -> Sequence[DeadLetter]:
        letters = []
        after, more = start - 1, True
        while more and after < end - 1:
            batch = await self._bus.read_batch(
                topology.DEAD.name, after=after, subject=topology.dead(">"), limit=WINDOW
            )
            letters += [_shown(m, payload=False) for m in batch.messages if m.sequence < end]
            more = batch.more
            after = batch.messages[-1].sequence if batch.messages else end
        return letters

    def _owner(self, letter: DeadLetter) -> str:
        return letter.org or self._home


def _shown(stored: StoredEvent, *, payload: bool) -> DeadLetter:
    headers = {name: value for name, value in stored.headers.items() if name != HEADER}
    letter = DeadLetter(
        **_obituary(stored).model_dump(),
        id=str(stored.sequence),
        subject=stored.subject.removeprefix(topology.DEAD_PREFIX),
        type=headers.get("ce-type"),
        headers=headers,
    )
    if payload:
        _add_payload(letter, stored.data)
    return letter


def _obituary(stored: StoredEvent) -> Obituary:
    """What was written beside it, or as much as can be told of a message that came otherwise."""
    try:
        return Obituary.model_validate_json(stored.headers.get(HEADER, ""))
    except ValueError:
        return Obituary(
            org=topology.org_of(stored.subject.removeprefix(topology.DEAD_PREFIX)),
            stage="",
            stream="",
            sequence=0,
            code="unknown",
            reason="It came without a reason.",
            attempts=0,
            time=stored.time,
        )


def _add_payload(letter: DeadLetter, data: bytes) -> None:
    try:
        letter.data = json.loads(data) if data else None
    except (ValueError, RecursionError):
        letter.data_base64 = base64.b64encode(data).decode()


def _sequence(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise InvalidInput(f"{text!r} is not one that we gave out.", field=field)
    return int(text)
