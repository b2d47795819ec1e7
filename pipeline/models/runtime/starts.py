"""Bringing a container of a model up until it answers, and down again, whoever needs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from pipeline import concurrency, errors
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.containers.observation import OVER
from pipeline.containers.service import Containers
from pipeline.models.runtime.client import ModelClient
from pipeline.models.runtime.container_spec import model_port, unplaceable
from pipeline.models.runtime.readiness import StatusCheck, never_listened
from pipeline.models.version_rules import find_requirement
from pipeline.placement import planning, reasons
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Records, living
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.container import Container, ContainerSpec, Desired
from schemas.image import Image
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import NodeStatus

log = logging.getLogger(__name__)

STARTS: Final = 3
"""A container that exits at once is given this many chances."""
FIRST_LOOK_S: Final = 0.03
LAST_LOOK_S: Final = 0.3
REMOVAL_S: Final = 30
"""A removal is recorded and carried out in any case; this long somebody waits for it."""
UP: Final = frozenset({Status.RUNNING, Status.UNHEALTHY})


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What to start, and for whom. The same `id` means the same containers."""

    id: str
    caller: Principal
    image: Image
    spec: ContainerSpec
    requirement: int
    timeout_s: float
    """From the first start to a good status."""


@dataclass(frozen=True, slots=True)
class StartProgress:
    """How far a start is. `container` is None while no node is free."""

    container: Container | None
    waited: float | None = None
    """Share of the timeout that is over, once the container is asked for its status."""


Start: TypeAlias = AsyncGenerator[StartProgress | Container]
"""How far it is, several times a second, and at last the container. Close it to give up."""


class ModelStarts:
    """Every step is found again from the containers' own records, so a start can be taken over.

    A container is found by the key that made it. Waits look at records several times a second.
    """

    def __init__(
        self, records: Records, containers: Containers, client: ModelClient, settings: Settings
    ) -> None:
        self._store = records.store
        self._clock = records.clock
        self._containers = containers
        self._client = client
        self._node_grace_s = settings.node_grace_s
        self._place_s = settings.load_wait_s
        """How long to wait for a node that is free."""
        self._stop_grace_s = settings.stop_grace_s
        """How long a model that was asked to end may take before it is stopped."""

    async def bring_up(self, request: LaunchRequest) -> Start:
        """At last a running container that has answered `GET /status` as it should.

        Raises the ModelRefused family, with `technical`. The containers stay until `wind_down` or
        `remove`.
        """
        number = await self._number(request)
        step: StartProgress | Container
        while True:
            async for step in self._launch(request, number):
                yield step
            container = _container(step)
            began = await self._began(request, container)
            if container.status in UP:
                async with aclosing(self._check(request, container, began)) as steps:
                    async for step in steps:
                        yield step
                        if isinstance(step, Container):
                            return
                container = await self._reread(_container(step))
            if container.status is Status.RESTARTING:
                continue  # stopped from outside: the same one starts again
            await self._refuse_exited(request, number, container, began)
            await self._removed(request.caller, [container.uuid])
            number += 1

    async def wind_down(self, request: LaunchRequest) -> AsyncGenerator[Container]:
        """Ask the model to end, then stop and remove what is left.

        Yields the container several times a second while it ends; nothing when there was none.
        """
        made = await self._made(request)
        if not made:
            return
        container = made[-1]
        yield container
        if container.status in UP:
            refused = await self._client.shut_down(container)
            if refused is not None:
                log.info("container %s did not agree to end: %s", container.uuid, refused)
            stop_at = 0 if refused is not None else _now() + self._stop_grace_s
            for look_s in looks_s():
                if container.status not in UP or _now() >= stop_at:
                    break
                yield container
                await asyncio.sleep(look_s)
                container = await self._reread(container)
        await self._removed(request.caller, container_ids(request.caller.org, request.id))

    async def unplaced(
        self, container: Container, image: Image, requirement: int
    ) -> errors.ModelRefused:
        """Why no node took a container, as nodes are now or else as its record says."""
        try:
            await self._plan(container.spec, image)
        except errors.CannotPlace as error:
            return unplaceable(error, requirement, image)
        return _unplaced(requirement, container)

    async def remove(self, caller: Principal, id: str | None) -> None:
        """Have what a start left removed, if anything. Idempotent."""
        for uuid in container_ids(caller.org, id) if id else ():
            await self._is_removed(caller, uuid)

    # --- until it runs

    async def _launch(self, request: LaunchRequest, number: int) -> AsyncGenerator[StartProgress]:
        """Until it runs, or has run and ended. Raises the ModelRefused family."""
        uuid = container_ids(request.caller.org, request.id)[number - 1]
        container = await self._store.find_by_id(Container, uuid, org=request.caller.org)
        if container is None:
            async for waiting in self._place(request):
                yield waiting
            key = f"{request.id}/{number}"
            container = await self._containers.run(request.caller, request.spec, key=key)
        give_up_at = _now() + self._place_s
        for look_s in looks_s():
            yield StartProgress(container)
            if container.status in UP or _has_exited(container):
                return
            _refuse_failed(request, container)
            if container.status is not Status.REQUESTED:
                give_up_at = _now() + self._place_s
            elif _now() > give_up_at:
                raise _unplaced(request.requirement, container)
            await asyncio.sleep(look_s)
            container = await self._reread(container)

    async def _place(self, request: LaunchRequest) -> AsyncGenerator[StartProgress]:
        """Until some node is free. What can never fit is refused before anything is pulled."""
        give_up_at = _now() + self._place_s
        for look_s in looks_s():
            try:
                await self._plan(request.spec, request.image)
                return
            except errors.CannotPlace as error:
                if not isinstance(error, errors.NoCapacity) or _now() > give_up_at:
                    raise unplaceable(error, request.requirement, request.image) from error
            yield StartProgress(None)
            await asyncio.sleep(look_s)

    async def _plan(self, spec: ContainerSpec, image: Image) -> None:
        """Raises CannotPlace when no node could take it now."""
        nodes = await self._store.find(
            Node, org=EVERY_ORG, where=living(NodeStatus.DELETED), sort=[]
        )
        gate = await self._containers.gates.of(image)
        wants = planning.request(spec, image, gate)
        reasons.plan(wants, nodes, now=self._clock(), grace_s=self._node_grace_s)

    # --- until it answers

    async def _check(self, request: LaunchRequest, container: Container, began: datetime) -> Start:
        """Ends with the container once it is ready, and without when it ended before."""
        check = StatusCheck(self._client, container, timeout_s=request.timeout_s)
        left_s = self._remaining_s(request, began)
        asking = asyncio.create_task(check.until_ready(left_s), name="ask for status")
        now = container
        try:
            for look_s in looks_s():
                left_s = max(self._remaining_s(request, began), 0)
                yield StartProgress(now, 1 - left_s / request.timeout_s)
                if not asking.done() and now.status not in UP:
                    return
                await asyncio.wait({asking}, timeout=look_s)
                now = await self._reread(container)
                if asking.done():
                    break
            await asking
        except errors.ModelRefused as error:
            lines = await self._client.last_lines(request.caller, container)
            error.facts["technical"] = f"{check.answered}\n{lines}"
            raise
        finally:
            await concurrency.cancel_and_wait(asking)
        yield now

    def _remaining_s(self, request: LaunchRequest, began: datetime) -> float:
        return request.timeout_s - (self._clock() - began).total_seconds()

    # --- when it ended

    async def _refuse_exited(
        self, request: LaunchRequest, number: int, container: Container, began: datetime
    ) -> None:
        """Raises CrashLoop and NeverListened unless another one may be started in its place."""
        ended = await self._ended(request, container)
        lines = await self._client.last_lines(request.caller, ended)
        if number >= STARTS:
            raise crashed(ended, request.timeout_s, lines)
        if self._remaining_s(request, began) <= 0:
            late = never_listened(model_port(request.spec), request.timeout_s)
            late.facts["technical"] = f"{_exit(ended)}\n{lines}"
            raise late

    async def _ended(self, request: LaunchRequest, container: Container) -> Container:
        """With its exit code, which may be recorded a moment later."""
        looks, give_up_at = looks_s(), _now() + REMOVAL_S
        while not _has_exited(container):
            _refuse_failed(request, container)
            if _now() > give_up_at:
                reason = container.reason or f"it is {container.status}"
                raise errors.LaunchFailed(
                    f"The container did not stay: {reason}.", technical=reason
                )
            await asyncio.sleep(next(looks))
            container = await self._reread(container)
        return container

    async def _removed(self, caller: Principal, ids: Sequence[str]) -> None:
        """Returns when they are gone, or `REMOVAL_S` are over."""
        looks, give_up_at = looks_s(), _now() + REMOVAL_S
        while True:
            gone = [await self._is_removed(caller, uuid) for uuid in ids]
            if all(gone) or _now() > give_up_at:
                return
            await asyncio.sleep(next(looks))

    async def _is_removed(self, caller: Principal, uuid: str) -> bool:
        container = await self._store.find_by_id(Container, uuid, org=caller.org)
        if container is None or container.status is Status.DELETED:
            return True
        return (await self._containers.delete(caller, uuid)).status is Status.DELETED

    # --- what is there

    async def _made(self, request: LaunchRequest) -> list[Container]:
        """Its containers, oldest first, also when they are deleted."""
        ids = container_ids(request.caller.org, request.id)
        where = {"_id": {"$in": ids}}
        found = await self._store.find(Container, org=request.caller.org, where=where, sort=())
        return sorted(found, key=lambda container: ids.index(container.uuid))

    async def _number(self, request: LaunchRequest) -> int:
        """Which container it is the turn of."""
        made = await self._made(request)
        is_removed = bool(made) and made[-1].desired is Desired.DELETED
        return max(1, min(len(made) + is_removed, STARTS))

    async def _began(self, request: LaunchRequest, container: Container) -> datetime:
        first = (await self._made(request))[0]
        return first.started_at or container.started_at or self._clock()

    async def _reread(self, container: Container) -> Container:
        found = await self._store.find_by_id(Container, container.uuid, org=container.org)
        return found or container


def looks_s() -> Iterator[float]:
    """Pauses between looks at a record: short at first, since most things happen soon."""
    pause_s = FIRST_LOOK_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.3, LAST_LOOK_S)


def container_ids(org: str, start: str) -> list[str]:
    """uuids that the containers of a start have, if they were made."""
    keys = (f"{start}/{number}" for number in range(1, STARTS + 1))
    return [id_for(org, Container.resource, key) for key in keys]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _container(step: StartProgress | Container) -> Container:
    found = step if isinstance(step, Container) else step.container
    assert found is not None, "the last step before an end names the container"
    return found


def _has_exited(container: Container) -> bool:
    """It ran, and ended by itself."""
    return container.status in OVER and container.exit_code is not None


def _refuse_failed(request: LaunchRequest, container: Container) -> None:
    """Raises LaunchFailed, or InsufficientResources, for a container that will not run."""
    if container.desired is Desired.DELETED or container.status is Status.DELETED:
        reason = "somebody removed it"
    elif container.status in OVER:
        reason = container.reason or "the engine gave no reason"
    else:
        return
    if container.node is None and container.refusals:
        raise _unplaced(request.requirement, container)
    raise not_launched(reason)


def not_launched(reason: str) -> errors.LaunchFailed:
    return errors.LaunchFailed(f"The container could not be started: {reason}.", technical=reason)


def crashed(container: Container, timeout_s: float, lines: str) -> errors.CrashLoop:
    """Of the last of `STARTS` containers, with the last lines that it wrote."""
    return errors.CrashLoop(
        f"The container was started {STARTS} times within {timeout_s:g} s and exited each time:"
        f" {_exit(container)}.",
        technical=f"{_exit(container)}\n{lines}",
    )


def _unplaced(requirement: int, container: Container) -> errors.InsufficientResources:
    lines = [f"{name}: {'; '.join(why)}" for name, why in sorted(container.refusals.items())]
    technical = "\n".join(lines) or container.reason or "no node took it"
    return errors.InsufficientResources(
        f"No node had what was needed in time: {find_requirement(requirement)}.",
        technical=technical,
    )


def _exit(container: Container) -> str:
    """Code, and reason where there is more to say than the code."""
    reason = container.reason or ""
    code = f"exit code {container.exit_code}"
    return code if not reason or reason.startswith("exited") else f"{code}, {reason}"
