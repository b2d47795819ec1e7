"""What goes into a container for a run and what comes out of it, as TAR archives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Mapping
from typing import Final

from pipeline.errors import InvalidInput

ROOT: Final = "modelyard"
INPUT: Final = f"/{ROOT}/input"
OUTPUT: Final = f"/{ROOT}/output"
"""Folders of a run inside the container."""

_ANYBODY_WRITES = 0o777
_ANYBODY_READS = 0o755


def input_archive(files: Mapping[str, bytes]) -> bytes:
    """To unpack at `/`: the inputs by name, and an empty folder for the outputs.

    The folder is open to everybody, because a model may run as any user.
    """
    packed = io.BytesIO()
    with tarfile.TarFile(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder, mode in ((ROOT, _ANYBODY_READS), (INPUT[1:], _ANYBODY_READS)):
            tar.addfile(_folder(folder, mode))
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{INPUT[1:]}/{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
        tar.addfile(_folder(OUTPUT[1:], _ANYBODY_WRITES))
    return packed.getvalue()


def read_outputs(archive: bytes, names: Collection[str]) -> dict[str, bytes]:
    """The named files at the top of an archived output folder; others are passed over.

    Raises InvalidInput for what is no archive. Links are not followed.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.TarFile(fileobj=io.BytesIO(archive), mode="r") as tar:
            for entry in tar:
                _, _, name = entry.name.rstrip("/").partition("/")
                content = tar.extractfile(entry) if name in names and entry.isreg() else None
                if content is not None:
                    found[name] = content.read()
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise InvalidInput("What the container wrote cannot be read as an archive.") from error
    return found


def _folder(path: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry
