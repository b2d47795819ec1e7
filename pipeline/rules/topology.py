"""Streams, subjects, durable names and delivery limits: the map of everything that flows.

Subjects
    yard.cmd.<org>.<resource>.<verb>       what somebody asks for
    yard.node.<node>.<verb>                what one agent must do
    yard.evt.<org>.<resource>.<id>.<kind>  what happened
    yard.dead.<original subject>           what could not be done
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import InvalidInput

_TOKEN = re.compile(r"^[A-Za-z0-9_-]{1,128}$")

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A JetStream stream (file storage)."""

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    max_age_s: int = 0
    """0 keeps messages until they are done."""
    duplicate_window_s: int = 120


COMMANDS = StreamPlan("YARD_COMMANDS", ("yard.cmd.>",), work_queue=True)
NODES = StreamPlan("YARD_NODES", ("yard.node.>",), work_queue=True)
EVENTS = StreamPlan("YARD_EVENTS", ("yard.evt.>",), max_age_s=7 * DAY_S)
DEAD = StreamPlan(
    "YARD_DEAD",
    ("yard.dead.>", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"),
    max_age_s=30 * DAY_S,
)
STREAMS = (COMMANDS, NODES, EVENTS, DEAD)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A durable consumer of a work queue, and how patient it is."""

    durable: str
    stream: StreamPlan
    subject: str
    ack_wait_s: float = 30
    """Without a sign of life for this long a message is delivered again."""
    max_deliver: int = 6
    workers: int = 8
    """Messages that one process handles at once."""


def _commands(resource: str, verb: str, workers: int = 8) -> StagePlan:
    return StagePlan(
        durable=f"{resource}-{verb}",
        stream=COMMANDS,
        subject=f"yard.cmd.*.{resource}.{verb}",
        workers=workers,
    )


IMAGE_CREATE = _commands("image", "create")
IMAGE_VALIDATE = _commands("image", "validate", workers=32)
IMAGE_DELETE = _commands("image", "delete")
CONTAINER_CREATE = _commands("container", "create", workers=16)
CONTAINER_PLACE = _commands("container", "place", workers=16)
CONTAINER_STOP = _commands("container", "stop")
CONTAINER_DELETE = _commands("container", "delete")
STAGES = (
    IMAGE_CREATE,
    IMAGE_VALIDATE,
    IMAGE_DELETE,
    CONTAINER_CREATE,
    CONTAINER_PLACE,
    CONTAINER_STOP,
    CONTAINER_DELETE,
)


def node_stage(node: str) -> StagePlan:
    """The durable of one agent: every order for its node, whatever the verb."""
    return StagePlan(f"node-{token(node)}", NODES, f"yard.node.{node}.*", workers=16)


def token(text: str) -> str:
    """One subject token. Raises InvalidInput when it could change the subject's meaning."""
    if not _TOKEN.match(text):
        raise InvalidInput(f"{text!r} cannot stand in a subject: use letters, digits, - and _.")
    return text


def command(org: str, resource: str, verb: str) -> str:
    return f"yard.cmd.{token(org)}.{token(resource)}.{token(verb)}"


def node_order(node: str, verb: str) -> str:
    return f"yard.node.{token(node)}.{token(verb)}"


def event(org: str, resource: str, id: str, kind: str) -> str:
    """`kind` may have dots (`pull.progressed`): it is the rest of the subject."""
    return f"yard.evt.{token(org)}.{token(resource)}.{token(id)}." + ".".join(
        token(part) for part in kind.split(".")
    )


def agent_service(node: str, service: str) -> str:
    """Request and reply with one agent, outside the streams."""
    return f"yard.agent.{token(node)}.{token(service)}"


def dead(subject: str) -> str:
    return f"yard.dead.{subject}"


class EventSubject(NamedTuple):
    org: str
    resource: str
    id: str
    kind: str


def parse_event(subject: str) -> EventSubject:
    parts = subject.split(".", 5)
    if len(parts) != 6 or parts[:2] != ["yard", "evt"]:
        raise InvalidInput(f"{subject!r} is not an event subject.")
    return EventSubject(*parts[2:])


class CommandSubject(NamedTuple):
    org: str
    resource: str
    verb: str


def parse_command(subject: str) -> CommandSubject:
    parts = subject.split(".")
    if len(parts) != 5 or parts[:2] != ["yard", "cmd"]:
        raise InvalidInput(f"{subject!r} is not a command subject.")
    return CommandSubject(*parts[2:])
