"""An archive on its way into the platform: what is there is left out, cuts are gone on from."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import httpx

from cli.client import Client
from cli.console import FAILED, refuse
from cli.progress import UploadProgress
from cli.upload_plan import plan

NOTES_S = 3 * 86_400
"""After a day without a byte the server forgets an upload."""


TUS: Final = {"Tus-Resumable": "1.0.0"}
TRIES_S: Final = 300.0
"""How long a server that does not answer is asked again."""
CONFLICT_S: Final = 30.0
"""How long one that says no is: it may not know yet that an earlier connection broke."""
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
AWAY: Final = frozenset({408, 409, 423, 429, 500, 502, 503, 504})
"""Answers after which the same upload can be continued."""

Content = Callable[[int], Iterator[bytes]]
"""What is to be sent, from an offset on."""


class Changed(Exception):
    """The archive is not what it was when the push began; the message says so to a person."""


@dataclass(frozen=True, slots=True)
class Pushed:
    view: dict[str, Any]
    """The upload, completed or failed, as the server shows it."""
    skipped_bytes: int
    """Of the archive: the server had them."""


def push_archive(client: Client, path: Path, metadata: str, progress: UploadProgress) -> Pushed:
    """Returns once the image is stored or refused; what else goes wrong exits as `Client` does.

    `metadata` as tus wants it. Raises OSError when the file cannot be read, and Changed.
    """
    with path.open("rb") as file:
        return _Push(client, path, file, metadata, progress).run()


def forget_old_notes(now_s: float) -> None:
    """Those of uploads that nobody went on with; the server forgot them. `now_s` as files tell."""
    # There may be nothing to forget, or it cannot be forgotten: neither is in the way of a push.
    with suppress(OSError):
        for note in (cache() / "uploads").iterdir():
            if note.stat().st_mtime < now_s - NOTES_S:
                note.unlink(missing_ok=True)


class _Push:
    def __init__(
        self, client: Client, path: Path, file: BinaryIO, metadata: str, progress: UploadProgress
    ) -> None:
        self._client = client
        self._path = path
        self._file = file
        self._metadata = metadata
        self._progress = progress
        self._identity = _identity(file)
        self._plan = plan(file, partial(present_layers, client))
        key = [client.url, str(path.resolve()), *self._identity, self._plan.fingerprint, metadata]
        self._note = _Note(json.dumps(key))

    def run(self) -> Pushed:
        self._require_unchanged()
        upload = self._resumed() or self._created()
        skipped_bytes = self._plan.skipped_bytes
        try:
            upload.send(self._content, self._progress, skipped_bytes=skipped_bytes)
        except Changed:
            upload.delete()
            self._note.forget()
            raise
        self._progress.checking()
        view = upload.outcome(self._progress.waiting)
        self._note.forget()
        return Pushed(view, skipped_bytes)

    def _resumed(self) -> Upload | None:
        """An upload that another run began and that can be continued."""
        address = self._note.read()
        upload = Upload(self._client, address, self._plan.length)
        try:
            return upload if address and upload.offset() is not None else None
        except Interrupted:
            return None

    def _created(self) -> Upload:
        upload = create_upload(self._client, self._plan.length, self._metadata)
        self._note.write(upload.address)
        return upload

    def _content(self, offset: int) -> Iterator[bytes]:
        for chunk in self._plan.read(self._file, offset):
            self._require_unchanged()
            offset += len(chunk)
            yield chunk
        if offset != self._plan.length:
            raise Changed(f"{self._path} ended early: push it again.")

    def _require_unchanged(self) -> None:
        if _identity(self._file) != self._identity:
            raise Changed(f"{self._path} changed while it was sent: push it again.")


class _Note:
    """Remembers which upload an archive is sent to, so that another run goes on with it."""

    def __init__(self, key: str) -> None:
        self._path = cache() / "uploads" / hashlib.sha256(key.encode()).hexdigest()

    def read(self) -> str:
        """Its address; empty when there is none."""
        try:
            return self._path.read_text()
        except OSError:
            return ""

    def write(self, address: str) -> None:
        """Where there is no room for it, another run begins anew."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.write_text(address)
        except OSError:
            self.forget()

    def forget(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def cache() -> Path:
    """The folder of what the command line keeps between its runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard"


def _identity(file: BinaryIO) -> list[int]:
    stat = os.fstat(file.fileno())
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]


class Interrupted(Exception):
    """A piece did not come through; what did is kept by the server."""

    def __init__(self, reason: str, answer: httpx.Response | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


def present_layers(client: Client, digests: list[str]) -> set[str]:
    """Which of these layers need not be sent."""
    found: set[str] = set()
    for at in range(0, len(digests), 1000):
        asked = {"digests": digests[at : at + 1000]}
        answer = client.call("POST", "/uploads/present", json=asked)
        found |= {blob["digest"] for blob in answer["present"]}
    return found


def create_upload(client: Client, length: int, metadata: str) -> Upload:
    """A new one. Exits with what the server says against it."""
    headers = TUS | {"Upload-Length": str(length)}
    if metadata:
        headers["Upload-Metadata"] = metadata
    answer = client.answer("POST", "/uploads", headers=headers)
    return Upload(client, client.header(answer, "location"), length)


class Upload:
    """`length` bytes on their way to an address. What ends a command exits as `Client` does."""

    def __init__(self, client: Client, address: str, length: int) -> None:
        self.address = address
        self._client = client
        self._http = client.http
        self._length = length

    def offset(self) -> int | None:
        """Where to go on; None when there is no such upload (any more). Raises Interrupted."""
        try:
            answer = self._http.head(self.address, headers=TUS, timeout=30)
        except httpx.TransportError as error:
            raise Interrupted(str(error)) from error
        if answer.status_code in (404, 410):
            return None
        self._require_there(answer)
        is_ours = answer.headers.get("upload-length") == str(self._length)
        return int(self._client.header(answer, "upload-offset")) if is_ours else None

    def send(self, content: Content, progress: UploadProgress, *, skipped_bytes: int) -> None:
        """All of it; progress counts the bytes of the archive that were skipped as done.

        Exits when the server refuses or stays away.
        """
        offset, since, pauses = self._known_offset(0), time.monotonic(), 0
        while offset < self._length:
            progress.sending(skipped_bytes + offset, skipped_bytes + self._length)
            before = offset
            try:
                offset = self._patch(
                    offset, content, lambda sent: progress.moved(skipped_bytes + sent)
                )
            except (httpx.TransportError, Interrupted) as error:
                self._give_up_after(since, error)
                progress.waiting(f"waiting for the server: {error}")
                time.sleep(PAUSES_S[min(pauses, len(PAUSES_S) - 1)])
                offset = self._known_offset(offset)
            pauses += 1
            if offset > before:
                since, pauses = time.monotonic(), 0
        progress.moved(skipped_bytes + self._length)

    def outcome(self, waiting: Callable[[str], None]) -> dict[str, Any]:
        """The upload once it is completed or failed. `waiting` hears why that takes long."""
        since, pause_s = time.monotonic(), 0.05
        while True:
            try:
                answer = self._http.get(self.address, timeout=30)
                if answer.status_code not in AWAY:
                    self._client.require(answer)
                    view = self._client.decode(answer)
                    if view["status"] in ("completed", "failed"):
                        return view
                    waiting(view["technicalInformation"] or "")
                    since = time.monotonic()
            except httpx.TransportError as error:
                self._give_up_after(since, error)
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 1.5)

    def delete(self) -> None:
        """Have the server forget it; where it does not hear, it forgets by itself in a day."""
        with suppress(httpx.TransportError):
            self._http.delete(self.address, headers=TUS, timeout=10)

    def _known_offset(self, otherwise: int) -> int:
        """Where to go on, as far as the server can be asked."""
        try:
            offset = self.offset()
        except Interrupted:
            return otherwise
        if offset is None:
            refuse("The upload is gone: push again.", code=FAILED)
        return offset

    def _patch(self, offset: int, content: Content, moved: Callable[[int], None]) -> int:
        def body() -> Iterator[bytes]:
            sent = offset
            for chunk in content(offset):
                yield chunk
                sent += len(chunk)
                moved(sent)

        headers = TUS | {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self._length - offset),
        }
        timeout = httpx.Timeout(120, connect=5)
        answer = self._http.patch(self.address, headers=headers, content=body(), timeout=timeout)
        self._require_there(answer)
        return int(self._client.header(answer, "upload-offset"))

    def _require_there(self, answer: httpx.Response) -> None:
        """Raises Interrupted for an answer after which it can be continued."""
        if answer.status_code in AWAY:
            raise Interrupted(f"the server answered {answer.status_code}", answer)
        self._client.require(answer)

    def _give_up_after(self, since: float, error: Exception) -> None:
        answer = error.answer if isinstance(error, Interrupted) else None
        says_no = answer is not None and answer.status_code == 409
        if time.monotonic() - since <= (CONFLICT_S if says_no else TRIES_S):
            return
        if answer is not None:
            self._client.require(answer)
        refuse("The server stays away", f"({error}): push again to go on.", code=FAILED)
