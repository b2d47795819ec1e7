"""What is asked of the agent beside a container, through the broker: output, and files of a run.

The agent answers with `pipeline.agent.container_io`. A request names what lies in the store, so
that it stays small; answers come back piece by piece.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AwareDatetime, Field, TypeAdapter

from pipeline import concurrency, topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.containers.observation import OVER
from pipeline.containers.service import Containers
from pipeline.containers.specs import require_place
from pipeline.errors import (
    BusUnavailable,
    Conflict,
    ContainerMissing,
    EngineUnavailable,
    InvalidInput,
    Timeout,
    TooLarge,
    YardError,
)
from pipeline.images.specs import require_env, require_no_nul
from pipeline.logs.service import StoredLogs
from schemas.access import Principal
from schemas.base import Mark, Shape
from schemas.container import Container, EnvNames, Folder, Program, Text, User
from schemas.states import ContainerStatus as Status

LOGS: Final = "logs"
PUT: Final = "put-inputs"
GET: Final = "get-outputs"
EXEC: Final = "exec"
HELD: Final = "held"
EXEC_MAX_S: Final = 3600
IDLE_S: Final = 30
"""An agent that says nothing for this long, not even that it is alive, is taken for gone."""


class LogRequest(Shape):
    container: str
    tail: int | None = 100
    since: AwareDatetime | None = None
    follow: bool = False


class LogEntry(Shape):
    """One chunk of output."""

    stream: Literal["stdout", "stderr"]
    time: AwareDatetime
    text: str


class ExecSpec(Shape):
    """A further program in a container that runs."""

    command: list[Text] = Field(min_length=1, max_length=1000, json_schema_extra=Program)
    """Program and arguments; no shell is involved."""
    timeout_s: float = Field(default=60, gt=0, le=EXEC_MAX_S, allow_inf_nan=False)
    """After which it is killed."""
    working_dir: Folder | None = None
    user: User | None = None
    env: Annotated[dict[str, Text], Mark.CONCEALED] = Field(
        default_factory=dict, json_schema_extra=EnvNames
    )


class ExecRequest(Shape):
    container: str
    spec: ExecSpec


class ExecOutput(Shape):
    """Some of what it wrote."""

    stream: Literal["stdout", "stderr"]
    text: str


class ExecEnd(Shape):
    """The last of what is said about it."""

    exit_code: int
    timed_out: bool = False
    """Killed because its time was over."""


ExecEntry: TypeAlias = ExecOutput | ExecEnd


class HeldRequest(Shape):
    """Whether an engine has a container called so, whoever made it."""

    name: str = Field(max_length=255)
    """Or its id, or the beginning of one."""


class PutInputs(Shape):
    """Lay the files of a run into a container, and make the folder for its outputs."""

    container: str
    files: list[str] = Field(max_length=100)
    """uuids of ModelFile records."""


class GetOutputs(Shape):
    """Read the folder of a run's outputs."""

    container: str
    max_bytes: int = Field(ge=1)
    """Of the archive; more is an error."""


_AWAY: Final = (BusUnavailable, Timeout, EngineUnavailable, ContainerMissing)
"""Raised where a node cannot say what a container wrote: what is kept of it can."""


class Logs:
    """Output of containers, for callers who may see them: from the node while it is there, which
    has all of the newest launch to the letter, else what is kept of all launches."""

    def __init__(self, bus: Bus, store: Store, kept: StoredLogs) -> None:
        self._bus = bus
        self._store = store
        self._kept = kept

    async def read(
        self,
        caller: Principal,
        uuid: str,
        *,
        tail: int | None = 100,
        since: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogEntry]:
        """Oldest first, also of a container that is deleted. With `follow` it ends when the
        container does, or the reader leaves.

        Where a node that should have it does not answer, what is kept comes first and then the
        error, for one who follows, and else only where nothing is kept. Raises NotFound, Conflict
        when the container never reached a node, EngineUnavailable, BusUnavailable.
        """
        container = await self._store.get(Container, uuid, org=caller.org)
        request = LogRequest(container=uuid, tail=tail, since=since, follow=follow)
        away: YardError | None = None
        has_begun = False
        if container.node is not None and container.status not in (Status.LOST, Status.DELETED):
            try:
                async with aclosing(_ask(self._bus, container.node, LOGS, request)) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        yield LogEntry.model_validate_json(chunk)
                return
            except _AWAY as error:
                if has_begun:
                    raise
                away = error
        for kept in await self._kept.last(caller, uuid, lines=tail, since=since):
            has_begun = True
            yield LogEntry(stream=kept.stream, time=kept.time, text=kept.text)
        if away is not None and (follow or (tail != 0 and not has_begun)):
            raise away
        if not has_begun and container.node is None and container.status not in OVER:
            raise Conflict(f"The container is {container.status}: it has no logs yet.")


class Exec:
    """Commands in containers, for callers who may run them. Each is told of by two events."""

    def __init__(self, bus: Bus, containers: Containers) -> None:
        self._bus = bus
        self._containers = containers

    async def run(
        self, caller: Principal, uuid: str, spec: ExecSpec
    ) -> AsyncGenerator[ExecEntry, None]:
        """What it writes, then how it ended. A reader who leaves ends it.

        Raises NotFound, InvalidInput, Conflict for a container that does not run, EngineErrors,
        BusUnavailable when its agent does not answer.
        """
        _require(spec)
        container = await self._containers.get(caller, uuid)
        if container.node is None or container.status not in (Status.RUNNING, Status.UNHEALTHY):
            raise Conflict(f"The container is {container.status}: commands need one that runs.")
        # Every viewer reads events, and arguments often hold passwords.
        told = {"program": spec.command[0], "arguments": len(spec.command) - 1}
        await self._containers.tell(caller, uuid, "exec.started", **told)
        end: ExecEnd | None = None
        try:
            request = ExecRequest(container=uuid, spec=spec)
            async with aclosing(_ask(self._bus, container.node, EXEC, request)) as chunks:
                async for chunk in chunks:
                    entry = _ENTRY.validate_json(chunk)
                    end = entry if isinstance(entry, ExecEnd) else None
                    yield entry
        finally:
            facts = end.model_dump() if end else {"exit_code": None, "timed_out": False}
            ended = self._containers.tell(caller, uuid, "exec.ended", **told, **facts)
            await concurrency.run_to_completion(ended)


class EngineNames:
    """What engines have that is nobody's business here, but in the way."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def is_held(self, node: str, name: str) -> bool:
        """Raises BusUnavailable, EngineUnavailable."""
        request = HeldRequest(name=name)
        async with aclosing(_ask(self._bus, node, HELD, request)) as pieces:
            return b"".join([piece async for piece in pieces]) == b"true"


class ContainerFiles:
    """Raises BusUnavailable when the agent does not answer, ContainerMissing, and EngineErrors."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put_inputs(self, container: Container, files: list[str]) -> None:
        request = PutInputs(container=container.uuid, files=files)
        async with aclosing(_ask(self._bus, _node_of(container), PUT, request)) as pieces:
            async for _ in pieces:
                continue

    async def get_outputs(self, container: Container, *, max_bytes: int) -> bytes:
        """A TAR of the output folder. Raises TooLarge, PathMissing."""
        request = GetOutputs(container=container.uuid, max_bytes=max_bytes)
        archive = bytearray()
        async with aclosing(_ask(self._bus, _node_of(container), GET, request)) as pieces:
            async for piece in pieces:
                archive += piece
                if len(archive) > max_bytes:
                    raise too_large(max_bytes)
        return bytes(archive)


_ENTRY: Final[TypeAdapter[ExecEntry]] = TypeAdapter(ExecEntry)


def _require(spec: ExecSpec) -> None:
    """Raises InvalidInput."""
    for argument in spec.command:
        require_no_nul(argument, "command")
    if not spec.command[0]:
        raise InvalidInput("command names no program.", field="command")
    require_env(spec.env)
    require_place(spec.working_dir, spec.user)


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The outputs have more than {max_bytes} bytes.")


def _node_of(container: Container) -> str:
    if container.node is None:
        raise ContainerMissing(f"The container {container.name} is on no node.")
    return container.node


def _ask(bus: Bus, node: str, service: str, request: Shape) -> AsyncGenerator[bytes]:
    subject = topology.agent_service(node, service)
    return bus.request_stream(subject, request.model_dump_json().encode(), idle_s=IDLE_S)
