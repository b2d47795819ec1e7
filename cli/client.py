"""The HTTP client of the command line: one place for address, token, errors and exit codes."""

from __future__ import annotations

import json
import os
import shlex
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import typer
from rich.console import Console
from rich.text import Text

out = Console()
err = Console(stderr=True)

FAILED, USAGE, MISSING, DENIED, UNREACHABLE = 1, 2, 3, 4, 5
"""Exit codes. 0 is success; 2 is what typer uses for wrong arguments."""

PROBLEM = "application/problem+json"

Part = str | tuple[str, str]

_EXITS = {401: DENIED, 403: DENIED, 404: MISSING, 410: MISSING, 422: USAGE, 400: USAGE}


def say(console: Console, *parts: Part) -> None:
    """Parts on one line, as they are or each with its style.

    For what servers and people wrote: it is neither read as markup nor broken into lines.
    """
    console.print(Text.assemble(*parts), soft_wrap=True, highlight=False)


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
    """Calls `/yard/v1` with the token of the environment or of the running local stack."""

    def __init__(self) -> None:
        facts = _settings()
        self.url = facts.get("MODELYARD_URL", "http://127.0.0.1:8000")
        token = facts.get("MODELYARD_TOKEN", "")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(330, connect=5),
        )
        # Whoever is done with us drops us: no connection is left to be closed by chance.
        weakref.finalize(self, self._http.close)

    @property
    def http(self) -> httpx.Client:
        """For calls that deal with lost connections themselves."""
        return self._http

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The decoded answer, or exit with the problem that the server named."""
        answer = self.answer(method, path, **options)
        if not answer.content:
            return None
        if "json" in answer.headers.get("content-type", ""):
            return answer.json()
        return answer.text

    def answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The good answer with its headers, or exit with the problem that the server named."""
        with _explained(self.url):
            answer = self._http.request(method, f"/yard/v1{path}", **options)
        self.require(answer)
        return answer

    def require(self, answer: httpx.Response) -> None:
        """Exit with the problem that the server named, if it did."""
        _raise_problem(answer)

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
            _explained(self.url),
            self._http.stream(method, f"/yard/v1{path}", **options) as answer,
        ):
            if answer.headers.get("content-type") == PROBLEM:
                answer.read()
                _raise_problem(answer)
            yield answer

    @contextmanager
    def lines(self, path: str, **options: Any) -> Iterator[Iterator[str]]:
        """Lines of a streamed answer, for as long as the server sends."""
        with (
            _explained(self.url),
            self._http.stream("GET", f"/yard/v1{path}", timeout=_STREAMED, **options) as answer,
        ):
            if answer.is_error:
                answer.read()
                _raise_problem(answer)
            yield answer.iter_lines()

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
            except (httpx.TransportError, _Away) as error:
                if not was_open or in_vain == RECONNECTIONS:
                    raise _unreachable(self.url, error) from error
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
            if answer.is_error:
                answer.read()
                _raise_problem(answer)
            yield ServerSentEvent(after or "", "open", {})
            yield from _parse_events(answer.iter_lines())


@dataclass(frozen=True, slots=True)
class Answer:
    """What a container said; `status` 0 means that nobody answered, and `text` why."""

    status: int
    text: str


def ask_container(method: str, url: str, body: Any = None, *, timeout_s: float) -> Answer:
    """One request to a published port. Never raises for what the other side does."""
    try:
        answer = httpx.request(method, url, json=body, timeout=timeout_s)
    except httpx.TransportError as error:
        return Answer(0, str(error))
    return Answer(answer.status_code, answer.text.strip())


def _settings() -> dict[str, str]:
    """The environment; what it lacks is read from the running local stack."""
    state = Path(os.environ.get("MODELYARD_STATE", ".modelyard")) / "env"
    facts: dict[str, str] = {}
    if state.is_file():
        for line in state.read_text().splitlines():
            name, found, value = line.removeprefix("export ").partition("=")
            if found:
                facts[name] = "".join(shlex.split(value))
    return facts | {k: v for k, v in os.environ.items() if k.startswith("MODELYARD_")}


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> typer.Exit:
    """Says why; raise what it returns."""
    if isinstance(error, httpx.ConnectError):
        nobody = (f"Nothing answers at {url}", "red")
        say(err, nobody, f" ({error}). Start it with: modelyard up")
    elif isinstance(error, httpx.TimeoutException):
        say(err, (f"{url} did not answer in time.", "red"), " Look at: modelyard doctor")
    else:
        lost = (f"The connection to {url} was lost", "red")
        say(err, lost, f" ({error}). Look at: modelyard doctor")
    return typer.Exit(UNREACHABLE)


def _raise_problem(answer: httpx.Response) -> None:
    if not answer.is_error:
        return
    try:
        problem = answer.json()
    except json.JSONDecodeError:
        problem = {"title": answer.reason_phrase, "detail": answer.text[:500]}
    title = f"{problem.get('title', answer.status_code)}:"
    say(err, (title, "red"), f" {problem.get('detail', '')}")
    for item in problem.get("errors") or []:
        say(err, f"  {item.get('field')}: {item.get('message')}")
    raise typer.Exit(_EXITS.get(answer.status_code, FAILED))


def _parse_events(lines: Iterator[str]) -> Iterator[ServerSentEvent]:
    id, kind, data = "", "message", ""
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(id, kind, json.loads(data))
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
