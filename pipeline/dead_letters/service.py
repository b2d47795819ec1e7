"""Dead letters, for those whose messages they are: read, given to the workers again, dropped."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.dead_letters import masking
from pipeline.dead_letters.writer import HEADER, Seal, Text, opened
from pipeline.errors import Conflict, InvalidInput, Misconfigured, NotFound
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Clock, now
from pipeline.records.queries import MOST, Page
from pipeline.telemetry import concealing, current_cause, current_origin, redact
from schemas.access import Principal
from schemas.message import ID_HEADER, DeadLetter, DeadLetterHeader, Message

log = logging.getLogger(__name__)

WINDOW = 256
"""Sequences that are looked at together; doubled while nothing is found."""
WIDEST = 16_384


class DeadLetters:
    """Every call sees the letters of its caller's organisation only.

    `home` is the installation's own organisation; to it belong letters of which nobody can tell
    whose they are.
    """

    def __init__(
        self, bus: Bus, *, home: str = "default", seal: Seal | None = None, clock: Clock = now
    ) -> None:
        self._bus = bus
        self._home = home
        self.seal = seal
        self._clock = clock

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
        """With its payload, masked. Raises NotFound."""
        stored = await self._stored(caller, id)
        letter = _shown(stored)
        try:
            text = self._text(stored)
        except Misconfigured as error:
            log.warning("dead letter %s cannot be read: %s", id, error.message)
            return letter
        size, data = len(text.data), masking.shown(letter.subject, text.data)
        return letter.model_copy(update={"data": data, "size_bytes": size})

    async def reveal(self, caller: Principal, id: str) -> DeadLetter:
        """The whole text, as it was published. It is told as an event before it is shown.

        Raises NotFound, Conflict when no key opens it, BusUnavailable when it could not be told.
        """
        stored = await self._stored(caller, id)
        letter, text = _shown(stored), self._whole(stored)
        await self._tell("revealed", caller, letter)
        log.info("%s was shown the text of dead letter %s", caller.id, id)
        known = {"headers": dict(text.headers), "size_bytes": len(text.data), "masked": False}
        return letter.model_copy(update=known | _payload(text.data))

    async def requeue(self, caller: Principal, id: str) -> DeadLetter:
        """Publish the message again where it was, then remove the letter.

        The CloudEvent keeps its id, so handlers know it again; only the broker's message id is
        new, or the dedupe window would swallow it. Idempotent. Raises NotFound, and Conflict when
        the payload was not kept or no key opens it.
        """
        stored = await self._stored(caller, id)
        letter = _shown(stored)
        if letter.truncated:
            raise Conflict("Its payload was too large to be kept: send the message again.")
        text = self._whole(stored)
        new_id = f"requeue.{id}.{stored.headers.get(ID_HEADER, '')}"
        headers = {**text.headers, ID_HEADER: new_id}
        await self._bus.publish_raw(letter.subject, text.data, headers)
        await self._tell("requeued", caller, letter)
        await self._bus.delete_stored(topology.DEAD.name, stored.sequence)
        log.info("%s requeued dead letter %s (%s)", caller.id, id, letter.subject)
        return letter

    async def drop(self, caller: Principal, id: str) -> None:
        """Forget it; that is told as an event first. Raises NotFound."""
        stored = await self._stored(caller, id)
        await self._tell("dropped", caller, _shown(stored))
        await self._bus.delete_stored(topology.DEAD.name, stored.sequence)
        log.info("%s dropped dead letter %s", caller.id, id)

    async def _stored(self, caller: Principal, id: str) -> StoredEvent:
        try:
            stored = await self._bus.stored(topology.DEAD.name, _sequence(id, "id"))
            if self._owner(_shown(stored)) == caller.org:
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
            letters += [_shown(m) for m in batch.messages if m.sequence < end]
            more = batch.more
            after = batch.messages[-1].sequence if batch.messages else end
        return letters

    def _owner(self, letter: DeadLetter) -> str:
        return letter.org or self._home

    def _whole(self, stored: StoredEvent) -> Text:
        try:
            return self._text(stored)
        except Misconfigured as error:
            log.warning("dead letter %d cannot be read: %s", stored.sequence, error.message)
            raise Conflict(
                "No configured encryption key opens it any more: send the message again."
            ) from error

    def _text(self, stored: StoredEvent) -> Text:
        """Raises Misconfigured."""
        header = _header(stored)
        if not header.sealed:
            headers = {name: value for name, value in stored.headers.items() if name != HEADER}
            return Text(headers, stored.data)
        if self.seal is None:
            raise Misconfigured("MODELYARD_ENCRYPTION_KEYS is empty.")
        record = stored.headers.get(ID_HEADER, "")
        return opened(self.seal, stored.data, header=header, record=record)

    async def _tell(self, kind: str, caller: Principal, letter: DeadLetter) -> None:
        org = self._owner(letter)
        await self._bus.publish(
            Message(
                id=f"{topology.DEAD_LETTER}.{letter.id}.{kind}.{new_id()}",
                subject=topology.event(org, topology.DEAD_LETTER, letter.id, kind),
                type=f"modelyard.{topology.DEAD_LETTER}.{kind}",
                time=self._clock(),
                actor=caller.id,
                causation_id=current_cause(),
                origin=current_origin(),
                data={"id": letter.id, "org": org, "subject": letter.subject, "code": letter.code},
            )
        )


def _shown(stored: StoredEvent) -> DeadLetter:
    """Without its payload. Letters of earlier releases tell reasons as they came."""
    subject = stored.subject.removeprefix(topology.DEAD_PREFIX)
    headers = {name: value for name, value in stored.headers.items() if name != HEADER}
    header = _header(stored)
    if not header.sealed:
        with concealing(partial(masking.hidden, subject, stored.data)):
            header = _redacted(header)
    return DeadLetter(
        **header.model_dump(),
        id=str(stored.sequence),
        subject=subject,
        type=headers.get("ce-type"),
        headers={name: masking.shown_header(name, value) for name, value in headers.items()},
    )


def _redacted(header: DeadLetterHeader) -> DeadLetterHeader:
    history = [
        attempt.model_copy(update={"reason": redact(attempt.reason)}) for attempt in header.history
    ]
    return header.model_copy(update={"reason": redact(header.reason), "history": history})


def _header(stored: StoredEvent) -> DeadLetterHeader:
    """What was written beside it, or as much as can be told of a message that came otherwise."""
    try:
        return DeadLetterHeader.model_validate_json(stored.headers.get(HEADER, ""))
    except ValueError:
        return DeadLetterHeader(
            org=topology.org_of(stored.subject.removeprefix(topology.DEAD_PREFIX)),
            stage="",
            stream="",
            sequence=0,
            code="unknown",
            reason="It came without a reason.",
            attempts=0,
            time=stored.time,
        )


def _payload(data: bytes) -> dict[str, Any]:
    try:
        return {"data": json.loads(data) if data else None}
    except (ValueError, RecursionError):
        return {"data_base64": base64.b64encode(data).decode()}


def _sequence(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise InvalidInput(f"{text!r} is not one that we gave out.", field=field)
    return int(text)
