"""Where the contexts of builds come from: folders of this node, repositories, archives that are
sent. Each ends as a folder out of which nothing leads."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tarfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pipeline import concurrency
from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.archives import files
from pipeline.builds import dockerfile
from pipeline.builds.specs import TAKEN
from pipeline.errors import BuildFailed, BusUnavailable, DiskFull, InvalidInput, TarUnsafeEntry
from pipeline.settings import Settings
from schemas.image import Build, ContextSource

Fetch = Callable[[str, bytes], AsyncGenerator[bytes, None]]
"""Asks whoever receives the context of a build for it, or says `TAKEN`. Raises BusUnavailable when
nobody does."""

OLDEST_GIT: Final = (2, 37)
"""The first one that can be told where to connect to."""
BLOCK: Final = 512
_RESOLVE: Final = "http.curloptResolve"
_KEPT_VARIABLES: Final = ("PATH", "GIT_SSL_CAINFO")
_SAID_MAX: Final = 2000


class Contexts:
    """Raises InvalidInput, BuildFailed, AddressRefused, Unreachable, BusUnavailable, DiskFull."""

    def __init__(self, http: GuardedHttp, fetch: Fetch, settings: Settings) -> None:
        """`http` judges addresses of repositories."""
        self._http = http
        self._fetch = fetch
        self._roots = settings.build_folders
        self._max_bytes = settings.build_context_max_bytes

    async def obtain(self, build: Build, folder: Path) -> Path:
        """The context as a folder; whatever has to be fetched goes into `folder`."""
        into = folder / "context"
        match build.source:
            case ContextSource.FOLDER:
                return await asyncio.to_thread(self._below_a_root, build.spec.context_path or "")
            case ContextSource.GIT:
                await self._clone(build.spec.git_url or "", build.spec.git_ref, into)
            case ContextSource.UPLOAD:
                await self._receive(build, folder / "context.tar", into)
        return into

    def _below_a_root(self, path: str) -> Path:
        found = Path(path).resolve()
        roots = [root.resolve() for root in self._roots]
        if not any(found.is_relative_to(root) for root in roots):
            raise InvalidInput(
                f"{path} is not below a folder that this node builds from (MODELYARD_BUILD_ROOTS).",
                field="context_path",
            )
        if not found.is_dir():
            raise InvalidInput(f"{path} is no folder of this node.", field="context_path")
        return found

    async def _receive(self, build: Build, archive: Path, into: Path) -> None:
        try:
            async with aclosing(self._fetch(build.uuid, b"")) as pieces:
                with archive.open("wb") as out:
                    async for piece in pieces:
                        await asyncio.to_thread(out.write, piece)
            await self._confirm(build)
            await asyncio.to_thread(unpack, archive, into)
            archive.unlink()
        except BusUnavailable as error:
            raise BuildFailed(
                "Its context cannot be had any more, because who received it was restarted: send it"
                " again."
            ) from error
        except OSError as error:
            raise DiskFull(f"The context cannot be kept: {error.strerror or error}.") from error

    async def _confirm(self, build: Build) -> None:
        # Who is told this has nothing left to say, and may be gone before the end of his answer.
        with suppress(BusUnavailable):
            async with aclosing(self._fetch(build.uuid, TAKEN)) as pieces:
                async for _ in pieces:
                    continue

    async def _clone(self, url: str, ref: str | None, into: Path) -> None:
        if shutil.which("git") is None or await self._git_version(into.parent) < OLDEST_GIT:
            wanted = ".".join(map(str, OLDEST_GIT))
            raise BuildFailed(f"This node has no git of {wanted} or newer: send the context.")
        addresses, port = await self._http.pinned(url)
        host = urlsplit(url).hostname or ""
        at = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
        await self._git(into.parent, "init", "-q", "--template=", str(into))
        await self._git(
            into,
            *("-c", f"{_RESOLVE}={host}:{port}:{at}", "-c", "http.followRedirects=false"),
            *("fetch", "-q", "--depth=1", "--no-tags", "--", url, ref or "HEAD"),
        )
        await self._git(into, "checkout", "-q", "--detach", "FETCH_HEAD")
        await asyncio.to_thread(shutil.rmtree, into / ".git")

    async def _git_version(self, folder: Path) -> tuple[int, int]:
        found = re.search(r"(\d+)\.(\d+)", await self._git(folder, "--version"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    async def _git(self, folder: Path, *arguments: str) -> str:
        """It knows no configuration, asks nobody, runs nothing of the repository, and writes no
        file that is larger than a context may be."""
        blocks = str(self._max_bytes // BLOCK + 1)
        env = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        env |= {"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        env |= {"GIT_ALLOW_PROTOCOL": "https", "LC_ALL": "C"}
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", 'ulimit -f "$0"; exec git "$@"', blocks, *arguments),
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await concurrency.run_to_completion(process.wait())
        text = said.decode(errors="replace").strip()
        if process.returncode:
            raise BuildFailed(f"The repository could not be fetched: {text[:_SAID_MAX]}")
        return text


def unpack(archive: Path, into: Path) -> None:
    """A TAR from strangers, plain or compressed with gzip, into a new folder. Blocks.

    Its paths and links are read as those of image archives are; what is written never follows a
    link out of the folder. Owners, times and special bits are not taken over. Raises InvalidInput,
    the ImageRejected family.
    """
    into.mkdir(mode=0o700)
    root = into.resolve()
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                _extract(tar, entry, root)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput("The context is no TAR, plain or compressed with gzip.") from error


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, root: Path) -> None:
    path = root / files.inside(entry.name)
    if path == root:
        return  # the folder itself, as `tar -C context -c .` names it
    _require_within(root, path.parent)
    if entry.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.issym():
        files.target(entry.linkname, of=files.inside(entry.name))
        path.symlink_to(entry.linkname)
        _require_within(root, path)
    elif entry.islnk():
        source = root / files.target(entry.linkname, of="")
        _require_within(root, source)
        path.hardlink_to(source)
    elif entry.isreg() and (content := tar.extractfile(entry)) is not None:
        with path.open("xb") as out:
            shutil.copyfileobj(content, out)
        path.chmod(0o644 | (entry.mode & 0o111))
    else:
        raise TarUnsafeEntry(f"{files.shown(entry.name)} is neither file, folder nor link.")


def _require_within(root: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise InvalidInput(f"{files.shown(path.name)} leads out of the context.")


def read_dockerfile(context: Path, path: str) -> str:
    """Raises InvalidInput for one that lies outside of the context, BuildFailed. Blocks."""
    found = (context / path).resolve()
    if not found.is_relative_to(context.resolve()):
        raise InvalidInput(f"{path} leads out of the context.", field="dockerfile")
    try:
        with found.open("rb") as file:
            content = file.read(dockerfile.MOST_BYTES + 1)
        if len(content) > dockerfile.MOST_BYTES:
            raise BuildFailed(f"{path} has more than {dockerfile.MOST_BYTES} bytes.")
        return content.decode()
    except OSError as error:
        raise BuildFailed(f"The context has no Dockerfile {path}.") from error
    except UnicodeDecodeError as error:
        raise BuildFailed(f"{path} is no UTF-8 text.") from error
