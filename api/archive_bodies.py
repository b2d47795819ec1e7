"""Bodies that are image archives: raw, or the part `file` of a form, never held as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from api.direct_body import VIEWS
from pipeline.core.ingested import Piece
from pipeline.errors import InvalidInput, MalformedRequest, TarTruncated

RAW: Final = frozenset(
    {
        "application/x-tar",
        "application/octet-stream",
        "application/gzip",
        "application/x-gzip",
        "application/zstd",
        "application/x-zstd",
    }
)
"""What an archive may be called; how it is compressed is told by its first bytes."""
FORM: Final = "multipart/form-data"
FIELD: Final = "file"


@dataclass(frozen=True, slots=True)
class ArchiveBody:
    stream: AsyncIterator[Piece]
    length: int | None
    """Bytes that will come; of a form a little more than its file has."""


def is_archive(content_type: str) -> bool:
    return _kind(content_type) in RAW or _kind(content_type) == FORM


def archive_body(request: Request, *, silence_s: float) -> ArchiveBody:
    """The archive that a request brings; the endpoint must be marked with `streams_body`.

    HTTPException 415 for another type. While it is read, TarTruncated is raised when the sender
    leaves or says nothing for `silence_s`, MalformedRequest for a broken form and InvalidInput for
    one without a file.
    """
    content_type = request.headers.get("content-type", "")
    length = request.headers.get("content-length", "")
    received = body(request, silence_s=silence_s)
    if _kind(content_type) == FORM:
        received = _file_of(received, content_type)
    elif _kind(content_type) not in RAW:
        raise HTTPException(415, f"Send a TAR as {', '.join(sorted(RAW))} or {FORM}.")
    return ArchiveBody(received, int(length) if length.isdecimal() else None)


async def body(request: Request, *, silence_s: float) -> AsyncIterator[Piece]:
    """Raises TarTruncated for a sender who leaves or is silent for too long."""
    if views := request.scope.get("extensions", {}).get(VIEWS):
        views["take"]()
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


async def _file_of(received: AsyncIterator[Piece], content_type: str) -> AsyncIterator[bytes]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("The form names no boundary.")
    form = _Form(boundary)
    async for chunk in received:
        for piece in form.feed(bytes(chunk)):
            yield piece
    if not form.is_over:
        raise TarTruncated("The form ends early: send it again, whole.")
    if not form.has_file:
        raise InvalidInput(f"The form has no part called {FIELD}.", field=FIELD)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
