"""The HTTP client of the command line: one place for address, token, errors and exit codes."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import typer

from cli.console import Part, echo, err, refuse
from cli.credentials import find_server
from cli.server import (
    PROBLEM,
    Server,
    connection_errors,
    decoded,
    not_modelyard,
    path_of,
    require,
    unreachable,
)

PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
RECONNECTIONS = 20
"""Attempts to reach a server that was there before, a minute and a half in all."""
AWAY = frozenset({502, 503, 504})
"""The server is there and cannot serve at the moment."""
_LOST: Part = ("connection lost, resuming…", "yellow")
_STREAMED = httpx.Timeout(None, connect=5, read=60)

Named = Annotated[str, typer.Argument(help="Its name or its ID, or how that begins.")]
SeveralNamed = Annotated[list[str], typer.Argument(help="Names or IDs, or how these begin.")]
Kind = Literal["images", "containers", "deployments", "nodes"]


class _Away(Exception):
    """The server answered with a status of `AWAY`."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    id: str
    event: str
    data: dict[str, Any]


class Client:
    """Calls the paths below `root` as whoever is calling is known there.

    A path is its fixed part and, one by one, the pieces that people or servers named.
    """

    def __init__(self, root: str = "/yard/v1", server: Server | None = None) -> None:
        self._root = root
        self._server = server or find_server()
        self.url = self._server.url
        self.shown = self._server.shown
        self.http = self._server.connect(timeout=httpx.Timeout(330, connect=5))
        """For calls that deal with lost connections themselves."""
        # Whoever is done with us drops us: no connection is left to be closed by chance.
        weakref.finalize(self, self.http.close)

    def call(self, method: str, path: str, *pieces: str, **options: Any) -> Any:
        """The JSON object of the answer, if any, or exit with the problem that the server named."""
        answer = self.answer(method, path, *pieces, **options)
        return None if answer.status_code == 204 else self.decode(answer)

    def answer(self, method: str, path: str, *pieces: str, **options: Any) -> httpx.Response:
        """The good answer with its headers, or exit with the problem that the server named."""
        with connection_errors(self._server):
            answer = self.http.request(method, path_of(self._root, path, pieces=pieces), **options)
        self.require(answer)
        return answer

    def items(
        self, path: str, *pieces: str, method: str = "GET", **options: Any
    ) -> list[dict[str, Any]]:
        """The JSON array of a good answer; exits as `call` does."""
        answer = self.answer(method, path, *pieces, **options)
        found: list[dict[str, Any]] = decoded(self._server, answer.content, list)
        return found

    def require(self, answer: httpx.Response) -> None:
        """Exit with the problem that the server named, if it did."""
        require(self._server, answer)

    def decode(self, answer: httpx.Response) -> dict[str, Any]:
        """The JSON object of a good answer. Exits when it is none."""
        found: dict[str, Any] = decoded(self._server, answer.content)
        return found

    def header(self, answer: httpx.Response, name: str) -> str:
        """A header of a good answer. Exits when there is none."""
        if name not in answer.headers:
            not_modelyard(self._server, f"its answer has no header {name!r}")
        return str(answer.headers[name])

    def pages(self, path: str, *, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Items of a paged list, at most `limit` of them."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(items) < limit:
            params = given(limit=min(100, limit - len(items)), cursor=cursor, **query)
            page = self.call("GET", path, params=params)
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        return items

    def path_to(self, kind: Kind, name: str) -> str:
        """The path of the record that is called so; exits as `id_of` does."""
        return f"/{kind}/{self.id_of(kind, name)}"

    def id_of(self, kind: Kind, name: str) -> str:
        """The ID of the record that is called so, as the server understands it. Exits when none is,
        or when it is not clear which.

        A name that looks like a whole ID is taken for one.
        """
        if not name:
            refuse("An empty text names nothing.", "Give a name or an ID.")
        try:
            return str(UUID(name))
        except ValueError:
            found = self.call("GET", f"/{kind}/find", params={"called": name})
        return str(found["uuid"])

    def patient_get(self, path: str) -> dict[str, Any]:
        """The record at `path`, read through the short absences of a server that restarts.

        Exits when the server refuses, or stays away as for events.
        """
        for attempt in range(RECONNECTIONS):
            try:
                answer = self.http.get(path_of(self._root, path, pieces=()))
                if answer.status_code not in AWAY:
                    self.require(answer)
                    return self.decode(answer)
            except httpx.TransportError:
                if attempt == 0:
                    echo(err, _LOST)
            time.sleep(_pause_s(attempt))
        last: dict[str, Any] = self.call("GET", path)
        return last

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A streamed answer of any status, before its body is read; exits for problems of ours."""
        with (
            connection_errors(self._server),
            self.http.stream(method, path_of(self._root, path, pieces=()), **options) as answer,
        ):
            if answer.headers.get("content-type") == PROBLEM:
                answer.read()
                self.require(answer)
            yield answer

    @contextmanager
    def entries(
        self, path: str, *, method: str = "GET", **options: Any
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Objects of an answer of JSON lines, for as long as the server sends."""
        with self.stream(method, path, timeout=_STREAMED, **options) as answer:
            self._require_stream(answer, "application/x-ndjson")
            yield (decoded(self._server, line) for line in _lines(answer) if line)

    def events(
        self, *, after: str | None = None, **query: str | list[str] | None
    ) -> Iterator[ServerSentEvent]:
        """Events from the durable stream; reconnects and resumes after the last one seen.

        The first one of every connection is called `open`: what is read after it cannot miss a
        later event. Exits when there is no first connection, and when none comes about again.
        """
        params = given(**query)
        was_open, in_vain = False, 0
        while True:
            try:
                for event in self._events(after, params, resuming=was_open):
                    was_open, in_vain = True, 0
                    after = event.id or after
                    yield event
            except (httpx.TransportError, UnicodeEncodeError, _Away) as error:
                if not was_open or in_vain == RECONNECTIONS:
                    unreachable(self._server, error)
            echo(err, _LOST)
            time.sleep(_pause_s(in_vain))
            in_vain += 1

    def _events(
        self, after: str | None, params: dict[str, Any], *, resuming: bool
    ) -> Iterator[ServerSentEvent]:
        """Those of one connection."""
        headers = {"Last-Event-ID": after} if after else {}
        asked = self.http.stream(
            "GET", "/yard/v1/events", timeout=_STREAMED, params=params, headers=headers
        )
        with asked as answer:
            if resuming and answer.status_code in AWAY:
                raise _Away(f"it answers {answer.status_code}")
            self._require_stream(answer, "text/event-stream")
            yield ServerSentEvent(after or "", "open", {})
            yield from self._parsed(_lines(answer))

    def _parsed(self, lines: Iterator[str]) -> Iterator[ServerSentEvent]:
        id, kind, data = "", "message", ""
        for line in lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "" if not line:
                    if data:
                        yield ServerSentEvent(id, kind, decoded(self._server, data))
                    kind, data = "message", ""
                case "id":
                    id = value
                case "event":
                    kind = value
                case "data":
                    data += value

    def _require_stream(self, answer: httpx.Response, media_type: str) -> None:
        """Exit unless it is the beginning of what was asked for."""
        if not answer.is_success:
            answer.read()
            self.require(answer)
        sent = answer.headers.get("content-type", "")
        if sent.partition(";")[0] != media_type:
            not_modelyard(self._server, f"it sends {sent or 'nothing'} instead of {media_type}")


def given(**values: Any) -> dict[str, Any]:
    """Those that somebody gave: None means that the server shall choose."""
    return {name: value for name, value in values.items() if value is not None}


def _pause_s(attempt: int) -> float:
    return min(PAUSE_S * float(2**attempt), LONGEST_PAUSE_S)


def _lines(answer: httpx.Response) -> Iterator[str]:
    """Ended by line feeds alone: what people wrote into a line may hold other ends of lines."""
    begun = ""
    for text in answer.iter_text():
        *whole, begun = (begun + text).split("\n")
        yield from (line.removesuffix("\r") for line in whole)
    if begun:
        yield begun


@dataclass(frozen=True, slots=True)
class ContainerAnswer:
    """What a container said; `status` 0 means that nobody answered, and `text` why."""

    status: int
    text: str


def ask_container(method: str, url: str, body: Any = None, *, timeout_s: float) -> ContainerAnswer:
    """One request to a published port. Never raises for what the other side does."""
    try:
        answer = httpx.request(method, url, json=body, timeout=timeout_s, trust_env=False)
    except httpx.TransportError as error:
        return ContainerAnswer(0, str(error))
    return ContainerAnswer(answer.status_code, answer.text.strip())
