"""How much of a body is read, and for how long it is waited for; bodies that are archives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.types import Message

from pipeline.errors import InvalidInput, MalformedRequest, TarTruncated
from pipeline.settings import Settings

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

_STREAMS = "_modelyard_streams_body"


def streams_body(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint that reads its body piece by piece and caps it itself."""
    setattr(endpoint, _STREAMS, True)
    return endpoint


def does_stream(endpoint: Callable[..., object]) -> bool:
    return getattr(endpoint, _STREAMS, False)


def media_type(headers: Mapping[str, str]) -> str:
    """Of a body, without its parameters; empty when none is declared."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def capped(request: Request) -> Request:
    """The request with a body of at most `body_max_bytes`, of which no piece is late.

    A body that is larger is answered 413, one that stops coming 408. A declared length is judged at
    the first read, so that a caller without a token hears 401 first; a chunked body is cut off
    where it crosses the line.
    """
    return Request(request.scope, _CappedBody(request).receive)


class _CappedBody:
    def __init__(self, request: Request) -> None:
        settings: Settings = request.app.state.settings
        self._receive = request.receive
        self._declared = request.headers.get("content-length", "0")
        self._max_bytes = settings.body_max_bytes
        self._silence_s = settings.request_silence_s
        self._seen = 0
        self._is_awaited = True
        """Later on, only the end of the connection is waited for."""

    async def receive(self) -> Message:
        if not self._is_awaited:
            return await self._receive()
        if self._seen == 0:
            self._require_small(int(self._declared) if self._declared.isdecimal() else 0)
        try:
            async with asyncio.timeout(self._silence_s):
                message = await self._receive()
        except TimeoutError:
            told = f"Nothing of the body came for {self._silence_s:g} s: send the request again."
            raise self._refusal(408, told) from None
        self._seen += len(message.get("body", b""))
        self._require_small(self._seen)
        self._is_awaited = message.get("more_body", False)
        return message

    def _require_small(self, size: int) -> None:
        if size > self._max_bytes:
            raise self._refusal(413, f"The body is larger than {self._max_bytes} bytes.")

    def _refusal(self, status: int, told: str) -> HTTPException:
        # Whatever follows on this connection belongs to a request that is over.
        return HTTPException(status, told, {"Connection": "close"})


RAW: Final = frozenset(
    {
        "application/x-tar",
        "application/octet-stream",
        "application/gzip",
        "application/x-gzip",
        "application/zstd",
        "application/x-zstd",
        "application/x-xz",
        "application/x-bzip2",
    }
)
"""What an archive may be called; how it is compressed is told by its first bytes."""
FORM: Final = "multipart/form-data"
FIELD: Final = "file"


@dataclass(frozen=True, slots=True)
class ArchiveBody:
    stream: AsyncIterator[bytes]
    length: int | None
    """Bytes that will come; of a form a little more than its file has."""


def is_archive(headers: Mapping[str, str]) -> bool:
    return media_type(headers) in RAW | {FORM}


def archive_body(request: Request, *, silence_s: float) -> ArchiveBody:
    """The archive that a request brings; the endpoint must be marked with `streams_body`.

    HTTPException 415 for another type. While it is read, TarTruncated is raised when the sender
    leaves or says nothing for `silence_s`, MalformedRequest for a broken form and InvalidInput for
    one without a file.
    """
    content_type = request.headers.get("content-type", "")
    length = request.headers.get("content-length", "")
    received = body(request, silence_s=silence_s)
    kind = media_type(request.headers)
    if kind == FORM:
        received = _file_of(received, content_type)
    elif kind not in RAW:
        raise HTTPException(415, f"Send a TAR as {', '.join(sorted(RAW))} or {FORM}.")
    return ArchiveBody(received, int(length) if length.isdecimal() else None)


async def body(request: Request, *, silence_s: float) -> AsyncIterator[bytes]:
    """Raises TarTruncated for a sender who leaves or is silent for too long."""
    while True:
        try:
            async with asyncio.timeout(silence_s):
                message = await request.receive()
        except TimeoutError:
            raise TarTruncated(f"Nothing came for {silence_s:g} s: send it again.") from None
        if message["type"] == "http.disconnect":
            raise TarTruncated("The sender left before the end.")
        if chunk := message.get("body", b""):
            yield chunk
        if not message.get("more_body", False):
            return


class _Form:
    """What the parser says while it is fed."""

    def __init__(self, boundary: bytes) -> None:
        self.pieces: list[bytes] = []
        """Of the file, since somebody took them last."""
        self.has_file = False
        self.is_over = False
        self._is_file = False
        self._name = bytearray()
        self._value = bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._field,
                    "on_header_value": self._text,
                    "on_header_end": self._header,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedRequest("The form's boundary is too long.") from error

    def feed(self, chunk: bytes) -> list[bytes]:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequest("The body is no multipart/form-data.") from error
        pieces, self.pieces = self.pieces, []
        return pieces

    def _begin(self) -> None:
        self._is_file = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _text(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._is_file = options.get(b"name") == FIELD.encode() and not self.has_file
            self.has_file = self.has_file or self._is_file
        self._name.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.pieces.append(data[start:end])

    def _end(self) -> None:
        self.is_over = True


async def _file_of(received: AsyncIterator[bytes], content_type: str) -> AsyncIterator[bytes]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("The form names no boundary.")
    form = _Form(boundary)
    async for chunk in received:
        for piece in form.feed(chunk):
            yield piece
    if not form.is_over:
        raise TarTruncated("The form ends early: send it again, whole.")
    if not form.has_file:
        raise InvalidInput(f"The form has no part called {FIELD}.", field=FIELD)
