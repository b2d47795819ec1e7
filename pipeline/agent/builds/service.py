"""The builds of one node: begun, followed, ended, and what they leave removed.

The store says which builds there should be, an order is only a reason to look there. A build that
is found under way, and is not ours, lost its agent: it has failed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from pipeline import concurrency
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.agent.builds.bases import Bases
from pipeline.agent.builds.contexts import Contexts, read_dockerfile
from pipeline.build_ports import Builder, BuildPlan
from pipeline.builds import dockerfile, specs
from pipeline.builds.specs import ACTIVE, BuiltRequest, failed
from pipeline.errors import EngineError, EngineUnavailable, LostRace, NotFound, YardError
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.settings import Settings
from schemas.image import Build
from schemas.states import BuildStatus as Status

log = logging.getLogger(__name__)

FLUSH_S: Final = 0.5
FLUSH_CHARS: Final = 8 * 1024
LAST_CHARS: Final = 4 * 1024
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\x1b\[[0-9;]*[A-Za-z]")
INTERRUPTED: Final = "The agent of its node was stopped meanwhile: build it again."


class Building:
    """Safe to look as often as one likes."""

    def __init__(
        self,
        engine: Builder,
        records: Records,
        contexts: Contexts,
        bases: Bases,
        settings: Settings,
        *,
        node: str,
    ) -> None:
        self._engine = engine
        self._records = records
        self._store = records.store
        self._contexts = contexts
        self._bases = bases
        self._settings = settings
        self._node = node
        self._actor = f"node:{node}"
        folder = settings.build_folder or settings.state / "builds"
        # Agents of one machine may share a state folder.
        self._folder = folder.absolute() / node
        self._slots = asyncio.Semaphore(settings.builds_at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Begin what is asked for, end what is not wanted, remove what is left. Idempotent.

        Raises StoreUnavailable, EngineUnavailable.
        """
        async with self._looking:
            where = {"node": self._node, "status": {"$in": [status.value for status in ACTIVE]}}
            active = await self._store.find(Build, org=EVERY_ORG, where=where)
            wanted = {build.uuid for build in active}
            for uuid, task in self._tasks.items():
                if uuid not in wanted:
                    task.cancel()
            for build in reversed(active):
                if build.uuid in self._tasks:
                    continue
                if build.status is Status.QUEUED:
                    self._begin(build)
                elif build.status is Status.BUILDING:
                    await self._fail(build, INTERRUPTED, "interrupted")
            await self._tidy()

    async def built(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `BuiltRequest`: the image as a TAR."""
        request = BuiltRequest.model_validate_json(payload)
        build = await self._store.get(Build, request.build, org=EVERY_ORG)
        if build.node != self._node or build.status is not Status.PUSHING:
            raise NotFound(f"The build {build.uuid} has no image here.")
        async with aclosing(self._engine.save(specs.tag_of(build.uuid))) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Ends what is under way, as failed."""
        await concurrency.cancel_and_wait(*self._tasks.values())

    def _begin(self, build: Build) -> None:
        task = asyncio.create_task(self._run(build), name=f"build {build.uuid}")
        self._tasks[build.uuid] = task
        task.add_done_callback(lambda _: self._tasks.pop(build.uuid, None))

    async def _run(self, build: Build) -> None:
        folder = self._folder / build.uuid
        try:
            await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            async with asyncio.timeout(self._settings.build_timeout_s):
                context = await self._contexts.obtain(build, folder)
            async with self._slots:
                work = _Work(build, self._records, self._settings, actor=self._actor)
                async with asyncio.timeout(self._settings.build_timeout_s):
                    await self._carry_out(work, await self._plan(work, context, folder))
        except LostRace:
            log.info("build %s is not wanted any more", build.uuid)
        except TimeoutError:
            most = self._settings.build_timeout_s
            await self._fail(build, f"It took longer than {most:g} s.", "timeout")
        except asyncio.CancelledError:
            await concurrency.run_to_completion(self._fail(build, INTERRUPTED, "interrupted"))
            raise
        except YardError as error:
            await self._fail(build, error.message, error.code)
        except Exception:
            log.exception("build %s failed", build.uuid)
            await self._fail(build, "The agent failed unexpectedly: see its log.", "error")
        finally:
            await concurrency.run_to_completion(self._clear(build))

    async def _plan(self, work: _Work, context: Any, folder: Any) -> BuildPlan:
        spec = work.build.spec
        text = await asyncio.to_thread(read_dockerfile, context, spec.dockerfile)
        read = dockerfile.read(text, args=spec.build_args, label=specs.LABEL, value=work.build.uuid)
        opened = await self._bases.open(work.build, read.bases)
        work.hidden = [login.password for login in opened.logins]
        values = {"bases": list(opened.own), "pull_key": opened.key}
        await work.write(Change(values, Status.BUILDING, None, [event("building")]))
        return BuildPlan(
            tag=specs.tag_of(work.build.uuid),
            context=context,
            dockerfile=read.text,
            scratch=folder,
            args=spec.build_args,
            target=spec.target,
            logins=opened.logins,
            memory_bytes=self._settings.build_memory_max_bytes,
            cpus=self._settings.build_cpus,
            context_max_bytes=self._settings.build_context_max_bytes,
        )

    async def _carry_out(self, work: _Work, plan: BuildPlan) -> None:
        try:
            await work.follow(self._engine.build(plan))
        finally:
            await concurrency.run_to_completion(work.flush(is_last=True))
        pushing = [event("pushing"), command("publish")]
        await work.write(Change({"pull_key": None}, Status.PUSHING, None, pushing))

    async def _fail(self, build: Build, reason: str, code: str) -> None:
        def decide(build: Build, at: datetime) -> Change | None:
            is_ours = build.status in (Status.QUEUED, Status.BUILDING)
            return failed(reason, code, last_lines=build.last_lines) if is_ours else None

        try:
            await self._records.amend(build, decide, actor=self._actor)
        except YardError as error:
            log.warning("build %s is ended later: %s", build.uuid, error.message)

    async def _clear(self, build: Build) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / build.uuid, ignore_errors=True)
        try:
            found = await self._store.get(Build, build.uuid, org=build.org)
            await self._remove([found])
        except YardError as error:
            log.warning("what is left of build %s is removed later: %s", build.uuid, error)

    async def _tidy(self) -> None:
        """What builds of this node left that are over, and are not being cleared just now."""
        try:
            tags = await self._engine.tags(specs.REPOSITORY)
            remnants = await self._engine.remnants(specs.LABEL)
        except EngineUnavailable:
            raise
        except EngineError as error:
            log.warning("what builds left is not known: %s", error.message)
            return
        named = {*tags, *(each.labels.get(specs.LABEL, "") for each in remnants)} - set(self._tasks)
        where = {"_id": {"$in": [*named]}, "node": self._node}
        if named and (left := await self._store.find(Build, org=EVERY_ORG, where=where, sort=())):
            await self._remove(left)
        await asyncio.to_thread(self._remove_folders, set(self._tasks))

    async def _remove(self, builds: Sequence[Build]) -> None:
        """Of builds that are over everything, of one that is being stored all but its image."""
        gone = {build.uuid for build in builds if build.status not in ACTIVE}
        idle = gone | {build.uuid for build in builds if build.status is Status.PUSHING}
        for uuid in gone:
            await self._forget(specs.tag_of(uuid))
        for remnant in await self._engine.remnants(specs.LABEL):
            if remnant.labels.get(specs.LABEL) in idle:
                await self._forget(remnant.id)

    async def _forget(self, reference: str) -> None:
        try:
            await self._engine.remove_image(reference)
        except EngineUnavailable:
            raise
        except EngineError as error:
            log.info("%s stays for now: %s", reference, error.message)

    def _remove_folders(self, busy: Collection[str]) -> None:
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in busy:
                    shutil.rmtree(folder, ignore_errors=True)


class _Work:
    """One build under way: its record, and its output on the way into events."""

    def __init__(self, build: Build, records: Records, settings: Settings, *, actor: str) -> None:
        self.build = build
        self.hidden: Sequence[str] = ()
        """Texts that no output may show."""
        self._records = records
        self._max_bytes = settings.build_output_max_bytes
        self._actor = actor
        self._pending = ""
        self._last = build.last_lines
        self._told = 0

    async def write(self, change: Change) -> None:
        """Raises LostRace once somebody has ended it."""

        def decide(build: Build, at: datetime) -> Change | None:
            if build.status not in (Status.QUEUED, Status.BUILDING):
                raise LostRace(f"The build {build.uuid} is {build.status}.")
            return change

        self.build = await self._records.amend(self.build, decide, actor=self._actor)

    async def follow(self, texts: AsyncGenerator[str, None]) -> None:
        """To the end of the output, told at least every `FLUSH_S`."""
        async with aclosing(texts):
            while True:
                piece = asyncio.ensure_future(anext(texts, None))
                try:
                    while not (await asyncio.wait({piece}, timeout=FLUSH_S))[0]:
                        await self.flush()
                    text = await piece
                finally:
                    await concurrency.cancel_and_wait(piece)
                if text is None:
                    return
                self._pending += text
                if len(self._pending) >= FLUSH_CHARS:
                    await self.flush()

    async def flush(self, *, is_last: bool = False) -> None:
        text, self._pending = self._shown(self._pending), ""
        if not text:
            return
        self._last = (self._last + text)[-LAST_CHARS:]
        is_told = self._told < self._max_bytes
        if not (is_told or is_last):
            return
        send = []
        for start in range(0, len(text) if is_told else 0, FLUSH_CHARS):
            send.append(event("output", text=text[start : start + FLUSH_CHARS]))
        self._told += len(text.encode())
        values = {"last_lines": self._last, "output_bytes": min(self._told, self._max_bytes)}
        await self.write(Change(values, send=send))

    def _shown(self, text: str) -> str:
        for secret in self.hidden:
            text = text.replace(secret, "***") if secret else text
        return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
