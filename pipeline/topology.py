"""Streams, subjects, durable names and delivery limits: the map of everything that flows.

Subjects
    yard.cmd.<org>.<resource>.<verb>       what somebody asks for
    yard.ask.<org>.<resource>.<verb>       the same from the broker user of an organisation, before
                                           it is taken in: in a stream of that organisation alone
    yard.node.<node>.<verb>                what one agent must do
    yard.evt.<org>.<resource>.<id>.<kind>  what happened
    yard.dead.<original subject>           what could not be done
    yard.attempt.<stream>.<message>        why one attempt failed; kept until the message is done
    yard.live.<org>.<resource>.<id>.<kind> the events once more as they are stored, outside the
                                           streams: what a live reader listens to
    yard.agent.<node>.<service>            request and reply with one agent, outside the streams
    yard.log.<node>.<kind>                 what containers of a node write, on its way to the store
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
    max_bytes: int = 0
    """Beyond which nothing more is taken; 0: for as long as there is disk."""
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
ASKED_STREAM = "YARD_ASKED_"
ASKED_PREFIX = "yard.ask."
LOGS = StreamPlan("YARD_LOGS", ("yard.log.>",), work_queue=True, max_bytes=256 * 1024**2)
"""While it is full, agents wait and engines keep what containers write."""
STREAMS = (COMMANDS, NODES, EVENTS, DEAD, ATTEMPTS, LOGS)


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
    in_order: bool = False
    """One message at a time in the whole system: the next one only when the last is done."""
    skipped: tuple[str, ...] = ()
    """Kinds of events of which there is nothing to do: acknowledged unread."""
    after: int | None = None
    """Where a new durable begins: behind this sequence. None: at the oldest message."""
    idle_s: int = 0
    """The broker removes a durable that nobody reads for this long; 0: never."""


def _commands(
    resource: str, verb: str, *, workers: int = 8, ack_wait_s: float = 30, max_deliver: int = 6
) -> StagePlan:
    return StagePlan(
        durable=f"{resource}-{verb}",
        stream=COMMANDS,
        subject=f"yard.cmd.*.{resource}.{verb}",
        ack_wait_s=ack_wait_s,
        max_deliver=max_deliver,
        workers=workers,
    )


def _long_commands(resource: str, verb: str) -> StagePlan:
    """Noticed soon when their worker died, and handed on as often as workers do."""
    return _commands(resource, verb, workers=32, ack_wait_s=10, max_deliver=20)


BUILD_CREATE = _commands("build", "create")
BUILD_PUBLISH = _long_commands("build", "publish")
BUILD_CANCEL = _commands("build", "cancel")
IMAGE_CREATE = _commands("image", "create")
IMAGE_VALIDATE = _commands("image", "validate", workers=32)
IMAGE_DELETE = _commands("image", "delete")
IMAGE_SUPERSEDE = _commands("image", "supersede")
IMAGE_LOAD = _long_commands("image", "load")
IMAGE_RUN = _long_commands("image", "run")
IMAGE_SERVE = _long_commands("image", "serve")
IMAGE_SHUTDOWN = _long_commands("image", "shutdown")
CONTAINER_CREATE = _commands("container", "create", workers=16)
CONTAINER_PLACE = _commands("container", "place", workers=128)
CONTAINER_STOP = _commands("container", "stop")
CONTAINER_START = _commands("container", "start")
CONTAINER_RESTART = _commands("container", "restart")
CONTAINER_REPLACE = _commands("container", "replace")
CONTAINER_DELETE = _commands("container", "delete")
DEPLOYMENT_CREATE = _commands("deployment", "create")
DEPLOYMENT_UPDATE = _commands("deployment", "update")
DEPLOYMENT_START = _commands("deployment", "start")
DEPLOYMENT_STOP = _commands("deployment", "stop")
DEPLOYMENT_RESTART = _commands("deployment", "restart")
DEPLOYMENT_ROLLBACK = _commands("deployment", "rollback")
DEPLOYMENT_DELETE = _commands("deployment", "delete")
DEPLOYMENT_RECONCILE = _commands("deployment", "reconcile", workers=16)
REGISTRY_CREATE = _commands("registry", "create")
REGISTRY_UPDATE = _commands("registry", "update")
REGISTRY_DELETE = _commands("registry", "delete")
REGISTRY_HEALTH = _commands("registry", "health", workers=64)
NODE_CORDON = _commands("node", "cordon")
NODE_UNCORDON = _commands("node", "uncordon")
NODE_DRAIN = _commands("node", "drain")
NODE_RESUME = _commands("node", "resume")
NODE_DELETE = _commands("node", "delete")
ORGANISATION_CREATE = _commands("organisation", "create")
ORGANISATION_UPDATE = _commands("organisation", "update")
ORGANISATION_DELETE = _commands("organisation", "delete")
USER_UPDATE = _commands("user", "update")
SECRET_CHECK = _commands("secret", "check", workers=16)
WEBHOOK_DELIVER = _commands("webhook-delivery", "deliver", workers=32)
CATALOG_CREATE = _commands("catalog", "create")
CATALOG_UPDATE = _commands("catalog", "update")
CATALOG_DELETE = _commands("catalog", "delete")
CATALOG_VALIDATE = _commands("catalog", "validate", workers=16)
CATALOG_SETTLE = _commands("catalog", "settle", workers=16)
CATALOG_FORGET = _commands("catalog", "forget")
STAGES = (
    BUILD_CREATE,
    BUILD_PUBLISH,
    BUILD_CANCEL,
    IMAGE_CREATE,
    IMAGE_VALIDATE,
    IMAGE_DELETE,
    IMAGE_SUPERSEDE,
    IMAGE_LOAD,
    IMAGE_RUN,
    IMAGE_SERVE,
    IMAGE_SHUTDOWN,
    *(CONTAINER_CREATE, CONTAINER_PLACE, CONTAINER_STOP, CONTAINER_START),
    *(CONTAINER_RESTART, CONTAINER_REPLACE, CONTAINER_DELETE),
    *(DEPLOYMENT_CREATE, DEPLOYMENT_UPDATE, DEPLOYMENT_START, DEPLOYMENT_STOP),
    *(DEPLOYMENT_RESTART, DEPLOYMENT_ROLLBACK, DEPLOYMENT_DELETE, DEPLOYMENT_RECONCILE),
    *(REGISTRY_CREATE, REGISTRY_UPDATE, REGISTRY_DELETE, REGISTRY_HEALTH),
    *(NODE_CORDON, NODE_UNCORDON, NODE_DRAIN, NODE_RESUME, NODE_DELETE),
    *(ORGANISATION_CREATE, ORGANISATION_UPDATE, ORGANISATION_DELETE),
    USER_UPDATE,
    SECRET_CHECK,
    WEBHOOK_DELIVER,
    *(CATALOG_CREATE, CATALOG_UPDATE, CATALOG_DELETE),
    *(CATALOG_VALIDATE, CATALOG_SETTLE, CATALOG_FORGET),
)

ADVISORIES = StagePlan(
    durable="dead-advisories", stream=DEAD, subject=ADVISORY_SUBJECT, workers=1, cloud_events=False
)
"""Turns the broker's advisories into dead letters. Run by every worker."""
REPLICAS = StagePlan(
    durable="deployment-replicas",
    stream=EVENTS,
    subject="yard.evt.*.container.>",
    workers=16,
    cloud_events=False,
    # A step on the way, behind which another one comes; and there are very many of them.
    skipped=("requested", "placed", "pull.progressed"),
)
"""Events of containers, as hints to look at the deployments that they are replicas of."""
LOG_INTAKE = StagePlan(
    durable="log-intake",
    stream=LOGS,
    subject="yard.log.>",
    # Output waits for a store that is away, however long that takes.
    max_deliver=1_000_000,
    retry_cap_s=5,
    workers=1,
    cloud_events=False,
    in_order=True,
)
ORG_READER = "org-"
DURABLES = (*STAGES, ADVISORIES, REPLICAS, LOG_INTAKE)


def node_stage(node: str) -> StagePlan:
    """The durable of one agent: every order for its node, whatever the verb.

    Many at once, since an order that waits for its pull must not hold up one that ends a pull.
    """
    return StagePlan(f"node-{token(node)}", NODES, f"yard.node.{node}.*", workers=64)


def asked(org: str) -> StreamPlan:
    """What the broker user of one organisation publishes, until it is taken in.

    A stream drops messages whose id it has seen. Ids are the sender's to choose, so organisations
    share no stream into which they publish themselves.
    """
    prefix = f"{ASKED_PREFIX}{token(org)}"
    return StreamPlan(ASKED_STREAM + org, (f"{prefix}.>",), work_queue=True)


def intake(org: str) -> StagePlan:
    """Takes the commands of one organisation over into `COMMANDS`, for as long as it may need."""
    plan = asked(org)
    return StagePlan(
        durable="intake",
        stream=plan,
        subject=plan.subjects[0],
        max_deliver=1_000_000,
        retry_cap_s=5,
        cloud_events=False,
    )


def org_reader(org: str) -> StagePlan:
    """From which the broker user of an organisation fetches its own past events.

    The system makes it: were organisations allowed to make consumers, they could fetch from those
    of others, too.
    """
    return StagePlan(
        durable=ORG_READER + token(org),
        stream=EVENTS,
        subject=f"yard.evt.{token(org)}.>",
        # An organisation that leaves its events unread must not fill the dead letters.
        max_deliver=-1,
    )


def taken_in(subject: str) -> str:
    """The subject of a command in `COMMANDS` that was published as `yard.ask.…`."""
    return "yard.cmd." + subject.removeprefix(ASKED_PREFIX)


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


def build_context(build: str) -> str:
    return f"yard.agent.{token(build)}.context"


LOG_CHUNKS = "chunks"
LOG_OPEN = "open"


def log_batch(node: str) -> str:
    return f"yard.log.{token(node)}.{LOG_CHUNKS}"


def log_opening(node: str) -> str:
    return f"yard.log.{token(node)}.{LOG_OPEN}"


class LogSubject(NamedTuple):
    node: str
    kind: str


def parse_log(subject: str) -> LogSubject:
    return LogSubject(*subject.split(".")[2:4])


DEAD_PREFIX = "yard.dead."
DEAD_LETTER = "dead-letter"
"""What events about dead letters name as their resource; there is no record behind."""


def dead(subject: str) -> str:
    return DEAD_PREFIX + subject


def attempt(stream: str, message: str) -> str:
    return f"yard.attempt.{token(stream)}.{token(message)}"


def events_of(org: str | None, *about: str) -> str:
    """Filter on the event stream; None is every organisation. `about`: resource and id."""
    parts = () if org is None else (org, *about)
    return ".".join(("yard.evt", *map(token, parts), ">"))


def is_skipped(plan: StagePlan, subject: str) -> bool:
    return bool(plan.skipped) and parse_event(subject).kind in plan.skipped


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
    """The organisation of a command or event, also of one not taken in yet; None for others.

    The subject is what the broker's permissions guard, so a payload is never asked.
    """
    parts = subject.split(".")
    is_theirs = len(parts) > 3 and parts[0] == "yard" and parts[1] in ("ask", "cmd", "evt")
    return parts[2] if is_theirs else None


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
    """Also of one that is not taken in yet (`yard.ask.…`). Raises InvalidInput for others."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[0] != "yard" or parts[1] not in ("cmd", "ask"):
        raise InvalidInput(f"{subject!r} is not a command subject.")
    return CommandSubject(*parts[2:])
