"""Archives that go into a container for a run, and come out of it."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.containers import file_archives
from pipeline.errors import InvalidInput


def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.TarFile(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: entry for entry in tar}


def archive_of(*made: tuple[str, bytes, bytes | str]) -> bytes:
    """Of name, type and content; of links the target."""
    packed = io.BytesIO()
    with tarfile.TarFile(fileobj=packed, mode="w") as tar:
        for name, kind, content in made:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if isinstance(content, str):
                entry.linkname = content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_inputs_lie_in_their_folder_and_anybody_may_write_beside_them() -> None:
    found = entries(file_archives.input_archive({"my input.json": b"{}", "ä": b"12345"}))
    assert list(found) == [
        "modelyard",
        "modelyard/input",
        "modelyard/input/my input.json",
        "modelyard/input/ä",
        "modelyard/output",
    ]
    assert found["modelyard/output"].mode == 0o777
    assert found["modelyard/input"].mode == 0o755
    assert found["modelyard/input/ä"].size == 5


@given(st.dictionaries(st.text("abcäé .-_", min_size=1, max_size=200), st.binary(max_size=2000)))
def test_what_goes_in_could_come_out_again(files: dict[str, bytes]) -> None:
    packed = file_archives.input_archive(files)
    with tarfile.TarFile(fileobj=io.BytesIO(packed)) as tar:
        for name, content in files.items():
            member = tar.extractfile(f"modelyard/input/{name}")
            assert member is not None
            assert member.read() == content


def test_only_the_named_files_at_the_top_are_read() -> None:
    archive = archive_of(
        ("output", tarfile.DIRTYPE, b""),
        ("output/results.json", tarfile.REGTYPE, b"{}"),
        ("output/other", tarfile.REGTYPE, b"x"),
        ("output/deep/results.json", tarfile.REGTYPE, b"[]"),
        ("output/empty", tarfile.REGTYPE, b""),
    )
    names = {"results.json", "empty", "missing"}
    assert file_archives.read_outputs(archive, names) == {"results.json": b"{}", "empty": b""}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_no_output(kind: bytes) -> None:
    archive = archive_of(("output/results.json", kind, "/etc/passwd"))
    assert file_archives.read_outputs(archive, {"results.json"}) == {}


def test_of_a_file_that_comes_twice_the_last_one_counts() -> None:
    archive = archive_of(("output/a", tarfile.REGTYPE, b"1"), ("output/a", tarfile.REGTYPE, b"2"))
    assert file_archives.read_outputs(archive, {"a"}) == {"a": b"2"}


@pytest.mark.parametrize("archive", [b"", b"hello", b"\0" * 100, b"x" * 2048])
def test_what_is_no_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(InvalidInput, match="cannot be read as an archive"):
        file_archives.read_outputs(archive, {"a"})


def test_an_archive_that_ends_early_is_refused() -> None:
    whole = archive_of(("output/a", tarfile.REGTYPE, b"1" * 5000))
    with pytest.raises(InvalidInput):
        file_archives.read_outputs(whole[:2000], {"a"})


@given(st.binary(max_size=3000))
def test_no_bytes_make_it_fail_in_another_way(junk: bytes) -> None:
    try:
        found = file_archives.read_outputs(junk, {"a"})
    except InvalidInput:
        return
    assert found == {}
