"""Calls over a connection that waits."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, NoReturn, Self

import httpx

from modelyard.client.calls import (
    AWAY,
    CALLED,
    EVENT_STREAM,
    NDJSON,
    PAGE,
    PROBLEM,
    RECONNECTIONS,
    STREAMED,
    Call,
    Event,
    EventParser,
    Lines,
    decoded,
    pause_s,
    require,
    require_stream,
)
from modelyard.client.errors import ConnectionFailed, ModelyardError, Refused


class Sender:
    """Sends calls over `http`, and reads their answers. Raises ModelyardError."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        # Whoever is done with us drops us: no connection is left to be closed by chance.
        weakref.finalize(self, http.close)

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, call: Call, **options: Any) -> httpx.Response:
        """The good answer with its headers."""
        with self.errors():
            answer = self.http.request(call.method, call.target, **call.options() | options)
            require(answer)
            return answer

    @contextmanager
    def stream(self, call: Call, *, passes_errors: bool = False) -> Iterator[httpx.Response]:
        """The beginning of an answer, to be read as it comes: a good one, or any that is not the
        server's own."""
        asked = {"timeout": CALLED if passes_errors else STREAMED} | call.options()
        with self.errors(), self.http.stream(call.method, call.target, **asked) as answer:
            if answer.headers.get("content-type") == PROBLEM or not passes_errors:
                if answer.is_error:
                    answer.read()
                require(answer)
            yield answer

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Fails, by `fail`, for what goes wrong inside."""
        try:
            yield
        except (httpx.RequestError, UnicodeEncodeError) as error:
            self.fail(failed(error))
        except ModelyardError as error:
            self.fail(error)

    def fail(self, error: ModelyardError) -> NoReturn:
        """Raises it."""
        raise error

    def lost(self) -> None:
        """A connection was lost and is made again."""

    def _json(self, call: Call, kind: type = dict) -> Any:
        answer = self.send(call)
        with self.errors():
            return decoded(answer.content, self.fail, kind)

    def _headers(self, call: Call) -> httpx.Headers:
        answer = self.send(call)
        return answer.headers

    def _nothing(self, call: Call) -> None:
        self.send(call)

    def _pages(self, call: Call, limit: int | None) -> Iterator[Any]:
        """Items of all pages, at most `limit`."""
        left, cursor = limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            query = {"limit": size, "cursor": cursor, **call.query}
            page = self._json(replace(call, query=query))
            with self.errors():
                items, cursor = page["items"], page["next"]
            yield from items[:left]
            left = None if left is None else left - len(items)
            if cursor is None:
                return

    def _entries(self, call: Call) -> Iterator[Any]:
        """Objects of an answer of JSON lines, for as long as the server sends."""
        asked = replace(call, headers={**call.headers, "Accept": NDJSON})
        with self.stream(asked) as answer:
            require_stream(answer, NDJSON)
            yield from (decoded(line, self.fail) for line in _lines(answer) if line)

    def _passed(self, call: Call) -> AbstractContextManager[httpx.Response]:
        """Whatever stands behind the server answers; problems of the server's own are raised."""
        return self.stream(call, passes_errors=True)

    def _text(self, call: Call) -> Iterator[str]:
        with self.stream(call) as answer:
            yield from answer.iter_text()

    def _events(self, call: Call, after: str | None) -> Iterator[Event]:
        """Reconnects, and resumes after the last event seen. Fails when there is no first
        connection, and when none comes about again."""
        was_open, in_vain = False, 0
        while True:
            try:
                for event in self._connected(call, after):
                    was_open, in_vain = True, 0
                    after = event.id or after
                    yield event
            except (httpx.TransportError, UnicodeEncodeError) as error:
                if not was_open or in_vain == RECONNECTIONS:
                    self.fail(failed(error))
            except Refused as error:
                if not was_open or error.status not in AWAY or in_vain == RECONNECTIONS:
                    self.fail(error)
            except ModelyardError as error:
                self.fail(error)
            self.lost()
            time.sleep(pause_s(in_vain))
            in_vain += 1

    def _connected(self, call: Call, after: str | None) -> Iterator[Event]:
        asked = replace(call, headers={"Last-Event-ID": after or None})
        options = asked.options()
        with self.http.stream(asked.method, asked.target, timeout=STREAMED, **options) as answer:
            if answer.is_error:
                answer.read()
            require(answer)
            require_stream(answer, EVENT_STREAM)
            yield Event(after or "", "open", {})
            parser = EventParser(self.fail)
            for line in _lines(answer):
                if event := parser.feed(line):
                    yield event


def failed(error: Exception) -> ConnectionFailed:
    made = ConnectionFailed(str(error) or type(error).__name__)
    made.__cause__ = error
    return made


def _lines(answer: httpx.Response) -> Iterator[str]:
    cut = Lines()
    for text in answer.iter_text():
        yield from cut.feed(text)
    yield from cut.end()
