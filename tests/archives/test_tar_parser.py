from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archives.tar_parser import Data, Entry, FileEnd, Kind, TarParser
from pipeline.errors import (
    ImageRejected,
    NotATar,
    TarDuplicateEntry,
    TarTruncated,
    TarUnsafeEntry,
    TarUnsafePath,
)

Member = tuple[str, bytes, bytes, str]
"""Name, type, content, link target."""


def a_tar(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for name, kind, content, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), link
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def a_file(name: str, content: bytes = b"x") -> Member:
    return (name, tarfile.REGTYPE, content, "")


def read(archive: bytes, sizes: Callable[[], int] = lambda: 65536) -> dict[str, bytes | str | None]:
    """Path → content of a file, target of a link, None for a folder."""
    parser, found, at = TarParser(), {}, 0
    current = ""
    content = bytearray()
    while at < len(archive):
        step = sizes()
        for event in parser.feed(archive[at : at + step]):
            if isinstance(event, Entry):
                current, content = event.path, bytearray()
                if event.kind is not Kind.FILE:
                    found[current] = event.target
            elif isinstance(event, Data):
                content += event.bytes
            elif event is FileEnd.END:
                found[current] = bytes(content)
        at += step
    parser.close()
    return found


def refused(error: type[ImageRejected], archive: bytes) -> None:
    with pytest.raises(error) as raised:
        read(archive)
    assert raised.value.message


NAMES = st.lists(st.text("abcé_", min_size=1, max_size=90), min_size=1, max_size=4).map("/".join)


@given(
    st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.data(),
)
@settings(deadline=None)
def test_what_tarfile_writes_is_read_back_whatever_the_chunks(
    files: dict[str, bytes], format: int, data: st.DataObject
) -> None:
    archive = a_tar(*(a_file(*item) for item in files.items()), format=format)
    size = data.draw(st.sampled_from([1, 7, 511, 512, 513, 4096, 100_000]))
    assert read(archive, lambda: size) == files


def test_links_that_stay_inside_are_followed_to_their_target() -> None:
    archive = a_tar(
        a_file("layers/1.tar"),
        ("id/layer.tar", tarfile.SYMTYPE, b"", "../layers/1.tar"),
        ("id/hard.tar", tarfile.LNKTYPE, b"", "layers/1.tar"),
    )
    assert read(archive) == {
        "layers/1.tar": b"x",
        "id/layer.tar": "layers/1.tar",
        "id/hard.tar": "layers/1.tar",
    }


def test_the_same_folder_twice_is_no_fault() -> None:
    folder = ("d/", tarfile.DIRTYPE, b"", "")
    assert read(a_tar(folder, folder, a_file("d/f"))) == {"d": None, "d/f": b"x"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "/etc/passwd", "a/../b"])
def test_a_path_that_leaves_the_archive_is_refused(name: str) -> None:
    refused(TarUnsafePath, a_tar(a_file(name)))


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("a/l", tarfile.SYMTYPE, "../../x"),
        ("l", tarfile.SYMTYPE, "/etc/passwd"),
        ("l", tarfile.LNKTYPE, "../x"),
        ("a/l", tarfile.LNKTYPE, "../x"),
        ("l", tarfile.SYMTYPE, ""),
    ],
)
def test_a_link_that_leaves_the_archive_is_refused(name: str, kind: bytes, target: str) -> None:
    refused(TarUnsafePath, a_tar((name, kind, b"", target)))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z", b"S"])
def test_devices_fifos_and_unknown_kinds_are_refused(kind: bytes) -> None:
    refused(TarUnsafeEntry, a_tar(("dev", kind, b"", "")))


@pytest.mark.parametrize("again", ["f", "./f", ".//f", "f/"])
def test_the_same_path_twice_is_refused_however_it_is_spelt(again: str) -> None:
    refused(TarDuplicateEntry, a_tar(a_file("f"), a_file(again)))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"hello", b"\0" * 10240, b"\xff" * 2048])
def test_what_is_no_tar_is_called_so(content: bytes) -> None:
    refused(NotATar, content)


def test_an_archive_cut_inside_an_entry_is_truncated() -> None:
    archive = a_tar(a_file("a", b"1" * 700), a_file("b", b"2" * 10))
    between = range(512 + 700, 512 + 1024 + 1)
    for cut in range(1, len(archive.rstrip(b"\0"))):
        if cut not in between:
            refused(TarTruncated if cut >= 512 else ImageRejected, archive[:cut])


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_end_mark_and_the_last_padding_may_be_missing(format: int) -> None:
    archive = a_tar(a_file("a", b"1" * 700), a_file("é" * 120, b"2" * 10), format=format)
    whole, end = read(archive), len(archive.rstrip(b"\0"))
    for cut in (end, end + 1, -(-end // 512) * 512, -(-end // 512) * 512 + 100, len(archive)):
        assert read(archive[:cut]) == whole
    headers = archive[: archive.index("é".encode())]
    refused(TarTruncated, archive[: len(headers) // 512 * 512 + 512])


def test_whether_an_archive_said_that_it_is_over_is_known() -> None:
    archive = a_tar(a_file("a", b"1"))
    for content, has_end in ((archive[:1536], True), (archive[:1024], False)):
        parser = TarParser()
        list(parser.feed(content))
        parser.close()
        assert parser.has_end is has_end


def mutations(archive: bytes) -> Iterable[bytes]:
    for at in range(0, len(archive), 13):
        yield archive[:at] + bytes([archive[at] ^ 0xFF]) + archive[at + 1 :]


def test_a_damaged_archive_is_read_or_refused_and_nothing_else() -> None:
    archive = a_tar(
        a_file("é" * 120, b"content"), ("l", tarfile.SYMTYPE, b"", "x"), format=tarfile.GNU_FORMAT
    )
    for damaged in mutations(archive):
        with suppress(ImageRejected):
            read(damaged)


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused_and_nothing_else(content: bytes) -> None:
    with suppress(ImageRejected):
        read(content)
