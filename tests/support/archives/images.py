"""Tiny real images around /bin/busybox, made in memory: no pull, no Dockerfile, no engine.

The same arguments always give the same bytes, so the same digests.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from tests.support.archives.tars import Tar

Media = Literal["oci", "docker"]

PORT = 8080
"""Where the default command listens."""

APPLETS = (
    "sh",
    "httpd",
    "sleep",
    "echo",
    "cat",
    "rm",
    "touch",
    "test",
    "kill",
    "seq",
    "head",
    "dd",
)

SERVE = (
    "sh",
    "-c",
    "trap 'exit 0' TERM INT; trap 'exit 3' USR1; "
    f"httpd -p {PORT} -h /www; echo listening on {PORT}; while :; do sleep 3600 & wait $!; done",
)
"""An HTTP server that answers GET / with `ok`, stops at once on SIGTERM, and offers
/cgi-bin/crash (exit code 3), /cgi-bin/sick and /cgi-bin/well (they flip HEALTHCHECK)."""

HEALTHCHECK: Mapping[str, Any] = {
    "Test": ["CMD", "test", "-f", "/healthy"],
    "Interval": 200_000_000,
    "Timeout": 2_000_000_000,
    "Retries": 1,
}
"""Healthy while /healthy exists (it does at first); durations in nanoseconds."""


def exits(code: int) -> tuple[str, ...]:
    """A command that ends at once with `code`."""
    return ("sh", "-c", f"exit {code}")


def prints(*lines: str, stderr: Sequence[str] = ()) -> tuple[str, ...]:
    """A command that prints `lines`, then `stderr` on the other stream, and ends with 0."""
    said = [f"echo '{line}'" for line in lines] + [f"echo '{line}' >&2" for line in stderr]
    return ("sh", "-c", "; ".join(said))


def eats_memory(size: int) -> tuple[str, ...]:
    """A command that touches `size` bytes of memory over and over until it is killed."""
    return ("dd", "if=/dev/zero", "of=/dev/null", f"bs={size}")


@dataclass(frozen=True, slots=True)
class Layer:
    tar: bytes
    blob: bytes
    """The tar as it lies in a registry: gzip."""

    @property
    def diff_id(self) -> str:
        return sha256(self.tar)

    @property
    def digest(self) -> str:
        return sha256(self.blob)


@dataclass(frozen=True)
class TinyImage:
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """What an engine calls it: the digest of its configuration."""
        return sha256(self.config)

    @property
    def size_bytes(self) -> int:
        """Configuration plus compressed layers."""
        return len(self.config) + sum(len(layer.blob) for layer in self.layers)

    def manifest(self, media: Media = "oci") -> bytes:
        names = MEDIA_TYPES[media]
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": names["manifest"],
                "config": descriptor(names["config"], self.config),
                "layers": [descriptor(names["layer"], layer.blob) for layer in self.layers],
            }
        )

    @cached_property
    def digest(self) -> str:
        """Of the OCI manifest."""
        return sha256(self.manifest())

    @property
    def blobs(self) -> dict[str, bytes]:
        """What a manifest refers to, by digest."""
        return {self.id: self.config} | {layer.digest: layer.blob for layer in self.layers}


MEDIA_TYPES: Mapping[Media, Mapping[str, str]] = {
    "oci": {
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "config": "application/vnd.oci.image.config.v1+json",
        "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    },
    "docker": {
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "config": "application/vnd.docker.container.image.v1+json",
        "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
}


def busybox_image(
    *,
    command: Sequence[str] = SERVE,
    entrypoint: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    ports: Sequence[int] = (PORT,),
    healthcheck: Mapping[str, Any] | None = None,
    platform: str = "linux/amd64",
    random_layers: Sequence[int] = (),
    seed: int = 0,
) -> TinyImage:
    """`random_layers`: sizes in bytes of further layers that do not compress.

    `seed` makes their content differ between images; the busybox layer is always the same one.
    """
    noise = (_random_layer(size, seed, index) for index, size in enumerate(random_layers))
    layers = (busybox_layer(), *noise)
    os, architecture, *variant = platform.split("/")
    config = {
        "architecture": architecture,
        "os": os,
        **({"variant": variant[0]} if variant else {}),
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "Env": [
                f"{name}={value}" for name, value in ({"PATH": "/bin"} | dict(env or {})).items()
            ],
            "Cmd": list(command),
            **({"Entrypoint": list(entrypoint)} if entrypoint else {}),
            **({"Healthcheck": dict(healthcheck)} if healthcheck else {}),
            "ExposedPorts": {f"{port}/tcp": {} for port in ports},
            "Labels": dict(labels or {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "test"} for _ in layers],
    }
    return TinyImage(canonical(config), layers)


@cache
def busybox_layer() -> Layer:
    scripts = {
        "crash": "kill -USR1 1",
        "sick": "rm -f /healthy",
        "well": "touch /healthy",
        "env": "cat /proc/1/environ",
    }
    with Tar() as tar:
        tar.add("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        for applet in APPLETS:
            tar.link(f"bin/{applet}", "busybox")
        tar.add("healthy", b"")
        tar.add("www/index.html", b"ok\n")
        for name, script in scripts.items():
            page = f"#!/bin/sh\necho 'Content-Type: text/plain'\necho\n{script}\n"
            tar.add(f"www/cgi-bin/{name}", page.encode(), mode=0o755)
    return _layer(tar.content)


def _random_layer(size: int, seed: int, index: int) -> Layer:
    noise = random.Random(f"{seed}/{index}/{size}").randbytes(size)
    with Tar() as tar:
        tar.add(f"noise/{seed}-{index}", noise)
    return _layer(tar.content, compresslevel=1)


def _layer(tar: bytes, compresslevel: int = 6) -> Layer:
    return Layer(tar, gzip.compress(tar, compresslevel=compresslevel, mtime=0))


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def bare(digest: str) -> str:
    return digest.partition(":")[2]
