"""Messages to and from gRPC models, against the library of Protocol Buffers."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.runtime import grpc_messages
from pipeline.models.runtime.grpc_messages import Malformed, Outcome, Output
from tests.support.models.modzy_messages import MESSAGES

TEXTS = st.text(max_size=20).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
FILES = st.dictionaries(TEXTS, st.binary(max_size=300), max_size=4)
CODES = st.integers(-(2**31), 2**31 - 1)


@given(FILES)
def test_a_request_is_what_models_read(files: dict[str, bytes]) -> None:
    read = MESSAGES["RunRequest"].FromString(grpc_messages.run_request(files))
    assert [dict(item.input) for item in read.inputs] == [files]
    assert not read.explain


@given(CODES, TEXTS, TEXTS, st.lists(st.tuples(FILES, st.booleans()), max_size=3))
def test_a_reply_is_read_as_models_write_it(
    code: int, status: str, message: str, outputs: list[tuple[dict[str, bytes], bool]]
) -> None:
    reply = MESSAGES["RunResponse"](status_code=code, status=status, message=message)
    for files, success in outputs:
        item = reply.outputs.add(success=success)
        for name, content in files.items():
            item.output[name] = content
    written = reply.SerializeToString()
    assert grpc_messages.read_outcome(written) == Outcome(code, status, message)
    assert grpc_messages.read_outputs(written) == [Output(*each) for each in outputs]


def test_what_we_do_not_know_is_passed_over() -> None:
    reply = MESSAGES["StatusResponse"](status_code=200, status="OK")
    reply.model_info.model_name = "classifier"
    later = grpc_messages.sized(99, b"new") + bytes([98 << 3 & 0x7F | 5 | 0x80, 98 >> 4]) + b"1234"
    fixed64 = bytes([10 << 3 | 1]) + b"12345678"
    read = grpc_messages.read_outcome(reply.SerializeToString() + later + fixed64)
    assert read == Outcome(200, "OK", "")


def test_a_field_of_another_type_counts_as_unknown() -> None:
    assert grpc_messages.read_outcome(grpc_messages.sized(1, b"200")) == Outcome(0, "", "")
    assert grpc_messages.read_outcome(b"\x0d\x07\0\0\0") == Outcome(0, "", "")
    assert grpc_messages.read_outcome(b"\x10\x07") == Outcome(0, "", "")
    assert grpc_messages.read_outputs(b"\x20\x07") == []
    odd = grpc_messages.sized(
        4, b"\x08\x01" + grpc_messages.sized(2, b"x") + grpc_messages.sized(1, b"\x08\x01")
    )
    assert grpc_messages.read_outputs(odd) == [Output({"": b""}, is_success=False)]


BROKEN = [
    b"\x08",
    b"\x08" + b"\xff" * 11,
    b"\x0a\x05abc",
    b"\x00\x01",
    b"\x0b",
    b"\x0d123",
    b"\x12\x01\xff",
    b"HTTP/1.1 200 OK",
]


@pytest.mark.parametrize("reply", BROKEN)
def test_what_is_no_message_is_refused(reply: bytes) -> None:
    with pytest.raises(Malformed):
        grpc_messages.read_outcome(reply)
    with pytest.raises(DecodeError):
        MESSAGES["RunResponse"].FromString(reply)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_the_library_reads_them_or_refused(reply: bytes) -> None:
    try:
        ours: Any = grpc_messages.read_outcome(reply), grpc_messages.read_outputs(reply)
    except Malformed:
        return
    theirs = MESSAGES["RunResponse"].FromString(reply)
    assert ours[0] == Outcome(theirs.status_code, theirs.status, theirs.message)
    assert ours[1] == [Output(dict(item.output), item.success) for item in theirs.outputs]
