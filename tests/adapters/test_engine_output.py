from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.engine_output import LogDecoder
from pipeline.ports import LogLine

STAMP = "2024-02-29T12:00:00.123456789Z"
STAMP_NS = 1_709_208_000_123_456_789


def frame(stream: int, text: bytes, stamp: str = STAMP) -> bytes:
    body = stamp.encode() + b" " + text
    return struct.pack(">BxxxL", stream, len(body)) + body


def decode(content: bytes, piece_bytes: int) -> list[LogLine]:
    decoder = LogDecoder()
    pieces = [content[i : i + piece_bytes] for i in range(0, len(content), piece_bytes)]
    lines = [line for piece in pieces for line in decoder.feed(piece)]
    return lines + list(decoder.finish())


@given(piece_bytes=st.integers(min_value=1, max_value=200))
def test_frames_are_found_in_any_cut(piece_bytes: int) -> None:
    lines = decode(frame(1, b"one\n") + frame(2, b"two\n") + frame(1, b"\n"), piece_bytes)
    assert [(line.stream, line.text) for line in lines] == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("stdout", "\n"),
    ]
    assert {line.time_ns for line in lines} == {STAMP_NS}


@given(piece_bytes=st.integers(min_value=1, max_value=200))
def test_a_terminal_has_no_frames(piece_bytes: int) -> None:
    content = f"{STAMP} one\r\n{STAMP} two words\r\n{STAMP} rest".encode()
    lines = decode(content, piece_bytes)
    assert [line.text for line in lines] == ["one\r\n", "two words\r\n", "rest"]
    assert {line.stream for line in lines} == {"stdout"}


def test_a_letter_that_is_cut_in_two_is_whole_again() -> None:
    first, second = "ä".encode()[:1], "ä".encode()[1:]
    content = frame(1, b"x" + first) + frame(2, b"\xff\n") + frame(1, second + b"\n")
    assert [line.text for line in decode(content, 64)] == ["x", "\ufffd\n", "ä\n"]


@pytest.mark.parametrize("text", [b"", b"no stamp here\n"])
def test_output_without_a_time_has_the_time_before_it(text: bytes) -> None:
    bare = struct.pack(">BxxxL", 1, len(text)) + text
    lines = decode(frame(1, b"one\n") + bare, 64)
    assert lines[1].text == text.decode()
    assert lines[1].time_ns == STAMP_NS


def test_a_terminal_that_never_ends_its_line_does_not_fill_the_memory() -> None:
    decoder = LogDecoder()
    held = [line for _ in range(40) for line in decoder.feed(STAMP.encode() + b" " * 16_384)]
    assert sum(len(line.text) for line in held) > 500_000


def test_an_empty_output_has_no_lines() -> None:
    assert decode(b"", 1) == []
