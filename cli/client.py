"""The HTTP client of the command line: one place for address, token, errors and exit codes."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from cli.client_failures import (
    PROBLEM,
    decoded,
    explained,
    path_of,
    require,
    strange,
    unreachable,
)
from cli.client_place import find_place
from cli.console import DENIED, FAILED, MISSING, UNREACHABLE, USAGE, Part, err, out, say

__all__ = [
    "DENIED",
    "FAILED",
    "MISSING",
    "UNREACHABLE",
    "USAGE",
    "Answer",
    "Client",
    "Part",
    "ServerSentEvent",
    "ask_container",
    "err",
    "out",
    "say",
]

PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
RECONNECTIONS = 20
"""Attempts to resume the events, a minute and a half in all."""
_STREAMED = httpx.Timeout(None, connect=5, read=60)


class _Away(Exception):
    """The server is there and cannot serve at the moment."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    id: str
    event: str
    data: dict[str, Any]


class Client:
    """Calls `/yard/v1` with the token of the environment or of the running local stack.

    A path is its fixed part and, one by one, the pieces that people or servers named.
    """

    def __init__(self) -> None:
        self._place = find_place()
        self._http = self._place.connect(timeout=httpx.Timeout(330, connect=5))
        # Whoever is done with us drops us: no connection is left to be closed by chance.
        weakref.finalize(self, self._http.close)

    @property
    def url(self) -> str:
        return self._place.url

    @property
    def http(self) -> httpx.Client:
        """For calls that deal with lost connections themselves."""
        return self._http

    def call(self, method: str, path: str, *pieces: str, **options: Any) -> Any:
        """The JSON object of the answer, if any, or exit with the problem that the server named."""
        answer = self.answer(method, path, *pieces, **options)
        if answer.status_code == 204:
            return None
        return self.decode(answer)

    def answer(self, method: str, path: str, *pieces: str, **options: Any) -> httpx.Response:
        """The good answer with its headers, or exit with the problem that the server named."""
        with explained(self._place):
            answer = self._http.request(method, path_of(path, pieces), **options)
        self.require(answer)
        return answer

    def require(self, answer: httpx.Response) -> None:
        """Exit with the problem that the server named, if it did."""
        require(self._place, answer)

    def decode(self, answer: httpx.Response) -> dict[str, Any]:
        """The JSON object of a good answer. Exits when it is none."""
        return decoded(self._place, answer.content)

    def header(self, answer: httpx.Response, name: str) -> str:
        """A header of a good answer. Exits when there is none."""
        if name not in answer.headers:
            raise strange(self._place, f"its answer has no header {name!r}")
        return str(answer.headers[name])

    def pages(self, path: str, *, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Items of a paged list, at most `limit` of them."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(items) < limit:
            wanted = {"limit": min(100, limit - len(items)), "cursor": cursor, **query}
            params = {key: value for key, value in wanted.items() if value is not None}
            page = self.call("GET", path, params=params)
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        return items

    @contextmanager
    def pieces(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A streamed answer of any status, before its body is read; exits for problems of ours."""
        with (
            explained(self._place),
            self._http.stream(method, path_of(path, ()), **options) as answer,
        ):
            if answer.headers.get("content-type") == PROBLEM:
                answer.read()
                self.require(answer)
            yield answer

    @contextmanager
    def entries(self, path: str, **options: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Objects of an answer of JSON lines, for as long as the server sends."""
        with (
            explained(self._place),
            self._http.stream("GET", path_of(path, ()), timeout=_STREAMED, **options) as answer,
        ):
            self._require_stream(answer, "application/x-ndjson")
            yield (decoded(self._place, line) for line in _lines(answer) if line)

    def events(self, *, after: str | None = None, **query: str | None) -> Iterator[ServerSentEvent]:
        """Events from the durable stream; reconnects and resumes after the last one seen.

        The first one of every connection is called `open`: what is read after it cannot miss a
        later event. Exits when there is no first connection, and when none comes about again.
        """
        params = {key: value for key, value in query.items() if value is not None}
        was_open, in_vain = False, 0
        while True:
            try:
                for event in self._events(after, params, resuming=was_open):
                    was_open, in_vain = True, 0
                    after = event.id or after
                    yield event
            except (httpx.TransportError, UnicodeEncodeError, _Away) as error:
                if not was_open or in_vain == RECONNECTIONS:
                    raise unreachable(self._place, error) from error
            err.print("[yellow]connection lost, resuming…[/]")
            time.sleep(min(PAUSE_S * 2**in_vain, LONGEST_PAUSE_S))
            in_vain += 1

    def _events(
        self, after: str | None, params: dict[str, str], *, resuming: bool
    ) -> Iterator[ServerSentEvent]:
        """Those of one connection."""
        headers = {"Last-Event-ID": after} if after else {}
        asked = self._http.stream(
            "GET", "/yard/v1/events", timeout=_STREAMED, params=params, headers=headers
        )
        with asked as answer:
            if resuming and answer.status_code in (502, 503, 504):
                raise _Away(f"it answers {answer.status_code}")
            self._require_stream(answer, "text/event-stream")
            yield ServerSentEvent(after or "", "open", {})
            yield from self._parsed(_lines(answer))

    def _parsed(self, lines: Iterator[str]) -> Iterator[ServerSentEvent]:
        id, kind, data = "", "message", ""
        for line in lines:
            if not line:
                if data:
                    yield ServerSentEvent(id, kind, decoded(self._place, data))
                kind, data = "message", ""
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                id = value
            elif field == "event":
                kind = value
            elif field == "data":
                data += value

    def _require_stream(self, answer: httpx.Response, media_type: str) -> None:
        """Exit unless it is the beginning of what was asked for."""
        if not answer.is_success:
            answer.read()
            self.require(answer)
        said = answer.headers.get("content-type", "")
        if said.partition(";")[0] != media_type:
            raise strange(self._place, f"it sends {said or 'nothing'} instead of {media_type}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a container said; `status` 0 means that nobody answered, and `text` why."""

    status: int
    text: str


def ask_container(method: str, url: str, body: Any = None, *, timeout_s: float) -> Answer:
    """One request to a published port. Never raises for what the other side does."""
    try:
        answer = httpx.request(method, url, json=body, timeout=timeout_s, trust_env=False)
    except httpx.TransportError as error:
        return Answer(0, str(error))
    return Answer(answer.status_code, answer.text.strip())


def _lines(answer: httpx.Response) -> Iterator[str]:
    """Ended by line feeds alone: what people wrote into a line may hold other ends of lines."""
    begun = ""
    for text in answer.iter_text():
        *whole, begun = (begun + text).split("\n")
        yield from (line.removesuffix("\r") for line in whole)
    if begun:
        yield begun
