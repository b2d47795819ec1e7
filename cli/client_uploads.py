"""Resumable uploads from the command line: sends, and goes on by itself after a cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import httpx
import typer

from cli.client import FAILED, Client, err, say

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


class Interrupted(Exception):
    """A piece did not come through; what did is kept by the server."""

    def __init__(self, reason: str, answer: httpx.Response | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


class UploadClient:
    """Talks to `/yard/v1/uploads`. What ends a command exits as `Client` does."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._http = client.http

    def present(self, digests: list[str]) -> set[str]:
        """Which of these layers need not be sent."""
        found: set[str] = set()
        for at in range(0, len(digests), 1000):
            asked = {"digests": digests[at : at + 1000]}
            answer = self._client.call("POST", "/uploads/present", json=asked)
            found |= {blob["digest"] for blob in answer["present"]}
        return found

    def create(self, length: int, metadata: str) -> str:
        """The address of a new upload. Exits with what the server says against it."""
        headers = TUS | {"Upload-Length": str(length)}
        if metadata:
            headers["Upload-Metadata"] = metadata
        answer = self._client.answer("POST", "/uploads", headers=headers)
        return self._client.header(answer, "location")

    def offset(self, address: str, length: int) -> int | None:
        """Where to go on; None when there is no such upload (any more). Raises Interrupted."""
        try:
            answer = self._http.head(address, headers=TUS, timeout=30)
        except httpx.TransportError as error:
            raise Interrupted(str(error)) from error
        if answer.status_code in (404, 410):
            return None
        if answer.status_code in AWAY:
            raise Interrupted(f"the server answered {answer.status_code}")
        self._client.require(answer)
        is_ours = answer.headers.get("upload-length") == str(length)
        return int(self._client.header(answer, "upload-offset")) if is_ours else None

    def send(
        self,
        address: str,
        length: int,
        content: Content,
        *,
        began: Callable[[int], None],
        moved: Callable[[int], None],
        waiting: Callable[[str], None],
    ) -> None:
        """All of it. `began` and `moved` hear the offset, `waiting` why nothing moves.

        Exits when the server refuses or stays away.
        """
        offset, since, pauses = self._where(address, length, 0), time.monotonic(), 0
        while offset < length:
            began(offset)
            before = offset
            try:
                offset = self._patch(address, offset, length, content, moved)
            except (httpx.TransportError, Interrupted) as error:
                self._give_up_after(since, error)
                waiting(f"waiting for the server: {error}")
                time.sleep(PAUSES_S[min(pauses, len(PAUSES_S) - 1)])
                offset = self._where(address, length, offset)
            pauses += 1
            if offset > before:
                since, pauses = time.monotonic(), 0
        moved(length)

    def outcome(self, address: str, waiting: Callable[[str], None]) -> dict[str, Any]:
        """The upload once it is completed or failed. `waiting` hears why that takes long."""
        since, pause_s = time.monotonic(), 0.05
        while True:
            try:
                answer = self._http.get(address, timeout=30)
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

    def give_up(self, address: str) -> None:
        """Have the server forget it; where it does not hear, it forgets by itself in a day."""
        with suppress(httpx.TransportError):
            self._http.delete(address, headers=TUS, timeout=10)

    def _where(self, address: str, length: int, otherwise: int) -> int:
        """The offset from which to go on."""
        try:
            offset = self.offset(address, length)
        except Interrupted:
            return otherwise
        if offset is None:
            say(err, ("The upload is gone: push again.", "red"))
            raise typer.Exit(FAILED)
        return offset

    def _patch(
        self,
        address: str,
        offset: int,
        length: int,
        content: Content,
        moved: Callable[[int], None],
    ) -> int:
        def body() -> Iterator[bytes]:
            sent = offset
            for chunk in content(offset):
                yield chunk
                sent += len(chunk)
                moved(sent)

        headers = TUS | {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length - offset),
        }
        timeout = httpx.Timeout(120, connect=5)
        answer = self._http.patch(address, headers=headers, content=body(), timeout=timeout)
        if answer.status_code in AWAY:
            raise Interrupted(f"the server answered {answer.status_code}", answer)
        self._client.require(answer)
        return int(self._client.header(answer, "upload-offset"))

    def _give_up_after(self, since: float, error: Exception) -> None:
        answer = error.answer if isinstance(error, Interrupted) else None
        says_no = answer is not None and answer.status_code == 409
        if time.monotonic() - since <= (CONFLICT_S if says_no else TRIES_S):
            return
        if answer is not None:
            self._client.require(answer)
        say(err, ("The server stays away", "red"), f" ({error}): push again to go on.")
        raise typer.Exit(FAILED) from error
