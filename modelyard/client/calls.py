"""A call as a value, and what its answer holds: all that needs no connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from modelyard.client.errors import ModelyardError, UnexpectedAnswer, Unnamed, refusal

Fail = Callable[[ModelyardError], NoReturn]
"""Ends what goes on by an error: raises it, or exits with it."""
Content = bytes | Iterable[bytes]
PAGE = 100
"""Records of one page."""
PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
RECONNECTIONS = 20
"""Attempts to reach a server that was there before, a minute and a half in all."""
AWAY = frozenset({502, 503, 504})
"""The server is there and cannot serve at the moment."""
NDJSON, EVENT_STREAM, PROBLEM = (
    "application/x-ndjson",
    "text/event-stream",
    "application/problem+json",
)
CALLED = httpx.Timeout(330, connect=5)
STREAMED = httpx.Timeout(None, connect=5, read=60)
"""A server that has nothing to say says so every few seconds."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a server. None in `query` or `headers` is not sent."""

    method: str
    path: str
    """Its `{}` are the pieces."""
    pieces: tuple[str, ...] = ()
    """Whatever people or servers call things."""
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Any = None
    """Sent as JSON."""
    content: Content | None = None
    content_type: str = ""

    @property
    def target(self) -> str:
        """Raises Unnamed for an empty piece, without which the path would be another one, and for
        one with a slash, which ends a piece even where it is quoted."""
        return self.path.format(*map(_quoted, self.pieces))

    def options(self) -> dict[str, Any]:
        """As httpx takes them."""
        headers = given(**self.headers)
        if self.content is not None and self.content_type:
            headers["Content-Type"] = self.content_type
        sent = given(json=self.body, content=self.content, params=given(**self.query) or None)
        return sent | ({"headers": headers} if headers else {})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. The first one of every connection is called `open`: what is read
    after it cannot miss a later event."""

    id: str
    event: str
    data: dict[str, Any]


class AnswerObject(dict[str, Any]):
    """An object of an answer. Fails by UnexpectedAnswer where a key that is read is missing."""

    def __init__(self, values: dict[str, Any], fail: Fail) -> None:
        super().__init__(values)
        self._fail = fail

    def __missing__(self, key: str) -> Any:
        self._fail(UnexpectedAnswer(f"its answer holds no {key!r}"))


def given(**values: Any) -> dict[str, Any]:
    """Those that somebody gave: None means that the server shall choose."""
    return {name: value for name, value in values.items() if value is not None}


class Slashed(str):
    """A piece of a path that may hold slashes."""


def _quoted(piece: str) -> str:
    if not piece:
        raise Unnamed("")
    if isinstance(piece, Slashed):
        return quote(piece)
    if "/" in piece:
        raise Unnamed(piece)
    # Dots by themselves mean folders, and are taken out of the path before it is sent.
    return quote(piece, safe="") if piece.strip(".") else piece.replace(".", "%2E")


def require(answer: httpx.Response) -> None:
    """Raises the error that an answer is; its body must be read if it is one."""
    if answer.is_redirect:
        raise UnexpectedAnswer(f"it points to {answer.headers.get('location', 'nowhere')}")
    if answer.is_error:
        raise refusal(answer)


def require_stream(answer: httpx.Response, media_type: str) -> None:
    """Raises UnexpectedAnswer unless it is the beginning of what was asked for."""
    sent = answer.headers.get("content-type", "")
    if sent.partition(";")[0] != media_type:
        raise UnexpectedAnswer(f"it sends {sent or 'nothing'} instead of {media_type}")


def decoded(text: str | bytes, fail: Fail, kind: type = dict) -> Any:
    """A JSON object, or a value of another kind. Raises UnexpectedAnswer when it is none."""
    try:
        value = json.loads(text, object_hook=partial(AnswerObject, fail=fail))
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswer("its answer is no JSON") from error
    if not isinstance(value, kind):
        raise UnexpectedAnswer("its answer is no JSON object")
    return value


def pause_s(attempt: int) -> float:
    return min(PAUSE_S * float(2**attempt), LONGEST_PAUSE_S)


class Lines:
    """Cut at line feeds alone: what people wrote into a line may hold other ends of lines."""

    def __init__(self) -> None:
        self._begun = ""

    def feed(self, text: str) -> Iterator[str]:
        *whole, self._begun = (self._begun + text).split("\n")
        yield from (line.removesuffix("\r") for line in whole)

    def end(self) -> Iterator[str]:
        if self._begun:
            yield self._begun


class EventParser:
    """Server-sent events, line by line."""

    def __init__(self, fail: Fail) -> None:
        self._fail = fail
        self._id, self._kind, self._data = "", "message", ""

    def feed(self, line: str) -> Event | None:
        """The event that this line ends, if it does."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line:
                return self._ended()
            case "id":
                self._id = value
            case "event":
                self._kind = value
            case "data":
                self._data += value
        return None

    def _ended(self) -> Event | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "message", ""
        return Event(self._id, kind, decoded(data, self._fail)) if data else None
