"""Tiny images on their way into a registry or an engine."""

from __future__ import annotations

from collections.abc import Mapping

import docker
import httpx

from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import (
    MEDIA_TYPES,
    Media,
    TinyImage,
    canonical,
    descriptor,
    sha256,
)


def push(
    image: TinyImage, registry: str, repository: str, tag: str, *, media: Media = "oci"
) -> str:
    """Puts it into the registry at `host:port` over plain HTTP; returns the manifest's digest."""
    with httpx.Client(base_url=f"http://{registry}/v2/{repository}/", timeout=30) as http:
        for digest, blob in image.blobs.items():
            _push_blob(http, digest, blob)
        content = image.manifest(media)
        kind = {"Content-Type": MEDIA_TYPES[media]["manifest"]}
        http.put(f"manifests/{tag}", content=content, headers=kind).raise_for_status()
        return sha256(content)


def _push_blob(http: httpx.Client, digest: str, blob: bytes) -> None:
    if http.head(f"blobs/{digest}").status_code == 200:
        return
    begun = http.post("blobs/uploads/").raise_for_status()
    where = begun.url.join(begun.headers["Location"]).copy_merge_params({"digest": digest})
    http.put(
        where, content=blob, headers={"Content-Type": "application/octet-stream"}
    ).raise_for_status()


def push_index(images: Mapping[str, TinyImage], registry: str, repository: str, tag: str) -> str:
    """An image index of several platforms (`linux/arm64` → image); returns its digest."""
    entries = []
    for platform, image in images.items():
        push(image, registry, repository, f"{tag}-{platform.replace('/', '-')}")
        os, architecture = platform.split("/")[:2]
        entry = descriptor(MEDIA_TYPES["oci"]["manifest"], image.manifest())
        entries.append(entry | {"platform": {"os": os, "architecture": architecture}})
    kind = "application/vnd.oci.image.index.v1+json"
    content = canonical({"schemaVersion": 2, "mediaType": kind, "manifests": entries})
    address = f"http://{registry}/v2/{repository}/manifests/{tag}"
    httpx.put(address, content=content, headers={"Content-Type": kind}).raise_for_status()
    return sha256(content)


def load(image: TinyImage, docker_host: str, tag: str) -> str:
    """Into the engine as `tag` (`name:tag`); returns the image id."""
    client = docker.APIClient(base_url=docker_host, version="auto", timeout=60)
    try:
        for answer in client.load_image(docker_archive(image, tag)):
            if "error" in answer:
                raise RuntimeError(answer["error"])
        return str(client.inspect_image(tag)["Id"])
    finally:
        client.close()
