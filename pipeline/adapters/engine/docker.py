"""The Docker Engine, API 1.41 (Docker 20.10) and newer, behind `pipeline.ports.Engine` and
`pipeline.build_ports.Builder`.

A family of files: this one says what is asked of an engine, `threads` how one waits for it,
`client` holds what is taken of the SDK, `shapes`, `pull` and `building` turn its words into ours.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Self
from urllib.parse import quote

from pipeline.adapters.engine import building, shapes
from pipeline.adapters.engine.pull import Pull
from pipeline.adapters.engine.shapes import JsonLines, LogDecoder
from pipeline.adapters.engine.threads import DEFAULT_TIMEOUTS, ByteStream, EngineLink, Timeouts
from pipeline.build_ports import BuildPlan, Remnant
from pipeline.errors import (
    AlreadyExists,
    ContainerMissing,
    CreateFailed,
    EngineUnavailable,
    ForeignContainer,
    ImageMissing,
    PathMissing,
    PullFailed,
    StartFailed,
)
from pipeline.ports import (
    Credentials,
    EngineContainer,
    EngineEvent,
    EngineInfo,
    EngineUse,
    ExecPlan,
    LaunchPlan,
    LogLine,
    Output,
    PullProgress,
)

OWN_LABEL = "modelyard.container"
"""Whose container it is: create() compares it when a name is taken."""

_NAME_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 0)
_HEADERS_LATE_S = 5.0
_CONTEXT_S = 600.0
_NO_DIGEST = "<none>@<none>"


class DockerEngine:
    """Fulfils `pipeline.ports.Engine`. Contacts nobody until the first call."""

    def __init__(self, docker_host: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        """`docker_host` empty: DOCKER_HOST with its companions for TLS, then the default socket."""
        self._link = EngineLink(docker_host, timeouts)
        self._pull_heard_at = 0.0
        """Loop time of the newest sign of life of any pull."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, docker_host: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> AsyncIterator[Self]:
        engine = cls(docker_host, timeouts=timeouts)
        try:
            yield engine
        finally:
            await engine.close()

    async def close(self) -> None:
        """Ends every pull, followed output and event stream. Idempotent."""
        await self._link.close()

    async def ping(self) -> None:
        await self._link.call("HEAD", "/_ping")

    async def info(self) -> EngineInfo:
        system, version = await asyncio.gather(
            self._link.call("GET", "/info"), self._link.call("GET", "/version")
        )
        return shapes.info(system, version)

    # --- images -------------------------------------------------------------------------------

    async def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None,
        platform: str | None,
        stall_s: float,
        progress: PullProgress,
    ) -> str:
        """A pull whose layers all wait for other pulls of this engine is not stalled by that."""
        pull = Pull(reference, credentials)
        pieces = self._link.stream(
            "POST",
            "/images/create",
            pool="pulls",
            # The stall clock below is the one that counts: this one only ends the thread.
            header_s=stall_s + _HEADERS_LATE_S,
            endless=True,
            refused=pull.refused,
            params=shapes.pull_params(reference, platform),
            headers=shapes.registry_auth(credentials),
        )
        async with aclosing(pieces):
            await self._follow(pull, pieces, stall_s, progress)
        id = await self.image_id(shapes.pulled_name(reference))
        if id is None:
            raise PullFailed(f"{reference} was pulled and is gone already.", reason="failed")
        return id

    async def _follow(
        self, pull: Pull, pieces: ByteStream, stall_s: float, progress: PullProgress
    ) -> None:
        reported: tuple[int, int | None] | None = None
        while (piece := await self._next_piece(pull, pieces, stall_s)) is not None:
            pull.feed(piece)
            if reported != (now := (pull.layers.done, pull.layers.total)):
                reported = now
                await progress(*now)

    async def _next_piece(self, pull: Pull, pieces: ByteStream, stall_s: float) -> bytes | None:
        now = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout(stall_s):
                    piece = await anext(pieces, None)
            except TimeoutError as error:
                if pull.layers.is_queued and now() - self._pull_heard_at < stall_s:
                    continue
                message = f"Pulling {pull.reference} stalled: nothing came for {stall_s:g} s."
                raise PullFailed(message, reason="stalled") from error
            self._pull_heard_at = now()
            return piece

    async def image_id(self, reference: str) -> str | None:
        try:
            found = await self._link.call("GET", f"/images/{quote(reference, safe='/:@')}/json")
        except ImageMissing:
            return None
        return str(found["Id"])

    async def image_digests(self) -> frozenset[str]:
        images = await self._link.call("GET", "/images/json")
        names = [name for image in images for name in image.get("RepoDigests") or ()]
        return frozenset(name.partition("@")[2] for name in names if "@sha256:" in name)

    # --- builds -------------------------------------------------------------------------------

    async def build(self, plan: BuildPlan) -> AsyncGenerator[str, None]:
        said = building.Said()
        packed = await asyncio.to_thread(building.pack, plan)
        try:
            pieces = self._link.stream(
                "POST",
                "/build",
                # The first word comes when the context is there; who builds has a limit of his own.
                header_s=_CONTEXT_S,
                endless=True,
                refused=building.refused,
                params=building.params(plan),
                headers=building.headers(plan.logins),
                data=packed,
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    for text in said.feed(piece):
                        yield text
        finally:
            packed.close()

    async def save(self, reference: str) -> AsyncGenerator[bytes, None]:
        pieces = self._link.stream("GET", f"/images/{quote(reference, safe='/:@')}/get")
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def tags(self, repository: str) -> Sequence[str]:
        params = {"filters": json.dumps({"reference": [f"{repository}:*"]})}
        images = await self._link.call("GET", "/images/json", params=params)
        names = [name for image in images for name in image.get("RepoTags") or ()]
        return [
            tag for name, _, tag in (each.rpartition(":") for each in names) if name == repository
        ]

    async def remnants(self, label: str) -> Sequence[Remnant]:
        params = {"filters": json.dumps({"label": [label], "dangling": ["true"]})}
        images = await self._link.call("GET", "/images/json", params=params)
        # One that was pulled by its digest has no tag either.
        return [
            Remnant(image["Id"], image.get("Labels") or {})
            for image in images
            if not set(image.get("RepoDigests") or ()) - {_NO_DIGEST}
        ]

    async def remove_image(self, reference: str) -> None:
        with suppress(ImageMissing):
            await self._link.call("DELETE", f"/images/{quote(reference, safe='/:@')}", pool="waits")

    # --- containers ---------------------------------------------------------------------------

    async def create(self, plan: LaunchPlan) -> str:
        """Retries for 1.5 s while the name is held by a container that the engine does not show:
        one that is just being created or removed."""
        request = {"params": {"name": plan.name}, "json": shapes.creation(plan)}
        for pause_s in _NAME_PAUSES_S:
            try:
                found = await self._link.call(
                    "POST", "/containers/create", pool="launches", fallback=CreateFailed, **request
                )
                return str(found["Id"])
            except AlreadyExists as taken:
                holder = await self.inspect(plan.name)
                if holder is not None:
                    raise _name_taken(plan, holder) from taken
            await asyncio.sleep(pause_s)
        raise EngineUnavailable(
            f"The engine keeps the name {plan.name} for a container that it does not show; "
            "try again later."
        )

    async def start(self, id: str) -> None:
        await self._link.call("POST", f"{_at(id)}/start", pool="launches", fallback=StartFailed)

    async def inspect(self, id_or_name: str) -> EngineContainer | None:
        try:
            return shapes.container(await self._link.call("GET", f"{_at(id_or_name)}/json"))
        except ContainerMissing:
            return None

    async def use(self, id_or_name: str) -> EngineUse | None:
        params = {"stream": "0", "one-shot": "1"}
        try:
            found = await self._link.call("GET", f"{_at(id_or_name)}/stats", params=params)
        except ContainerMissing:
            return None
        return shapes.use(found or {})  # null: it is removed just now

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        request = {"Name": name, "Labels": dict(labels)}
        found = await self._link.call("POST", "/volumes/create", json=request)
        if (found.get("Labels") or {}) != labels:
            raise ForeignContainer(f"The volume {name} was made by somebody else.")

    async def remove_volume(self, name: str) -> None:
        with suppress(PathMissing):
            await self._link.call("DELETE", f"/volumes/{quote(name, safe='')}", pool="waits")

    async def list(self, labels: Mapping[str, str]) -> Sequence[EngineContainer]:
        """One call per container: the engine's own list lacks exit codes, health and times."""
        params = {"all": "1", "filters": shapes.label_filters(labels)}
        listed = await self._link.call("GET", "/containers/json", params=params)
        found = await asyncio.gather(*(self.inspect(one["Id"]) for one in listed))
        return [one for one in found if one is not None]

    async def stop(self, id: str, *, grace_s: int) -> None:
        params = {"t": str(grace_s)}
        with suppress(ContainerMissing):
            await self._link.call(
                "POST", f"{_at(id)}/stop", pool="waits", extra_s=grace_s, params=params
            )

    async def rename(self, id: str, name: str) -> None:
        try:
            await self._link.call("POST", f"{_at(id)}/rename", params={"name": name})
        except AlreadyExists as taken:
            raise ForeignContainer(f"The name {name} is held by another container.") from taken

    async def remove(self, id: str) -> None:
        """With its anonymous volumes. Returns when the name is free again."""
        try:
            await self._link.call("DELETE", _at(id), pool="waits", params={"force": "1", "v": "1"})
        except ContainerMissing:
            # Somebody else's removal may be under way; when it is over the engine answers 404.
            removed = {"condition": "removed"}
            with suppress(ContainerMissing):
                await self._link.call("POST", f"{_at(id)}/wait", pool="waits", params=removed)

    # --- streams ------------------------------------------------------------------------------

    async def logs(
        self, id: str, *, tail: int | None, since: datetime | None, follow: bool
    ) -> AsyncGenerator[LogLine, None]:
        decoder = LogDecoder()
        params = shapes.log_params(tail=tail, since=since, follow=follow)
        pieces = self._link.stream("GET", f"{_at(id)}/logs", endless=follow, params=params)
        async with aclosing(pieces):
            async for piece in pieces:
                for line in decoder.feed(piece):
                    yield line
        for line in decoder.finish():
            yield line

    async def output(self, id: str, *, since: datetime) -> AsyncGenerator[Sequence[LogLine], None]:
        decoder = LogDecoder()
        params = shapes.log_params(tail=None, since=since, follow=True)
        where = f"{_at(id)}/logs"
        pieces = self._link.stream("GET", where, pool="outputs", endless=True, params=params)
        async with aclosing(pieces):
            async for piece in pieces:
                yield list(decoder.feed(piece))
        yield list(decoder.finish())

    async def create_exec(self, id: str, plan: ExecPlan) -> str:
        body = shapes.exec_creation(plan)
        found = await self._link.call("POST", f"{_at(id)}/exec", json=body)
        return str(found["Id"])

    async def exec_output(self, exec_id: str) -> AsyncGenerator[Output, None]:
        body = {"Detach": False, "Tty": False}
        pieces = self._link.stream("POST", f"/exec/{exec_id}/start", taken_over=True, json=body)
        rest = b""
        async with aclosing(pieces):
            async for piece in pieces:
                found, rest = shapes.frames(rest + piece)
                for stream, content in found:
                    yield Output(stream, content)

    async def start_exec(self, exec_id: str) -> None:
        body = {"Detach": True, "Tty": False}
        await self._link.call("POST", f"/exec/{exec_id}/start", json=body)

    async def exec_exit_code(self, exec_id: str) -> int | None:
        found = await self._link.call("GET", f"/exec/{exec_id}/json")
        return None if found["Running"] else found["ExitCode"]

    async def events(
        self, *, since: datetime | None, labels: Mapping[str, str]
    ) -> AsyncGenerator[EngineEvent, None]:
        lines = JsonLines()
        params = {"filters": shapes.event_filters(labels)}
        params |= {"since": shapes.written(since)} if since else {}
        pieces = self._link.stream("GET", "/events", pool="events", endless=True, params=params)
        async with aclosing(pieces):
            async for piece in pieces:
                for found in lines.feed(piece):
                    yield shapes.event(found)
        raise EngineUnavailable("The engine's stream of events was cut.")

    async def recall(self, id: str, *, since: datetime) -> Sequence[EngineEvent]:
        """Ends by the engine's own clock: in its future it would wait for what comes."""
        system = await self._link.call("GET", "/info")
        params = {
            "filters": shapes.end_filters(id),
            "since": shapes.written(since),
            "until": shapes.written(shapes.clock(system)),
        }
        lines, found = JsonLines(), []
        async with aclosing(self._link.stream("GET", "/events", params=params)) as pieces:
            async for piece in pieces:
                found += [shapes.event(line) for line in lines.feed(piece)]
        return found

    async def copy_in(self, id: str, path: str, tar: AsyncIterator[bytes]) -> None:
        kind = {"Content-Type": "application/x-tar"}
        await self._link.send("PUT", f"{_at(id)}/archive", tar, params={"path": path}, headers=kind)

    async def copy_out(self, id: str, path: str) -> AsyncGenerator[bytes, None]:
        pieces = self._link.stream("GET", f"{_at(id)}/archive", params={"path": path})
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece


def _at(id_or_name: str) -> str:
    return f"/containers/{quote(id_or_name, safe='')}"


def _name_taken(plan: LaunchPlan, holder: EngineContainer) -> AlreadyExists | ForeignContainer:
    own = plan.labels.get(OWN_LABEL)
    if own is None or holder.labels.get(OWN_LABEL) != own:
        return ForeignContainer(
            f"The name {plan.name} is held by a container that is not ours: remove or rename it.",
            id=holder.id,
        )
    return AlreadyExists(
        f"The container {plan.name} is there already.",
        id=holder.id,
        labels=dict(holder.labels),
        state=holder.state,
    )
