"""How a message comes to lie among the dead letters, with its history."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import aclosing

from pydantic import ValidationError

from pipeline.adapters.bus import Bus, StoredEvent
from pipeline.core import records
from pipeline.errors import TooLarge, YardError
from pipeline.rules import topology
from pipeline.telemetry import redact
from schemas.dead import Attempt, Obituary
from schemas.message import ID_HEADER, Message

log = logging.getLogger(__name__)

HEADER = "Yard-Dead"
REASON_CHARACTERS = 500
HISTORY = 20
"""Attempts that are told, the newest."""
NOTE_S = 2.0
"""A note about an attempt is worth no longer wait."""
HEADERS_BYTES = 32 * 1024
"""Room for headers when a payload is cut."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Burials:
    """`worker` names this process in histories."""

    def __init__(self, bus: Bus, clock: records.Clock, *, worker: str) -> None:
        self._bus = bus
        self._clock = clock
        self._worker = worker

    async def note(
        self, stream: str, message: StoredEvent, *, number: int, code: str, reason: str
    ) -> None:
        """Remember a failed attempt for the history. Its loss is logged and harms nothing else."""
        attempt = self._attempt(number, code, reason)
        try:
            await self._bus.publish_raw(
                topology.attempt(stream, _name(message)),
                attempt.model_dump_json().encode(),
                {ID_HEADER: f"{stream}.{_name(message)}.{number}.{self._worker}"},
                timeout_s=NOTE_S,
            )
        except YardError as error:
            log.warning("attempt %d is not in the history: %s", number, error.message)

    async def bury(
        self, stream: str, message: StoredEvent, *, stage: str, number: int, code: str, reason: str
    ) -> None:
        """Copy it to the dead letters. Idempotent; the original is the caller's to remove.

        Raises BusUnavailable.
        """
        history = await self._history(stream, message)
        last = self._attempt(number, code, reason)
        obituary = Obituary(
            org=_org(message),
            stage=stage,
            stream=stream,
            sequence=message.sequence,
            message_id=message.headers.get(ID_HEADER),
            code=code,
            reason=last.reason,
            attempts=number,
            history=[*(past for past in history if past.number != number), last][-HISTORY:],
            time=self._clock(),
        )
        await self._publish(stream, message, obituary)
        log.error(
            "gave up %s after %d attempts: %s", message.subject, number, last.reason,
            extra={"code": code, "stage": stage},
        )  # fmt: skip

    async def _publish(self, stream: str, message: StoredEvent, obituary: Obituary) -> None:
        subject = topology.dead(message.subject)
        message_id = f"dead.{stream}.{_name(message)}"
        headers = _kept(message) | {ID_HEADER: message_id, HEADER: _one_line(obituary)}
        try:
            await self._bus.publish_raw(subject, message.data, headers)
        except TooLarge:
            cut = obituary.model_copy(update={"truncated": True})
            room = self._bus.max_payload - HEADERS_BYTES
            headers = {ID_HEADER: message_id, HEADER: _one_line(cut)}
            await self._bus.publish_raw(subject, message.data[:room], headers)

    async def _history(self, stream: str, message: StoredEvent) -> list[Attempt]:
        attempts: list[Attempt] = []
        subject = topology.attempt(stream, _name(message))
        try:
            async with aclosing(self._bus.read_stored(topology.ATTEMPTS.name, subject)) as notes:
                async for note in notes:
                    attempts.append(Attempt.model_validate_json(note.data))
        except (YardError, ValidationError) as error:
            log.warning("the history of %s is incomplete: %s", message.subject, error)
        return attempts

    def _attempt(self, number: int, code: str, reason: str) -> Attempt:
        told = redact(" ".join(reason.split()))[:REASON_CHARACTERS]
        return Attempt(number=number, at=self._clock(), code=code, reason=told, worker=self._worker)


def _name(message: StoredEvent) -> str:
    """One token that means this message, also after its stream was made anew."""
    identity = message.headers.get(ID_HEADER, "").encode() or message.data
    return f"{message.sequence}-{hashlib.sha256(identity).hexdigest()[:16]}"


def _org(message: StoredEvent) -> str | None:
    """From the subject; for orders to nodes, which only Modelyard publishes, from the data."""
    if org := topology.org_of(message.subject):
        return org
    try:
        order = Message.from_wire(
            message.subject, message.headers, message.data, received_at=message.time
        )
    except ValueError:
        return None
    org = order.data.get("org")
    return org if isinstance(org, str) else None


def _kept(message: StoredEvent) -> dict[str, str]:
    return {name: value for name, value in message.headers.items() if _HEADER_NAME.fullmatch(name)}


def _one_line(obituary: Obituary) -> str:
    return json.dumps(obituary.model_dump(mode="json"), separators=(",", ":"))
