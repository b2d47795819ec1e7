"""Streams, subjects, durable names and delivery limits: the map of everything that flows.

Subjects
    yard.cmd.<org>.<resource>.<verb>       what somebody asks for
    yard.node.<node>.<verb>                what one agent must do
    yard.evt.<org>.<resource>.<id>.<kind>  what happened
    yard.dead.<original subject>           what could not be done
    yard.attempt.<stream>.<message>        why one attempt failed; kept until the message is done
    yard.live.<org>.<resource>.<id>.<kind> the events once more as they are stored, outside the
                                           streams: what a live reader listens to
    yard.agent.<node>.<service>            request and reply with one agent, outside the streams
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import InvalidInput

_TOKEN = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
KIND = r"^[A-Za-z0-9_-]{1,128}(\.[A-Za-z0-9_-]{1,128})*$"
"""Kinds of events: tokens with dots between."""

DAY_S = 86_400

VERSION = 1
"""Written into every stream and durable. Raise it with every change of a plan below.

While two releases run side by side, `Bus.prepare` of the older one finds the higher number and
leaves what the newer one made as it is: streams never shrink under the newer release.
"""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A JetStream stream (file storage)."""

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    max_age_s: int = 0
    """0 keeps messages until they are done."""
    duplicate_window_s: int = 120
    live: str = ""
    """Prefix under which each message is published again, with its sequence, once stored."""


COMMANDS = StreamPlan("YARD_COMMANDS", ("yard.cmd.>",), work_queue=True)
NODES = StreamPlan("YARD_NODES", ("yard.node.>",), work_queue=True)
EVENTS = StreamPlan("YARD_EVENTS", ("yard.evt.>",), max_age_s=7 * DAY_S, live="yard.live")
ADVISORY_SUBJECT = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"
"""What the broker says when it stops delivering a message that nobody acknowledged."""
DEAD = StreamPlan("YARD_DEAD", ("yard.dead.>", ADVISORY_SUBJECT), max_age_s=30 * DAY_S)
ATTEMPTS = StreamPlan("YARD_ATTEMPTS", ("yard.attempt.>",), max_age_s=DAY_S)
"""Failed attempts at messages that are still being tried, from every process."""
STREAMS = (COMMANDS, NODES, EVENTS, DEAD, ATTEMPTS)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A durable consumer of a work queue, and how patient it is."""

    durable: str
    stream: StreamPlan
    subject: str
    ack_wait_s: float = 30
    """Without a sign of life for this long a message is delivered again."""
    max_deliver: int = 6
    """Attempts, after which the message is dead. Handing it back on shutdown counts as one."""
    retry_base_s: float = 1
    """Delay before the second attempt; each further one triples."""
    retry_cap_s: float = 60
    workers: int = 8
    """Messages that one process handles at once."""
    cloud_events: bool = True
    """False for what the broker itself publishes."""


def _commands(resource: str, verb: str, workers: int = 8) -> StagePlan:
    return StagePlan(
        durable=f"{resource}-{verb}",
        stream=COMMANDS,
        subject=f"yard.cmd.*.{resource}.{verb}",
        workers=workers,
    )


def _proofs(verb: str) -> StagePlan:
    """Long work: noticed soon when its worker died, and handed on as often as workers do."""
    return StagePlan(
        durable=f"image-{verb}",
        stream=COMMANDS,
        subject=f"yard.cmd.*.image.{verb}",
        ack_wait_s=10,
        max_deliver=20,
        workers=32,
    )


IMAGE_CREATE = _commands("image", "create")
IMAGE_VALIDATE = _commands("image", "validate", workers=32)
IMAGE_DELETE = _commands("image", "delete")
IMAGE_LOAD = _proofs("load")
IMAGE_RUN = _proofs("run")
IMAGE_SERVE = _proofs("serve")
IMAGE_SHUTDOWN = _proofs("shutdown")
CONTAINER_CREATE = _commands("container", "create", workers=16)
CONTAINER_PLACE = _commands("container", "place", workers=16)
CONTAINER_STOP = _commands("container", "stop")
CONTAINER_DELETE = _commands("container", "delete")
REGISTRY_CREATE = _commands("registry", "create")
REGISTRY_UPDATE = _commands("registry", "update")
REGISTRY_DELETE = _commands("registry", "delete")
REGISTRY_HEALTH = _commands("registry", "health", workers=64)
SECRET_CHECK = _commands("secret", "check", workers=16)
STAGES = (
    IMAGE_CREATE,
    IMAGE_VALIDATE,
    IMAGE_DELETE,
    IMAGE_LOAD,
    IMAGE_RUN,
    IMAGE_SERVE,
    IMAGE_SHUTDOWN,
    CONTAINER_CREATE,
    CONTAINER_PLACE,
    CONTAINER_STOP,
    CONTAINER_DELETE,
    REGISTRY_CREATE,
    REGISTRY_UPDATE,
    REGISTRY_DELETE,
    REGISTRY_HEALTH,
    SECRET_CHECK,
)

ADVISORIES = StagePlan(
    durable="dead-advisories",
    stream=DEAD,
    subject=ADVISORY_SUBJECT,
    workers=1,
    cloud_events=False,
)
"""Turns the broker's advisories into dead letters. Run by every worker."""
DURABLES = (*STAGES, ADVISORIES)


def node_stage(node: str) -> StagePlan:
    """The durable of one agent: every order for its node, whatever the verb.

    Many at once, since an order that waits for its pull must not hold up one that ends a pull.
    """
    return StagePlan(f"node-{token(node)}", NODES, f"yard.node.{node}.*", workers=64)


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


DEAD_PREFIX = "yard.dead."


def dead(subject: str) -> str:
    return DEAD_PREFIX + subject


def attempt(stream: str, message: str) -> str:
    return f"yard.attempt.{token(stream)}.{token(message)}"


def events_of(org: str | None) -> str:
    """Filter on the event stream; None is every organisation."""
    return "yard.evt.>" if org is None else f"yard.evt.{token(org)}.>"


def matches(pattern: str, subject: str) -> bool:
    """NATS wildcards: `*` is one token, `>` at the end one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        token in ("*", part) for token, part in zip(wanted, given, strict=True)
    )


def org_of(subject: str) -> str | None:
    """The organisation that a command or event subject belongs to; None for any other subject.

    The subject is what the broker's permissions guard, so a payload is never asked.
    """
    parts = subject.split(".")
    return parts[2] if len(parts) > 3 and parts[:2] in (["yard", "cmd"], ["yard", "evt"]) else None


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
