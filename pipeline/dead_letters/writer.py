"""How a message comes to lie among the dead letters: history, sealed text, word to its sender."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from pydantic import ValidationError

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.dead_letters import masking
from pipeline.errors import InvalidInput, TooLarge, YardError
from pipeline.records.kernel import Clock
from pipeline.telemetry import concealing, redact
from schemas.message import ID_HEADER, Attempt, DeadLetterHeader, Message, Rejection

log = logging.getLogger(__name__)

HEADER = "Yard-Dead"
REASON_CHARACTERS = 500
HISTORY = 20
"""Attempts that are told, the newest."""
NOTE_S = 2.0
"""A note about an attempt is worth no longer wait."""
HEADERS_BYTES = 32 * 1024
"""Room for headers when a payload is cut."""
_COMMANDS = uuid.UUID("0d4a0f7e-6a3c-4b54-8f5e-0e8b6a1c7d21")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Seal(Protocol):
    """`pipeline.secrets.vault.Vault`, or what else keeps texts of organisations apart."""

    def seal_bytes(self, plain: bytes, *, org: str, record: str) -> bytes: ...

    def open_bytes(self, sealed: bytes, *, org: str, record: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Text:
    """A message as it was published."""

    headers: Mapping[str, str]
    data: bytes


class DeadLetterWriter:
    """`worker` names this process in histories.

    Reasons are freed from values of the payload that are not to be shown. With a `seal` the text is
    kept encrypted.
    """

    def __init__(self, bus: Bus, clock: Clock, *, worker: str, seal: Seal | None = None) -> None:
        self._bus = bus
        self._clock = clock
        self._worker = worker
        self._seal = seal

    async def note(
        self, stream: str, message: StoredEvent, *, number: int, code: str, reason: str
    ) -> None:
        """Remember a failed attempt for the history. Its loss is logged and harms nothing else."""
        attempt = self._attempt(message, number, code, reason)
        try:
            await self._bus.publish_raw(
                topology.attempt(stream, _name(message)),
                attempt.model_dump_json().encode(),
                {ID_HEADER: f"{stream}.{_name(message)}.{number}.{self._worker}"},
                timeout_s=NOTE_S,
            )
        except YardError as error:
            log.warning("attempt %d is not in the history: %s", number, error.message)

    async def may_come(self, message: StoredEvent) -> bool:
        """Does a creation of the same organisation still wait, that could make what was not found?

        Commands of different kinds are carried out side by side. Raises BusUnavailable.
        """
        org = topology.org_of(message.subject)
        if org is None:
            return False
        waiting = f"yard.cmd.{org}.*.create"
        batch = await self._bus.read_batch(
            topology.COMMANDS.name, after=0, subject=waiting, limit=2
        )
        return any(each.sequence != message.sequence for each in batch.messages)

    async def dead_letter(
        self, stream: str, message: StoredEvent, *, stage: str, number: int, code: str, reason: str
    ) -> None:
        """Copy it to the dead letters, and tell the sender of a command. Idempotent.

        The original is the caller's to remove.

        Raises BusUnavailable.
        """
        history = await self._history(stream, message)
        last = self._attempt(message, number, code, reason)
        header = DeadLetterHeader(
            org=_org(message),
            stage=stage,
            stream=stream,
            sequence=message.sequence,
            message_id=redact(message.headers.get(ID_HEADER, "")) or None,
            code=code,
            reason=last.reason,
            attempts=number,
            history=[*(past for past in history if past.number != number), last][-HISTORY:],
            time=self._clock(),
        )
        await self._publish(stream, message, header)
        told = _rejection(message, header, id=f"rejected.{stream}.{_name(message)}")
        if told is not None:
            await self._bus.publish(told)
        log.error(
            "gave up %s after %d attempts: %s", message.subject, number, last.reason,
            extra={"code": code, "stage": stage},
        )  # fmt: skip

    async def _publish(self, stream: str, message: StoredEvent, header: DeadLetterHeader) -> None:
        subject = topology.dead(message.subject)
        message_id = f"dead.{stream}.{_name(message)}"
        kept = {n: value for n, value in message.headers.items() if _HEADER_NAME.fullmatch(n)}
        text = Text(kept, message.data)
        try:
            body, headers = self._written(header, text, message_id)
            await self._bus.publish_raw(subject, body, headers)
        except TooLarge:
            room = self._bus.max_payload - HEADERS_BYTES
            cut = header.model_copy(update={"truncated": True})
            body, headers = self._written(cut, Text({}, message.data[:room]), message_id)
            await self._bus.publish_raw(subject, body, headers)

    def _written(
        self, header: DeadLetterHeader, text: Text, message_id: str
    ) -> tuple[bytes, dict[str, str]]:
        headers, body = dict(text.headers), text.data
        if self._seal is not None:
            header = header.model_copy(update={"sealed": True})
            body = sealed(self._seal, text, org=header.org, record=message_id)
            headers = {n: v for n, v in headers.items() if n.lower() in masking.SHOWN_HEADERS}
        told = json.dumps(header.model_dump(mode="json"), separators=(",", ":"))
        return body, headers | {ID_HEADER: message_id, HEADER: told}

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

    def _attempt(self, message: StoredEvent, number: int, code: str, reason: str) -> Attempt:
        with concealing(partial(masking.hidden, message.subject, message.data)):
            told = redact(" ".join(reason.split()))[:REASON_CHARACTERS]
        return Attempt(number=number, at=self._clock(), code=code, reason=told, worker=self._worker)


class UnroutableCommands:
    """Commands that no stage knows become dead letters: their sender learns of it, no queue grows.

    A command counts once it is older than `age_s`: durables may be in the making.
    """

    def __init__(self, bus: Bus, clock: Clock, *, age_s: float, seal: Seal | None = None) -> None:
        self._bus = bus
        self._clock = clock
        self._age = timedelta(seconds=age_s)
        self._writer = DeadLetterWriter(bus, clock, worker="unclaimed", seal=seal)

    async def sweep(self) -> int:
        """Make dead letters of what nobody will ever take. Returns how many.

        Idempotent. Raises BusUnavailable.
        """
        before = self._clock() - self._age
        given_up = 0
        for subject in await self._bus.unroutable(topology.COMMANDS):
            # What this release handles is only waiting for its durable.
            if any(topology.matches(plan.subject, subject) for plan in topology.STAGES):
                continue
            async with aclosing(self._bus.read_stored(topology.COMMANDS.name, subject)) as found:
                async for message in found:
                    if message.time < before:
                        await self._give_up(message)
                        given_up += 1
        return given_up

    async def _give_up(self, message: StoredEvent) -> None:
        stream = topology.COMMANDS.name
        await self._writer.dead_letter(
            stream,
            message,
            stage="",
            number=0,
            code="unknown_command",
            reason=f"No stage handles {message.subject}: see the list of commands at /asyncapi.",
        )
        await self._bus.delete_stored(stream, message.sequence)


def sealed(seal: Seal, text: Text, *, org: str | None, record: str) -> bytes:
    """Headers and data together; `record` is the message id of the letter."""
    plain = json.dumps(dict(text.headers)).encode() + b"\n" + text.data
    return seal.seal_bytes(plain, org=org or "", record=record)


def opened(seal: Seal, body: bytes, *, header: DeadLetterHeader, record: str) -> Text:
    """Raises Misconfigured when no configured key opens it."""
    plain = seal.open_bytes(body, org=header.org or "", record=record)
    headers, _, data = plain.partition(b"\n")
    return Text(json.loads(headers), data)


def _rejection(message: StoredEvent, header: DeadLetterHeader, *, id: str) -> Message | None:
    """None for what is no command of an organisation. `id` is that of the event."""
    try:
        asked = topology.parse_command(message.subject)
    except InvalidInput:
        return None
    command = _read(message, header.time)
    told = command.id if command else header.message_id or str(message.sequence)
    about = _token(str(command.data.get("id", "")) if command else "") or _token(told)
    data = Rejection(
        id=about or str(uuid.uuid5(_COMMANDS, told)),
        org=asked.org,
        command=told,
        verb=asked.verb,
        code=header.code,
        reason=header.reason,
        attempts=header.attempts,
    )
    return Message(
        id=id,
        subject=topology.event(asked.org, asked.resource, data.id, "rejected"),
        type=f"modelyard.{asked.resource}.rejected",
        time=header.time,
        causation_id=(command.causation_id if command else None) or told,
        data=data.model_dump(),
    )


def _read(message: StoredEvent, at: datetime) -> Message | None:
    try:
        return Message.from_wire(message.subject, message.headers, message.data, received_at=at)
    except ValueError:
        return None


def _token(text: str) -> str | None:
    try:
        return topology.token(text)
    except InvalidInput:
        return None


def _name(message: StoredEvent) -> str:
    """One token that means this message, also after its stream was made anew."""
    # Ids are unique over organisations (`topology.intake`); what has none is told apart here.
    chosen = message.headers.get(ID_HEADER, "").encode()
    chosen = chosen or message.subject.encode() + b"\n" + message.data
    return f"{message.sequence}-{hashlib.sha256(chosen).hexdigest()[:16]}"


def _org(message: StoredEvent) -> str | None:
    """From the subject; for orders to nodes, which only Modelyard publishes, from the data."""
    if org := topology.org_of(message.subject):
        return org
    order = _read(message, message.time)
    org = order.data.get("org") if order else None
    return org if isinstance(org, str) else None
