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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.rules import protobuf
from pipeline.rules.protobuf import Malformed

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
    item = b"".join(protobuf.sized(_ITEM_FILES, entry) for entry in entries)
    return protobuf.sized(1, item)


def read_outcome(reply: bytes) -> Outcome:
    """Of any reply. Raises Malformed."""
    code, texts = 0, {_STATUS_TEXT: "", _MESSAGE: ""}
    for number, value in protobuf.fields(reply):
        if number == _STATUS_CODE:
            read = protobuf.int32(value)
            code = code if read is None else read
        elif number in texts and isinstance(value, bytes):
            texts[number] = _text(value)
    return Outcome(code, texts[_STATUS_TEXT], texts[_MESSAGE])


def read_outputs(reply: bytes) -> list[Output]:
    """Of a RunResponse. Raises Malformed."""
    return [
        _output(value)
        for number, value in protobuf.fields(reply)
        if number == _OUTPUTS and isinstance(value, bytes)
    ]


def _output(item: bytes) -> Output:
    files: dict[str, bytes] = {}
    is_success = False
    for number, value in protobuf.fields(item):
        if number == _ITEM_FILES and isinstance(value, bytes):
            name, content = _read_entry(value)
            files[name] = content
        elif number == _ITEM_SUCCESS and isinstance(value, int):
            is_success = bool(value)
    return Output(files, is_success)


def _entry(name: str, content: bytes) -> bytes:
    return protobuf.sized(_KEY, name.encode()) + protobuf.sized(_VALUE, content)


def _read_entry(entry: bytes) -> tuple[str, bytes]:
    name, content = "", b""
    for number, value in protobuf.fields(entry):
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
