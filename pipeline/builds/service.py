"""Builds: asked for, followed, and cancelled. The agent of a node does the work.

A build is tried once. Whatever ends early (its agent, the server that receives its context, its
node) ends it, with the reason; who wants it still asks again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from pipeline import concurrency, topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.archives.compression import Expansion
from pipeline.builds import specs
from pipeline.builds.specs import ACTIVE, failed
from pipeline.errors import Conflict, EngineUnavailable, NotFound, Overloaded, TooLarge, YardError
from pipeline.images.ingest.ingest import OpenedTar
from pipeline.images.ingest.service import refuse_chosen
from pipeline.records.idempotency import fingerprint, id_for, replayed
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from pipeline.records.queries import Page, find_living, page
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.image import Build, BuildSpec
from schemas.node import Node
from schemas.states import BuildStatus, NodeStatus

log = logging.getLogger(__name__)

ACTIVE_MAX: Final = 32
"""Builds of one organisation that are not over."""
ASKED_S: Final = 30.0
"""Within which the agent asks for a context that is sent."""
LOOK_S: Final = 1.0

Moved = Callable[[float], Awaitable[object]]
"""Returns when there may be news of a build, or after so many seconds."""


class Builds:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(self, records: Records, bus: Bus, secrets: Secrets, settings: Settings) -> None:
        self._records = records
        self._store = records.store
        self._bus = bus
        self._secrets = secrets
        self._max_bytes = settings.build_context_max_bytes

    async def create(self, caller: Principal, spec: BuildSpec, *, key: str | None = None) -> Build:
        """Of a folder of a node, or of a repository. Idempotent per `key`.

        Raises InvalidInput, KeyReused, NotFound for an unknown node or secret, AlreadyExists when
        the name is one that somebody chose for an image by reference, EngineUnavailable without a
        node that could build, Overloaded.
        """
        specs.require(spec, is_upload=False)
        return await self._begin(caller, spec, id_for(caller.org, Build.resource, key))

    async def upload(
        self, caller: Principal, spec: BuildSpec, body: AsyncIterator[bytes], *, key: str | None
    ) -> Build:
        """Of a TAR, plain or compressed with gzip, that goes to the node while it arrives.

        Returns once the node has it. As `create`; also raises what is wrong with the archive (the
        ImageRejected family, TooLarge) and EngineUnavailable when the agent does not take it: then
        the build has failed.
        """
        specs.require(spec, is_upload=True)
        uuid = id_for(caller.org, Build.resource, key)
        relay = _Relay(self._checked(body))
        async with self._bus.serve_stream(topology.build_context(uuid), relay.answer):
            build = await self._begin(caller, spec, uuid)
            if build.replayed:
                return build
            try:
                await relay.taken()
            except BaseException as error:
                await concurrency.run_to_completion(self.fail(build, error))
                raise
        return await self.get(caller, build.uuid)

    async def get(self, caller: Principal, uuid: str) -> Build:
        """Raises NotFound."""
        return await self._store.get(Build, uuid, org=caller.org)

    async def list(
        self,
        caller: Principal,
        *,
        limit: int = 50,
        cursor: str | None = None,
        status: str | None = None,
    ) -> Page[Build]:
        """Newest first."""
        where = {} if status is None else {"status": status}
        return await page(
            self._store, Build, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def cancel(self, caller: Principal, uuid: str) -> Build:
        """End it, and remove what it left. Idempotent: one that is over stays as it is.

        Raises NotFound, and Conflict for one that is built already and being stored.
        """

        def decide(build: Build, at: datetime) -> Change | None:
            if build.status is BuildStatus.PUSHING:
                raise Conflict("It is built, and being stored: delete its image once it is there.")
            if build.status not in ACTIVE:
                return None
            return failed(f"cancelled by {caller.id}", "cancelled", specs.look)

        return await self._records.amend(await self.get(caller, uuid), decide, actor=caller.id)

    async def output(self, caller: Principal, uuid: str, moved: Moved) -> AsyncGenerator[str, None]:
        """What it writes, from the beginning to its end, as long as the events are kept (7 days).

        Raises NotFound, BusUnavailable.
        """
        build = await self.get(caller, uuid)
        subject, after = topology.event(build.org, Build.resource, build.uuid, "output"), 0
        while True:
            # Read before the events: what it wrote before its end is there then.
            build = await self.get(caller, uuid)
            more = True
            while more:
                batch = await self._bus.read_batch(
                    topology.EVENTS.name, after=after, subject=subject
                )
                more = batch.more
                for told in batch.messages:
                    after = told.sequence
                    yield str(json.loads(told.data)["text"])
            is_told = all(message.subject != subject for message in build.outbox)
            if build.status not in ACTIVE and is_told:
                return
            await moved(LOOK_S)

    async def fail(self, build: Build, error: BaseException) -> None:
        """End it, and say why. Idempotent."""
        message, code = "The request was interrupted: send it again.", "interrupted"
        if isinstance(error, YardError):
            message, code = error.message, error.code

        def decide(build: Build, at: datetime) -> Change | None:
            return failed(message, code, specs.look) if build.status in ACTIVE else None

        try:
            await self._records.amend(build, decide, actor=build.created_by)
        except YardError as lost:
            log.warning("build %s waits for its end: %s", build.uuid, lost.message)

    async def _begin(self, caller: Principal, spec: BuildSpec, uuid: str) -> Build:
        asked = fingerprint(spec)
        if earlier := await self._store.find_by_id(Build, uuid, org=caller.org):
            return replayed(earlier, asked)
        await refuse_chosen(self._store, caller.org, spec.name)
        where = {"status": {"$in": [status.value for status in ACTIVE]}}
        if await self._store.count(Build, org=caller.org, where=where) >= ACTIVE_MAX:
            raise Overloaded(f"{ACTIVE_MAX} builds are not over yet: wait for one of them.")
        if spec.secret is not None:
            await self._secrets.get(caller, spec.secret)
        node = await self._node(spec.node, where)
        build = Build(
            **self._records.initial(caller.org, uuid),
            name=spec.name,
            spec=spec,
            source=spec.source,
            node=node.uuid,
            node_name=node.name,
            request_hash=asked,
            created_by=caller.id,
        )
        send = [event("queued"), specs.look]
        return await self._records.insert_once(build, send, actor=caller.id)

    async def _node(self, wanted: str | None, active: dict[str, Any]) -> Node:
        """The one that is asked for, else the one with fewest builds."""
        if wanted is not None:
            node = await find_living(self._store, Node, wanted, org=EVERY_ORG)
            if node.status is not NodeStatus.READY:
                raise EngineUnavailable(f"The node {node.name} is {node.status}: choose another.")
            return node
        ready = {"status": NodeStatus.READY.value, "cordoned": False}
        nodes = await self._store.find(Node, org=EVERY_ORG, where=ready, sort=())
        if not nodes:
            raise EngineUnavailable("No node is ready to build: try again when one is.")
        builds = await self._store.find(Build, org=EVERY_ORG, where=active, sort=())
        busy = Counter(build.node for build in builds)
        return min(nodes, key=lambda node: (busy[node.uuid], node.name))

    async def _checked(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The bytes as they come, read along: what is hostile goes no further."""
        expansion = Expansion(self._max_bytes)
        tar = OpenedTar(expansion, None)
        async for chunk in body:
            expansion.arrived(len(chunk))
            if expansion.received > self._max_bytes:
                raise TooLarge(
                    f"The context has more than {self._max_bytes} bytes.", limit=self._max_bytes
                )
            async for _ in tar.feed(chunk):
                continue
            yield chunk
        tar.close()


class _Relay:
    """A body on its way to the one agent that asks for it."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self._asked, self._sent = asyncio.Event(), asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answer(self, payload: bytes) -> AsyncGenerator[bytes, None]:
        if payload == specs.TAKEN:
            self._end(None)
            return
        if self._asked.is_set():
            raise NotFound("The context was sent already, and is kept nowhere: send it again.")
        self._asked.set()
        try:
            async for piece in self._pieces:
                for start in range(0, len(piece), specs.PIECE_BYTES):
                    yield piece[start : start + specs.PIECE_BYTES]
        except Exception as error:
            self._end(error)
            raise
        except BaseException:
            self._end(EngineUnavailable("The agent of the node left: send the context again."))
            raise
        self._sent.set()

    async def taken(self) -> None:
        """Raises what is wrong with the body, EngineUnavailable."""
        if not await concurrency.comes_within(self._asked, ASKED_S):
            raise EngineUnavailable(f"The agent did not ask for the context within {ASKED_S:g} s.")
        sent: asyncio.Task[Any] = asyncio.create_task(self._sent.wait())
        first: set[asyncio.Future[Any]] = {sent, self._over}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({self._over}, timeout=ASKED_S)
        finally:
            await concurrency.cancel_and_wait(sent)
        if not self._over.done():
            raise EngineUnavailable(
                "The agent of the node said nothing of the context: send it again."
            )
        self._over.result()

    def _end(self, error: Exception | None) -> None:
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)
