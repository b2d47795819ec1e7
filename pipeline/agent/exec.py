"""Commands in containers of this node: run, limited in time, and not left running alone, unless the
agent itself is killed.

An engine can start a program in a container and cannot end it. So each gets a mark of its own in
its environment, by which a shell in the same container finds it and what it has started.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from pipeline import concurrency
from pipeline.agent.reconciler import EngineReconciler
from pipeline.containers.agent_requests import ExecEnd, ExecOutput, ExecRequest, ExecSpec
from pipeline.errors import ContainerMissing, Overloaded, StartFailed, YardError
from pipeline.ports import EngineContainer, ExecPlan
from pipeline.records.idempotency import new_id

log = logging.getLogger(__name__)

MARK: Final = "MODELYARD_EXEC"
PIECE_CHARS: Final = 32 * 1024
END_S: Final = 5
"""Within which what was killed ends, and its output; also what kills it."""
MOST: Final = 32
"""At once: each takes one of the streams of the engine, of which others need some, too."""
LOOK_S: Final = 0.05
KILL: Final = """\
for again in 1 2 3; do
  for folder in /proc/[0-9]*; do
    case "$(cat "$folder/environ" 2>/dev/null)" in
      *"$1"*) kill -9 "${folder#/proc/}" 2>/dev/null;;
    esac
  done
done
:
"""
"""More than once: something may be starting another program meanwhile."""


class Exec:
    """Only containers of this node and installation are touched."""

    def __init__(self, reconciler: EngineReconciler) -> None:
        self._reconciler = reconciler
        self._engine = reconciler.engine
        self._open = 0

    async def run(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers to one `ExecRequest`. Closing it kills what runs.

        Raises ContainerMissing, ForeignContainer, EngineErrors; StartFailed when it is still there
        after its time was over; Overloaded while `MOST` others run on this node.
        """
        request = ExecRequest.model_validate_json(payload)
        seen = await self._reconciler.inspect(request.container)
        if seen is None:
            raise ContainerMissing(f"The container {request.container} is not on this engine.")
        if self._open >= MOST:
            raise Overloaded(f"{MOST} commands run on this node already; try again later.")
        run = _Run(self._reconciler, seen, request.spec)
        self._open += 1
        try:
            async with aclosing(run.entries()) as entries:
                async for entry in entries:
                    yield entry.model_dump_json().encode()
        finally:
            self._open -= 1


class _Run:
    """One command, from its start to its end."""

    def __init__(self, reconciler: EngineReconciler, seen: EngineContainer, spec: ExecSpec) -> None:
        self._engine = reconciler.engine
        self._seen = seen
        self._spec = spec
        self._mark = new_id()
        self._timed_out = False

    async def entries(self) -> AsyncGenerator[ExecOutput | ExecEnd]:
        spec = self._spec
        plan = ExecPlan(spec.command, {**spec.env, MARK: self._mark}, spec.working_dir, spec.user)
        exec_id = await self._engine.create_exec(self._seen.id, plan)
        limit = asyncio.create_task(self._end_in_time(exec_id))
        has_ended = False
        try:
            async with aclosing(self._output(exec_id, limit)) as output:
                async for entry in output:
                    yield entry
            code = await self._exit_code(exec_id, limit)
            has_ended = True
            yield ExecEnd(exit_code=code, timed_out=self._timed_out)
        finally:
            await concurrency.cancel_and_wait(limit)
            if not has_ended:
                await concurrency.run_to_completion(self._kill())

    async def _output(self, exec_id: str, limit: asyncio.Task[None]) -> AsyncGenerator[ExecOutput]:
        """Raises what `limit` raises: it did not end in time although it was killed."""
        decoder = codecs.getincrementaldecoder("utf-8")
        text = {"stdout": decoder("replace"), "stderr": decoder("replace")}
        async with aclosing(self._engine.exec_output(exec_id)) as output:
            while True:
                piece = asyncio.ensure_future(anext(output, None))
                try:
                    await asyncio.wait({piece, limit}, return_when=asyncio.FIRST_COMPLETED)
                    if not piece.done():
                        limit.result()
                    written = await piece
                finally:
                    await concurrency.cancel_and_wait(piece)
                if written is None:
                    break
                for said in _cut(text[written.stream].decode(written.content)):
                    yield ExecOutput(stream=written.stream, text=said)
        for stream in ("stdout", "stderr"):
            for said in _cut(text[stream].decode(b"", final=True)):
                yield ExecOutput(stream=stream, text=said)

    async def _exit_code(self, exec_id: str, limit: asyncio.Task[None]) -> int:
        """Its output may end before it does: then it is waited for, for as long as it may run."""
        while (code := await self._engine.exec_exit_code(exec_id)) is None:
            if limit.done():
                limit.result()
            await asyncio.sleep(LOOK_S)
        return code

    async def _end_in_time(self, exec_id: str) -> None:
        """Raises StartFailed when it does not end."""
        await asyncio.sleep(self._spec.timeout_s)
        self._timed_out = True
        await self._kill()
        await asyncio.sleep(END_S)
        if await self._engine.exec_exit_code(exec_id) is None:
            raise StartFailed(
                "The command did not end in time and could not be killed: that takes a shell (sh)"
                " in the container, and the same user."
            )

    async def _kill(self) -> None:
        """Takes none of the engine's streams, which may all be in use, and waits for `END_S` only:
        in a container that is paused nothing ends."""
        plan = ExecPlan(("sh", "-c", KILL, "sh", f"{MARK}={self._mark}"), user=self._spec.user)
        try:
            async with asyncio.timeout(END_S):
                exec_id = await self._engine.create_exec(self._seen.id, plan)
                await self._engine.start_exec(exec_id)
                while (  # noqa: ASYNC110 - the engine tells nobody
                    await self._engine.exec_exit_code(exec_id) is None
                ):
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            log.warning("a command in %s was not killed within %s s", self._seen.name, END_S)
        except YardError as error:
            log.warning("a command in %s could not be killed: %s", self._seen.name, error)


def _cut(text: str) -> list[str]:
    """In pieces that fit into a message."""
    return [text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS)]
