"""Compressed streams from strangers: whole in every cut, refused when broken, never large."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import time
import tracemalloc

import pytest
from backports import zstd

from pipeline.archives.compression import (
    STEP,
    WINDOW_MAX,
    Compression,
    Opener,
    opener,
    sniff,
    sniff_archive,
)
from pipeline.errors import ArchiveBomb, TarTruncated

CONTENT = os.urandom(3000) + b"text " * 5000
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"noise"
HALVES = (CONTENT[:4000], CONTENT[4000:])
PACKED = {
    "gzip": gzip.compress(CONTENT),
    "gzip members": gzip.compress(CONTENT[:4000]) + gzip.compress(CONTENT[4000:]) + bytes(1024),
    "zstd": zstd.compress(CONTENT),
    "zstd frames": zstd.compress(CONTENT[:4000]) + SKIPPABLE + zstd.compress(CONTENT[4000:]),
    "zstd behind a skippable frame": SKIPPABLE + zstd.compress(CONTENT),
    "zstd with a checksum": zstd.compress(
        CONTENT, options={zstd.CompressionParameter.checksum_flag: 1}
    ),
    "xz": lzma.compress(CONTENT),
    "xz streams": bytes(8).join(map(lzma.compress, HALVES)) + bytes(4),
    "bzip2": bz2.compress(CONTENT),
    "bzip2 streams": bz2.compress(b"") + b"".join(map(bz2.compress, HALVES)),
}
ZEROS = 64 * 1024 * 1024


def stream_of(packed: bytes) -> Opener:
    found = opener(sniff_archive(packed))
    assert found is not None
    return found


def opened(packed: bytes, step: int) -> bytes:
    stream, found = stream_of(packed), bytearray()
    for at in range(0, len(packed), step):
        for piece in stream.feed(memoryview(packed)[at : at + step]):
            assert len(piece) <= STEP
            found += piece
    stream.close()
    return bytes(found)


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_stream_opens_the_same_in_pieces_of_every_size(packed: bytes, step: int) -> None:
    assert opened(packed, step) == CONTENT


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_stream_that_ends_early_is_broken(packed: bytes) -> None:
    with pytest.raises(TarTruncated):
        opened(packed.rstrip(b"\0")[:-1], 1000)


@pytest.mark.parametrize(
    "behind",
    [b"\0" * 512, b"x", b"noise" * 100, zstd.compress(b"x")[:-1]],
    ids=["zeros", "x", "noise", "cut"],
)
def test_what_follows_a_frame_of_zstd_is_a_frame(behind: bytes) -> None:
    with pytest.raises(TarTruncated):
        opened(PACKED["zstd"] + behind, 1000)


def test_a_wrong_checksum_is_broken() -> None:
    packed = bytearray(PACKED["zstd with a checksum"])
    packed[-1] ^= 1
    with pytest.raises(TarTruncated):
        opened(bytes(packed), 1000)


BOMBS = [zstd.compress, gzip.compress, lzma.compress, bz2.compress]


@pytest.mark.parametrize("pack", BOMBS, ids=["zstd", "gzip", "xz", "bzip2"])
def test_a_bomb_opens_in_bounded_steps(pack: object) -> None:
    assert callable(pack)
    bomb = pack(bytes(ZEROS))
    stream, count = stream_of(bomb), 0
    tracemalloc.start()
    for piece in stream.feed(bomb):
        assert len(piece) <= STEP
        count += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    stream.close()
    assert count == ZEROS
    # The dictionary of xz is as large again.
    assert peak < 16 * STEP


def test_a_window_that_is_too_large_is_refused() -> None:
    window = {zstd.CompressionParameter.window_log: WINDOW_MAX.bit_length()}
    compressor = zstd.ZstdCompressor(options=window)
    packed = compressor.compress(os.urandom(STEP)) + compressor.flush()
    with pytest.raises(TarTruncated):
        opened(packed, STEP)
    narrow = opener(Compression.ZSTD, window_max=STEP)
    assert narrow is not None
    with pytest.raises(TarTruncated):
        list(narrow.feed(PACKED["zstd"] + packed))


def test_an_xz_stream_that_takes_too_much_memory_is_refused_with_the_remedy() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 * 1024 * 1024}]
    with pytest.raises(ArchiveBomb, match="xz -9"):
        opened(lzma.compress(CONTENT, filters=filters), 1000)


def test_layers_are_told_by_what_registries_have_a_name_for() -> None:
    assert sniff(PACKED["xz"]) is sniff(PACKED["bzip2"]) is Compression.NONE
    assert sniff_archive(b"BZh9.txt" + bytes(504)) is Compression.NONE


EMPTY = {
    "zstd": zstd.compress(b""),
    "skippable": SKIPPABLE,
    "gzip": gzip.compress(b"", mtime=0),
    "xz": lzma.compress(b""),
    "bzip2": bz2.compress(b""),
}


@pytest.mark.parametrize("part", EMPTY.values(), ids=EMPTY)
def test_many_tiny_parts_cost_no_more_than_their_bytes(part: bytes) -> None:
    many = part * (1024 * 1024 // len(part))
    began = time.process_time()
    assert list(stream_of(part).feed(many)) == []
    assert time.process_time() - began < 5
