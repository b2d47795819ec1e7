"""The bytes of resumable uploads: one file each, whose size is the offset.

Server processes of one host share the folder; those of several hosts need a shared file system
with `flock`. Everything blocks: call it in threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.errors import Conflict, DiskFull, NotFound

COPIED_BYTES: Final = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class UploadFiles:
    """Ids must be safe as file names: uuids. Raises DiskFull where something is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, id: str) -> None:
        """Empty. Idempotent."""
        with _space():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path(id).touch(mode=0o600)
            _sync_folder(self._folder)

    def size(self, id: str) -> int | None:
        """None when there is no such file."""
        try:
            return self._path(id).stat().st_size
        except FileNotFoundError:
            return None

    def touched_at(self, id: str) -> float | None:
        """Seconds since the epoch at which the last byte came."""
        try:
            return self._path(id).stat().st_mtime
        except FileNotFoundError:
            return None

    def remove(self, id: str) -> None:
        """Idempotent."""
        self._path(id).unlink(missing_ok=True)
        self._part(id).unlink(missing_ok=True)

    def ids(self) -> Iterator[str]:
        """Of every upload that has a file."""
        with suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                if not path.suffix:
                    yield path.name

    @contextmanager
    def locked(self, id: str) -> Iterator[BinaryIO]:
        """The file, for one user at a time; the kernel unlocks it when the process ends.

        Raises Conflict while somebody else has it, NotFound when there is none.
        """
        try:
            file = self._path(id).open("r+b", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"There is no upload {id}.") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("Another request is sending to this upload: wait for it.") from None
            yield file

    def is_locked(self, id: str) -> bool:
        try:
            with self.locked(id):
                return False
        except Conflict:
            return True
        except NotFound:
            return False

    def append(self, file: BinaryIO, data: Sequence[bytes | memoryview]) -> None:
        """Not durable before `sync`."""
        with _space():
            file.seek(0, os.SEEK_END)
            for piece in data:
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]

    def sync(self, file: BinaryIO) -> None:
        with _space():
            os.fsync(file.fileno())

    @contextmanager
    def aside(self, id: str) -> Iterator[BinaryIO]:
        """An empty file for bytes that do not count yet; gone afterwards."""
        path = self._part(id)
        with _space(), path.open("w+b", buffering=0) as file:
            try:
                yield file
            finally:
                path.unlink(missing_ok=True)

    def join(self, file: BinaryIO, aside: BinaryIO) -> None:
        """Append all of `aside`."""
        aside.seek(0)
        while piece := aside.read(COPIED_BYTES):
            self.append(file, [piece])

    def _path(self, id: str) -> Path:
        return self._folder / id

    def _part(self, id: str) -> Path:
        return self._folder / f"{id}.part"


@contextmanager
def _space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull("The disk that keeps uploads is full: try again later.") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
