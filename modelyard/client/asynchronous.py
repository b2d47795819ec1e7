"""Calls over a connection that others need not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, NoReturn, Self

import httpx

from modelyard.client.blocking import failed
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
from modelyard.client.errors import ModelyardError, Refused


class AsyncSender:
    """Sends calls over `http`, and reads their answers. Raises ModelyardError."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def close(self) -> None:
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, call: Call, **options: Any) -> httpx.Response:
        """The good answer with its headers."""
        with self.errors():
            answer = await self.http.request(call.method, call.target, **call.options() | options)
            require(answer)
            return answer

    @asynccontextmanager
    async def stream(
        self, call: Call, *, passes_errors: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """The beginning of an answer, to be read as it comes: a good one, or any that is not the
        server's own."""
        asked = {"timeout": CALLED if passes_errors else STREAMED} | call.options()
        with self.errors():
            async with self.http.stream(call.method, call.target, **asked) as answer:
                if answer.headers.get("content-type") == PROBLEM or not passes_errors:
                    if answer.is_error:
                        await answer.aread()
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

    async def _json(self, call: Call, kind: type = dict) -> Any:
        answer = await self.send(call)
        with self.errors():
            return decoded(answer.content, self.fail, kind)

    async def _headers(self, call: Call) -> httpx.Headers:
        answer = await self.send(call)
        return answer.headers

    async def _nothing(self, call: Call) -> None:
        await self.send(call)

    async def _pages(self, call: Call, limit: int | None) -> AsyncIterator[Any]:
        """Items of all pages, at most `limit`."""
        left, cursor = limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            query = {"limit": size, "cursor": cursor, **call.query}
            page = await self._json(replace(call, query=query))
            with self.errors():
                items, cursor = page["items"], page["next"]
            for item in items[:left]:
                yield item
            left = None if left is None else left - len(items)
            if cursor is None:
                return

    async def _entries(self, call: Call) -> AsyncIterator[Any]:
        """Objects of an answer of JSON lines, for as long as the server sends."""
        asked = replace(call, headers={**call.headers, "Accept": NDJSON})
        async with self.stream(asked) as answer:
            require_stream(answer, NDJSON)
            async for line in _lines(answer):
                if line:
                    yield decoded(line, self.fail)

    def _passed(self, call: Call) -> AbstractAsyncContextManager[httpx.Response]:
        """Whatever stands behind the server answers; problems of the server's own are raised."""
        return self.stream(call, passes_errors=True)

    async def _text(self, call: Call) -> AsyncIterator[str]:
        async with self.stream(call) as answer:
            async for text in answer.aiter_text():
                yield text

    async def _events(self, call: Call, after: str | None) -> AsyncIterator[Event]:
        """Reconnects, and resumes after the last event seen. Fails when there is no first
        connection, and when none comes about again."""
        was_open, in_vain = False, 0
        while True:
            try:
                async for event in self._connected(call, after):
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
            await asyncio.sleep(pause_s(in_vain))
            in_vain += 1

    async def _connected(self, call: Call, after: str | None) -> AsyncIterator[Event]:
        asked = replace(call, headers={"Last-Event-ID": after or None})
        options = asked.options()
        async with self.http.stream(
            asked.method, asked.target, timeout=STREAMED, **options
        ) as answer:
            if answer.is_error:
                await answer.aread()
            require(answer)
            require_stream(answer, EVENT_STREAM)
            yield Event(after or "", "open", {})
            parser = EventParser(self.fail)
            async for line in _lines(answer):
                if event := parser.feed(line):
                    yield event


async def _lines(answer: httpx.Response) -> AsyncIterator[str]:
    cut = Lines()
    async for text in answer.aiter_text():
        for line in cut.feed(text):
            yield line
    for line in cut.end():
        yield line
