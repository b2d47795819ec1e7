"""Archives too large for memory: layers of noise, which nothing compresses."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

from tests.support.archives.images import canonical

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1024 * 1024


def write_large_archive(
    path: Path, size: int, *, layers: int = 4, tag: str = "bench/large:1"
) -> None:
    """What `docker save` wrote before version 25, with `size` bytes in its layers together."""
    diff_ids, names = [], []
    with path.open("wb") as file:
        for number in range(layers):
            name = f"{hashlib.sha256(f'{tag}/{number}'.encode()).hexdigest()}/layer.tar"
            diff_ids.append(_write_layer(file, name, size // layers))
            names.append(name)
        config = canonical(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/none"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        )
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        listing = canonical([{"Config": config_name, "RepoTags": [tag], "Layers": names}])
        for name, content in ((config_name, config), ("manifest.json", listing)):
            file.write(_header(name, len(content)) + content + bytes(-len(content) % BLOCK))
        file.write(bytes(2 * BLOCK))


def _write_layer(file: io.BufferedWriter, name: str, size: int) -> str:
    """A layer with one file of noise; returns its digest."""
    inner = size // BLOCK * BLOCK
    digest = hashlib.sha256()
    file.write(_header(name, inner + 3 * BLOCK))
    for piece in (_header("noise", inner), None, bytes(2 * BLOCK)):
        if piece is not None:
            digest.update(piece)
            file.write(piece)
            continue
        left = inner
        while left:
            noise = os.urandom(min(CHUNK, left))
            digest.update(noise)
            file.write(noise)
            left -= len(noise)
    return f"sha256:{digest.hexdigest()}"


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)
