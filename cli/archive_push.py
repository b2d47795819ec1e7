"""An archive on its way into the platform: what is there is left out, cuts are gone on from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cli.archive_plan import plan
from cli.client import Client
from cli.client_uploads import Interrupted, UploadClient

NOTES_S = 3 * 86_400
"""After a day without a byte the server forgets an upload."""


class Changed(Exception):
    """The archive is not what it was when the push began; the message says so to a person."""


class Watch(Protocol):
    """Is told how far it is."""

    def sending(self, done: int, total: int) -> None:
        """Begins, or goes on, at `done` bytes of the archive."""

    def moved(self, done: int) -> None: ...

    def waiting(self, reason: str) -> None:
        """Nothing moves for now; empty when it moves again."""

    def storing(self) -> None:
        """Everything is sent."""


@dataclass(frozen=True, slots=True)
class Pushed:
    view: dict[str, Any]
    """The upload, completed or failed, as the server shows it."""
    skipped_bytes: int
    """Of the archive: the server had them."""


def push_archive(client: Client, path: Path, metadata: str, watch: Watch) -> Pushed:
    """Returns once the image is stored or refused; what else goes wrong exits as `Client` does.

    `metadata` as tus wants it. Raises OSError when the file cannot be read, and Changed.
    """
    with path.open("rb") as file:
        return _Push(client, path, file, metadata, watch).run()


def forget_old_notes(now_s: float) -> None:
    """Those of uploads that nobody went on with; the server forgot them. `now_s` as files tell."""
    try:
        for note in (cache() / "uploads").iterdir():
            if note.stat().st_mtime < now_s - NOTES_S:
                note.unlink(missing_ok=True)
    except OSError:
        # There is nothing to forget, or it cannot be forgotten: neither is in the way of a push.
        return


class _Push:
    def __init__(
        self, client: Client, path: Path, file: BinaryIO, metadata: str, watch: Watch
    ) -> None:
        self._uploads = UploadClient(client)
        self._path = path
        self._file = file
        self._identity = _identity(file)
        self._watch = watch
        self._plan = plan(file, self._uploads.present)
        key = [client.url, str(path.resolve()), *self._identity, self._plan.fingerprint, metadata]
        self._note = _Note(json.dumps(key))
        self._metadata = metadata

    def run(self) -> Pushed:
        self._require_unchanged()
        address = self._resumed() or self._created()
        with self._given_up_when_changed(address):
            self._send(address)
        self._watch.storing()
        view = self._uploads.outcome(address, self._watch.waiting)
        self._note.forget()
        return Pushed(view, self._plan.skipped_bytes)

    def _resumed(self) -> str | None:
        """The address of an upload that another run began and that can be continued."""
        address = self._note.read()
        try:
            known = address and self._uploads.offset(address, self._plan.length)
        except Interrupted:
            return None
        return address if known is not None else None

    def _created(self) -> str:
        address = self._uploads.create(self._plan.length, self._metadata)
        self._note.write(address)
        return address

    def _send(self, address: str) -> None:
        skipped = self._plan.skipped_bytes
        self._uploads.send(
            address,
            self._plan.length,
            self._content,
            began=lambda offset: self._watch.sending(skipped + offset, skipped + self._plan.length),
            moved=lambda offset: self._watch.moved(skipped + offset),
            waiting=self._watch.waiting,
        )

    def _content(self, offset: int) -> Iterator[bytes]:
        for chunk in self._plan.read(self._file, offset):
            self._require_unchanged()
            offset += len(chunk)
            yield chunk
        if offset != self._plan.length:
            raise Changed(f"{self._path} ended early: push it again.")

    @contextmanager
    def _given_up_when_changed(self, address: str) -> Iterator[None]:
        try:
            yield
        except Changed:
            self._uploads.give_up(address)
            self._note.forget()
            raise

    def _require_unchanged(self) -> None:
        if _identity(self._file) != self._identity:
            raise Changed(f"{self._path} changed while it was sent: push it again.")


class _Note:
    """Remembers which upload an archive is sent to, so that another run goes on with it."""

    def __init__(self, key: str) -> None:
        self._path = cache() / "uploads" / hashlib.sha256(key.encode()).hexdigest()

    def read(self) -> str | None:
        try:
            return self._path.read_text() or None
        except OSError:
            return None

    def write(self, address: str) -> None:
        """Where there is no room for it, another run begins anew."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.write_text(address)
        except OSError:
            self.forget()

    def forget(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return


def cache() -> Path:
    """The folder of what the command line keeps between its runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard"


def _identity(file: BinaryIO) -> list[int]:
    stat = os.fstat(file.fileno())
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]
