"""Messages of the gRPC service `ModzyModel` that models offer, of its requests and replies.

    message StatusRequest {}
    message ShutdownRequest {}
    message InputItem { map<string, bytes> input = 1; }
    message RunRequest { repeated InputItem inputs = 1; bool detect_drift = 2; bool explain = 3; }

    message StatusResponse { int32 status_code = 1; string status = 2; string message = 3; … }
    message ShutdownResponse { int32 status_code = 1; string status = 2; string message = 3; }
    message OutputItem { map<string, bytes> output = 1; bool success = 2; }
    message RunResponse {
      int32 status_code = 1; string status = 2; string message = 3;
      repeated OutputItem outputs = 4;
    }

Source: `protos/model2_template/model.proto` of the public repository modzy/grpc-model-template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

STATUS: Final = "/ModzyModel/Status"
RUN: Final = "/ModzyModel/Run"
SHUTDOWN: Final = "/ModzyModel/Shutdown"
EMPTY: Final = b""
"""A StatusRequest, and a ShutdownRequest."""
FAILURE: Final = "error"
"""Under this name an output that is no success says why."""

_STATUS_CODE, _STATUS_TEXT, _MESSAGE, _OUTPUTS = 1, 2, 3, 4
_ITEM_FILES, _ITEM_SUCCESS = 1, 2
_KEY, _VALUE = 1, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What every reply begins with. 200 is success."""

    status_code: int
    status: str
    message: str


@dataclass(frozen=True, slots=True)
class Output:
    """What one input gave, by file name."""

    files: Mapping[str, bytes]
    is_success: bool


def run_request(files: Mapping[str, bytes]) -> bytes:
    """A RunRequest with one input, which consists of `files`."""
    entries = (_entry(name, content) for name, content in files.items())
    item = b"".join(sized(_ITEM_FILES, entry) for entry in entries)
    return sized(1, item)


def read_outcome(reply: bytes) -> Outcome:
    """Of any reply. Raises Malformed."""
    code, texts = 0, {_STATUS_TEXT: "", _MESSAGE: ""}
    for number, value in fields(reply):
        if number == _STATUS_CODE:
            read = int32(value)
            code = code if read is None else read
        elif number in texts and isinstance(value, bytes):
            texts[number] = _text(value)
    return Outcome(code, texts[_STATUS_TEXT], texts[_MESSAGE])


def read_outputs(reply: bytes) -> list[Output]:
    """Of a RunResponse. Raises Malformed."""
    return [
        _output(value)
        for number, value in fields(reply)
        if number == _OUTPUTS and isinstance(value, bytes)
    ]


def _output(item: bytes) -> Output:
    files: dict[str, bytes] = {}
    is_success = False
    for number, value in fields(item):
        if number == _ITEM_FILES and isinstance(value, bytes):
            name, content = _read_entry(value)
            files[name] = content
        elif number == _ITEM_SUCCESS and isinstance(value, int):
            is_success = bool(value)
    return Output(files, is_success)


def _entry(name: str, content: bytes) -> bytes:
    return sized(_KEY, name.encode()) + sized(_VALUE, content)


def _read_entry(entry: bytes) -> tuple[str, bytes]:
    name, content = "", b""
    for number, value in fields(entry):
        if number == _KEY and isinstance(value, bytes):
            name = _text(value)
        elif number == _VALUE and isinstance(value, bytes):
            content = value
    return name, content


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed("a text is not UTF-8") from None


VARINT_BYTES_MAX: Final = 10
FIELD_NUMBER_MAX: Final = 2**29 - 1
_VARINT, _LENGTH = 0, 2
_FIXED_WIDTHS = {1: 8, 5: 4}


class Malformed(ValueError):
    """These bytes are no message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field in order: an unsigned integer, or what has a length.

    Fields of fixed width, which floating-point numbers are, are checked and left out. Raises
    Malformed when it comes to what is wrong.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if not 1 <= number <= FIELD_NUMBER_MAX:
            raise Malformed("a field has no valid number")
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == _LENGTH:
            length, at = _varint(message, at)
            yield number, _slice(message, at, length)
            at += length
        elif kind in _FIXED_WIDTHS:
            at += len(_slice(message, at, _FIXED_WIDTHS[kind]))
        else:
            raise Malformed("a field has a type that no message has")


def int32(value: int | bytes) -> int | None:
    """As a signed number of 32 bits; None for a field that is none."""
    if isinstance(value, bytes):
        return None
    low = value & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


def sized(number: int, content: bytes) -> bytes:
    """A field of bytes, text, or a message."""
    return _encoded(number << 3 | _LENGTH) + _encoded(len(content)) + content


def _slice(message: bytes, at: int, length: int) -> bytes:
    if at + length > len(message):
        raise Malformed("it ends within a field")
    return message[at : at + length]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (2**64 - 1), at + index + 1
    raise Malformed("it ends within a number, or the number is too long")


def _encoded(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
