"""How output is cut into chunks."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.engine.shapes import at
from pipeline.logs.chunking import CHUNK_BYTES, SLACK_NS, Chunker
from pipeline.logs.chunks import LogPositions, SentChunk
from pipeline.ports import LogLine

T0 = 1_800_000_000 * 10**9
SECOND = 10**9


def line(text: str, ns: int = 0, to: Literal["stdout", "stderr"] = "stdout") -> LogLine:
    return LogLine(to, at(T0 + ns), T0 + ns, text)


def a_chunker(positions: LogPositions | None = None) -> Chunker:
    return Chunker("c1", "engine-1", positions or {})


def ends_of(chunks: list[SentChunk]) -> LogPositions:
    return {chunk.stream: chunk.end for chunk in chunks}


def test_lines_of_one_second_are_one_chunk_with_the_time_of_its_first_byte() -> None:
    chunker = a_chunker()
    assert not chunker.feed(line("a\n"), 0)
    assert not chunker.feed(line("b\n", SECOND - 1), 0.9)
    (closed,) = chunker.feed(line("c\n", SECOND), 1)
    assert (closed.text, closed.begin.time_ns) == ("a\nb\n", T0)
    assert [chunk.text for chunk in chunker.close()] == ["c\n"]


def test_a_chunk_closes_after_a_second_though_nothing_more_comes() -> None:
    chunker = a_chunker()
    chunker.feed(line("a\n"), 10)
    assert not chunker.due(10.9)
    assert [chunk.text for chunk in chunker.due(11)] == ["a\n"]
    assert not chunker.is_open


def test_streams_are_chunks_of_their_own() -> None:
    chunker = a_chunker()
    chunker.feed(line("out\n"), 0)
    chunker.feed(line("err\n", 1, "stderr"), 0)
    assert {c.stream: c.text for c in chunker.close()} == {"stdout": "out\n", "stderr": "err\n"}


@pytest.mark.parametrize("text", ["x" * 40_000, "é" * 20_000, "a" + "語" * 9_000, "🙂" * 5_000])
def test_megabytes_without_a_newline_are_cut_at_8_kib_between_characters(text: str) -> None:
    chunker = a_chunker()
    chunks = [*chunker.feed(line(text), 0), *chunker.feed(line("\n"), 0), *chunker.close()]
    assert "".join(chunk.text for chunk in chunks) == text + "\n"
    sizes = [len(chunk.text.encode()) for chunk in chunks]
    assert max(sizes) <= CHUNK_BYTES
    assert min(sizes[:-1]) > CHUNK_BYTES - 4
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert [chunk.begin.key for chunk in chunks[1:]] == [chunk.end.key for chunk in chunks[:-1]]


def test_control_characters_are_dropped_but_tab_and_newline() -> None:
    chunker = a_chunker()
    chunker.feed(line("\x1b[31mred\x1b[0m\r\n\ttab\x00\x7f\x9b\ufffd\n"), 0)
    assert [chunk.text for chunk in chunker.close()] == ["[31mred[0m\n\ttab\ufffd\n"]


def test_what_is_read_once_more_is_passed_over_to_the_byte() -> None:
    first = a_chunker()
    lines = [line("a" * 10_000), line("b\n"), line("c\n", 5), line("e\n", 5, "stderr")]
    sent = first.feed(lines[0], 0)
    assert [len(chunk.text) for chunk in sent] == [CHUNK_BYTES]
    again = a_chunker(ends_of(sent))
    assert again.since_ns == T0 - SLACK_NS
    rest = [chunk for each in lines for chunk in again.feed(each, 0)] + again.close()
    joined = "".join(chunk.text for chunk in [*sent, *rest] if chunk.stream == "stdout")
    assert joined == "a" * 10_000 + "b\nc\n"
    assert [chunk.text for chunk in rest if chunk.stream == "stderr"] == ["e\n"]


def test_a_stream_that_was_stamped_before_what_came_first_is_not_lost() -> None:
    first = a_chunker()
    first.feed(line("later\n", 6, "stderr"), 0)
    again = a_chunker(ends_of(first.close()))
    assert again.since_ns is not None
    assert again.since_ns <= T0 + 5
    again.feed(line("later\n", 6, "stderr"), 0)
    again.feed(line("earlier\n", 5), 0)
    assert [chunk.text for chunk in again.close()] == ["earlier\n"]


LINES = st.lists(
    st.tuples(
        st.sampled_from(["a\n", "é" * 3000, "語\t" * 2000, "b" * 9000]),
        st.sampled_from([0, 0, 1, SECOND // 2, 2 * SECOND]),
        st.sampled_from(["stdout", "stderr"]),
    ),
    max_size=12,
)


@given(LINES, st.integers(0, 30), st.integers(0, 12))
def test_wherever_it_is_cut_each_byte_is_told_once(
    parts: list[tuple[str, int, Literal["stdout", "stderr"]]], kept: int, cut: int
) -> None:
    lines, ns = [], 0
    for text, pause_ns, to in parts:
        ns += pause_ns
        lines.append(line(text, ns, to))
    first = a_chunker()
    sent = [chunk for each in lines[:cut] for chunk in first.feed(each, 0)][:kept]
    again = a_chunker(ends_of(sent))
    since_ns = again.since_ns or 0
    replayed = [each for each in lines if each.time_ns >= since_ns]
    rest = [chunk for each in replayed for chunk in again.feed(each, 0)] + again.close()
    for name in ("stdout", "stderr"):
        told = "".join(chunk.text for chunk in [*sent, *rest] if chunk.stream == name)
        assert told == "".join(each.text for each in lines if each.stream == name)
    assert len({chunk.id for chunk in [*sent, *rest]}) == len(sent) + len(rest)
