"""Contexts of builds, as they are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.archives.tars import Tar

BUSYBOX: Final = Path("/bin/busybox").read_bytes()


def context(dockerfile: str, *, path: str = "Dockerfile", **files: bytes) -> bytes:
    """A TAR; `__` in the name of a file is a slash."""
    with Tar() as tar:
        tar.add(path, dockerfile.encode())
        for name, content in files.items():
            tar.add(name.replace("__", "/"), content, mode=0o755)
    return tar.content


def shell(*steps: str, path: str = "Dockerfile") -> bytes:
    """A context of an image with a shell, and further steps."""
    begin = ["FROM scratch", "COPY busybox /bin/sh", *steps]
    return context("\n".join(begin), path=path, busybox=BUSYBOX)


def folder(at: Path, *steps: str) -> Path:
    """The same, as a folder."""
    at.mkdir()
    (at / "busybox").write_bytes(BUSYBOX)
    (at / "busybox").chmod(0o755)
    begin = ["FROM scratch", "COPY busybox /bin/sh", *steps]
    (at / "Dockerfile").write_text("\n".join(begin) + "\n")
    return at
