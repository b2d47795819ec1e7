"""Files that containers are given, fetched once per node into a cache that all of them share.

`<folder>/<SHA-256 of the URL>/<file name>` is a whole file; what is on its way lies beside that as
`<SHA-256 of the URL>.part`, with what is known of it in `.part.json`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline import concurrency
from pipeline.adapters.http.guarded import GuardedHttp, StreamedReply
from pipeline.agent.reconciler import EngineReconciler, NodeContainers
from pipeline.containers.engine_plan import ASSETS, asset_key, asset_name, asset_path
from pipeline.errors import (
    AddressRefused,
    DiskFull,
    InvalidInput,
    PullFailed,
    PullImpossible,
    Unreachable,
    YardError,
)
from pipeline.ports import Mount
from pipeline.records.kernel import Change
from pipeline.records.messages import event
from pipeline.settings import Settings
from schemas.base import Progress
from schemas.container import Asset, Container
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

ABANDONED_S: Final = 24 * 3600
_PARTIAL, _FACTS = ".part", ".json"


class Assets:
    """Safe for many launches at once: those that need the same file share its download."""

    def __init__(self, http: GuardedHttp, reconciler: EngineReconciler, settings: Settings) -> None:
        self._http = http
        self._engine = reconciler.engine
        self._containers = reconciler.containers
        self._node = reconciler.node
        self._settings = settings
        self._folder = (settings.asset_folder or settings.state / "assets").absolute()
        self._downloads: dict[str, _Download] = {}
        self._tasks = concurrency.SharedTasks[None]()
        self._locks = concurrency.KeyedLocks()
        self._held: dict[str, frozenset[str]] = {}
        self._evicting = asyncio.Lock()
        """What is held is as it is while what is not needed goes."""

    async def fetch(self, container: Container) -> Container:
        """Have all of its files here, where they stay until `release`. What is here costs nothing.

        Raises PullFailed, PullImpossible for what no repeat can help, DiskFull, LostRace.
        """
        if not (assets := container.spec.assets):
            return container
        async with self._evicting:
            self._held[container.uuid] = frozenset(asset_key(asset.url) for asset in assets)
        for asset in assets:
            if not await asyncio.to_thread(self._is_here, asset):
                container = await self._download(container, asset)
        return container

    def release(self, uuid: str) -> None:
        """Its container is there, or will not be: what is on the engine is asked of it."""
        self._held.pop(uuid, None)

    def mounts(self, container: Container) -> list[Mount]:
        return [
            Mount(str(self._file(asset)), asset_path(asset.url), read_only=True, is_file=True)
            for asset in container.spec.assets
        ]

    def _file(self, asset: Asset) -> Path:
        return self._folder / asset_key(asset.url) / asset_name(asset.url)

    def _is_here(self, asset: Asset) -> bool:
        file = self._file(asset)
        try:
            os.utime(file)
            known = _facts(file.parent.with_suffix(_FACTS)).get("sha256")
        except FileNotFoundError:
            return False
        return asset.sha256 in (None, known)

    async def _download(self, container: Container, asset: Asset) -> Container:
        key = f"{asset_key(asset.url)} {asset.sha256}"
        meter = _Meter(self._containers, container, asset)
        async with self._tasks.of(key, lambda: self._run(key, asset)) as task:
            while not task.done():
                await asyncio.wait({task}, timeout=max(self._settings.progress_interval_s, 0.05))
                if (download := self._downloads.get(key)) is not None:
                    await meter.tell(download.done, download.total)
            await asyncio.shield(task)
        return await meter.completed(await asyncio.to_thread(self._size, asset))

    def _size(self, asset: Asset) -> int:
        return self._file(asset).stat().st_size

    async def _run(self, key: str, asset: Asset) -> None:
        # The same with another digest uses the same files.
        async with self._locks.of(asset_key(asset.url)):
            if await asyncio.to_thread(self._is_here, asset):
                return
            download = self._downloads[key] = _Download(self._http, asset, self._file(asset))
            try:
                await download.run(self._settings)
            finally:
                del self._downloads[key]
        await self._evict()

    async def _evict(self) -> None:
        """Remove what was used longest ago, while there is more than the setting allows; never
        what a container has, or is about to get. What cannot be removed now fails no launch."""
        limit = self._settings.asset_cache_max_bytes
        async with self._evicting:
            try:
                # Who lets go while the engine is asked may have made his container after its look.
                held = list(self._held.values())
                seen = await self._engine.list(self._node.labels)
                keys = (each.labels.get(ASSETS, "").split(",") for each in seen)
                needed = {key for some in (*keys, *held) for key in some if key}
                await asyncio.to_thread(_evict, self._folder, needed, limit)
            except (YardError, OSError) as error:
                log.warning("assets that nobody needs are removed later: %s", error)


class _Meter:
    """One event per interval, about one file of one container."""

    def __init__(self, containers: NodeContainers, container: Container, asset: Asset) -> None:
        self._containers = containers
        self._container = container
        self._asset = asset
        self._told = -1

    async def tell(self, done: int, total: int | None) -> None:
        if done != self._told:
            self._told = done
            percentage = min(99, done * 100 // total) if total else 0
            progress = Progress(done_bytes=done, total_bytes=total, percentage=percentage)
            await self._say("asset.progressed", progress)

    async def completed(self, size: int) -> Container:
        whole = Progress(done_bytes=size, total_bytes=size, percentage=100)
        await self._say("asset.fetched", whole)
        return self._container

    async def _say(self, kind: str, progress: Progress) -> None:
        # Without its URL, which may hold a signature.
        facts = {"env_key": self._asset.env_key, "file": asset_name(self._asset.url)}
        send = [event(kind, progress=progress.model_dump(), **facts)]
        change = Change({}, Status.PULLING, send=send)
        self._container = await self._containers.commit(self._container, change)


@dataclass(slots=True)
class _Download:
    """One file on its way. Goes on where it stopped, also in another process."""

    http: GuardedHttp
    asset: Asset
    file: Path
    done: int = 0
    total: int | None = None

    @property
    def part(self) -> Path:
        return self.file.parent.with_suffix(_PARTIAL)

    @property
    def notes(self) -> Path:
        return self.file.parent.with_suffix(_PARTIAL + _FACTS)

    async def run(self, settings: Settings) -> None:
        """Tries again while each attempt brings something."""
        await asyncio.to_thread(self.file.parent.parent.mkdir, parents=True, exist_ok=True)
        while True:
            before = self._have()
            try:
                await self._attempt(settings)
                break
            except (AddressRefused, InvalidInput) as error:
                raise PullImpossible(f"{self._name}: {error.message}", reason="invalid") from error
            except Unreachable as error:
                if self._have() <= before:
                    raise PullFailed(f"{self._name}: {error.message}", reason="failed") from error
            except OSError as error:
                raise DiskFull(f"{self._name} cannot be kept: {error.strerror}.") from error
        await asyncio.to_thread(self._finish)

    @property
    def _name(self) -> str:
        return f"The asset {asset_name(self.asset.url)}"

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    async def _attempt(self, settings: Settings) -> None:
        have, validator = self._have(), _facts(self.notes).get("validator")
        headers = {}
        if have and validator:
            headers = {"Range": f"bytes={have}-", "If-Range": validator}
        stall_s = settings.pull_stall_s
        async with self.http.stream(self.asset.url, headers=headers, head_s=stall_s) as answer:
            start = self._start(answer, have if headers else 0)
            length = answer.headers.get("content-length")
            self.done = start
            self.total = start + int(length) if length and length.isdecimal() else None
            self._require_small(self.total or 0, settings)
            self._note(answer)
            with self.part.open("r+b" if start else "wb") as out:
                out.truncate(start)
                out.seek(start)
                async for piece in _unstalled(answer.pieces, stall_s):
                    self.done += len(piece)
                    self._require_small(self.done, settings)
                    await asyncio.to_thread(out.write, piece)

    def _start(self, answer: StreamedReply, asked: int) -> int:
        """From which byte on it is sent. Raises PullImpossible, PullFailed."""
        status = answer.status
        if status == 206 and answer.headers.get("content-range", "").startswith(f"bytes {asked}-"):
            return asked
        if status == 200:
            return 0
        if status in (206, 416):
            self._drop()
            raise PullFailed(f"{self._name} changed while it was fetched.", reason="failed")
        if status in (408, 425, 429) or status >= 500:
            raise PullFailed(f"{self._name}: its server answered {status}.", reason="failed")
        raise PullImpossible(f"{self._name}: its server answered {status}.", reason="not_found")

    def _require_small(self, size: int, settings: Settings) -> None:
        if size > (most := settings.asset_max_bytes):
            self._drop()
            why = f"{self._name} has more than {most} bytes (MODELYARD_ASSET_MAX_BYTES)."
            raise PullImpossible(why, reason="invalid")

    def _note(self, answer: StreamedReply) -> None:
        """Only what changes with the content lets a rest be asked for."""
        tag = answer.headers.get("etag", "")
        validator = tag if tag and not tag.startswith("W/") else answer.headers.get("last-modified")
        self.notes.write_text(json.dumps({"validator": validator}))

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Raises PullImpossible for another content than was asked for."""
        with self.part.open("rb") as whole:
            digest = hashlib.file_digest(whole, "sha256").hexdigest()
            os.fsync(whole.fileno())
        if self.asset.sha256 not in (None, digest):
            self._drop()
            raise PullImpossible(
                f"{self._name} is not what was asked for: its SHA-256 is {digest}, not"
                f" {self.asset.sha256}.",
                reason="invalid",
            )
        folder = self.file.parent
        folder.mkdir(exist_ok=True)
        self.part.chmod(0o444)
        self.part.rename(self.file)
        folder.with_suffix(_FACTS).write_text(json.dumps({"sha256": digest}))
        self.notes.unlink(missing_ok=True)
        for changed in (folder, folder.parent):
            _sync(changed)


async def _unstalled(pieces: AsyncGenerator[bytes], stall_s: float) -> AsyncIterator[bytes]:
    """Raises Unreachable when nothing comes for so long."""
    while True:
        try:
            async with asyncio.timeout(stall_s):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise Unreachable(f"nothing of it came for {stall_s:g} s.", kind="timeout") from error
        if piece is None:
            return
        yield piece


def _facts(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _evict(folder: Path, needed: set[str], limit: int) -> None:
    for left in folder.glob(f"*{_PARTIAL}"):
        if left.stem in needed:
            continue
        with suppress(FileNotFoundError):  # it has become whole meanwhile
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                left.unlink()
                left.with_suffix(_PARTIAL + _FACTS).unlink(missing_ok=True)
    kept = sorted(_kept(folder))
    size = sum(each[1] for each in kept)
    for _, bytes_, place in kept:
        if size <= limit:
            return
        if place.name not in needed:
            shutil.rmtree(place)
            place.with_suffix(_FACTS).unlink(missing_ok=True)
            size -= bytes_


def _kept(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was used last, its size and its folder."""
    for place in folder.iterdir():
        for file in place.iterdir() if place.is_dir() else ():
            found = file.stat()
            yield found.st_mtime, found.st_size, place
