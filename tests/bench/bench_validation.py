"""How many images the registry client looks at per second, against a loop of `skopeo inspect`.

    python -m tests.bench.bench_validation

skopeo keeps nothing between two runs, so its rate does not depend on which images the loop goes
through; ours does, since a client keeps what cannot change. Hence three rows. The first one gives
the client no more to go by than skopeo has: no repository, configuration or layer was seen before
(three requests per image, over kept connections). The last one is a loop over the same images, as
monitoring does: the registry confirms every tag (one request). skopeo reads manifest,
configuration and tags; the client reads manifest and configuration and asks for every layer.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvloop

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.registry.client import RegistryClient
from pipeline.oci import references
from pipeline.stack.pieces.registry import RegistryPiece
from tests.bench.rows import Row, keep
from tests.support.archives.images import MEDIA_TYPES, TinyImage, busybox_image
from tests.support.processes import any_free

IMAGES = 400
SKOPEO_RUNS = 60
CONCURRENCY = 16
TAGS_PER_REPOSITORY = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """Looks per second."""

    skopeo: float
    apart: float
    """Every image in a repository of its own: three requests each."""
    together: float
    """Many tags in few repositories, sharing a layer, as a team's models lie."""
    again: float
    """The same tags a second time."""

    def rows(self) -> list[Row]:
        named = [
            ("every image for the first time, each in a new repository", self.apart),
            (
                f"every image for the first time, {TAGS_PER_REPOSITORY} in a repository",
                self.together,
            ),
            ("a loop over the same images", self.again),
        ]
        return [self._row(what, rate) for what, rate in named]

    def _row(self, what: str, rate: float) -> Row:
        ratio = rate / self.skopeo
        baseline = f"skopeo inspect in a loop: {self.skopeo:.0f}/s"
        return Row(what, f"{rate:.0f}/s", baseline, ratio, "≥ 20", ratio >= 20)


async def measure(registry: str) -> Measured:
    """`registry` is `host:port` on plain HTTP; images are pushed to it first."""
    apart = [f"{registry}/bench-apart/r{number}:1" for number in range(IMAGES)]
    together = [
        f"{registry}/bench-together/r{number // TAGS_PER_REPOSITORY}:{number}"
        for number in range(IMAGES)
    ]
    await _push_all(apart + together)
    skopeo_before = await asyncio.to_thread(_skopeo_rate, apart[: SKOPEO_RUNS // 2])
    async with GuardedHttp.open(Rules(allow_local=True)) as http:
        rates = [await _rate(RegistryClient(http), apart) for _ in range(2)]
        client = RegistryClient(http)
        together_rate = await _rate(client, together)
        again_rate = await _rate(client, together)
    skopeo_after = await asyncio.to_thread(_skopeo_rate, apart[-SKOPEO_RUNS // 2 :])
    # The better of two: the machine may be busy with something else in either.
    return Measured(max(skopeo_before, skopeo_after), max(rates), together_rate, again_rate)


async def _rate(client: RegistryClient, images: Sequence[str]) -> float:
    left = iter([references.parse(image) for image in images])

    async def look() -> None:
        for image in left:
            await client.resolve(image)

    started = time.perf_counter()
    await asyncio.gather(*(look() for _ in range(CONCURRENCY)))
    return len(images) / (time.perf_counter() - started)


def _skopeo_rate(images: Sequence[str]) -> float:
    program = shutil.which("skopeo")
    if program is None:
        raise SystemExit("skopeo is not there to compare with: install the package skopeo.")
    started = time.perf_counter()
    for image in images:
        subprocess.run(
            [program, "inspect", "--tls-verify=false", f"docker://{image}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return len(images) / (time.perf_counter() - started)


async def _push_all(images: Sequence[str]) -> None:
    # One repository after the other within a worker: docker-registry loses a blob that two send
    # into the same repository at once.
    repositories: dict[str, list[tuple[int, str]]] = {}
    for number, image in enumerate(images):
        repositories.setdefault(image.rpartition(":")[0], []).append((number, image))
    left = iter(repositories.values())
    async with httpx.AsyncClient(timeout=60) as http:

        async def push() -> None:
            for repository in left:
                for number, image in repository:
                    await _push(http, image, busybox_image(labels={"number": str(number)}))

        await asyncio.gather(*(push() for _ in range(4)))


async def _push(http: httpx.AsyncClient, image: str, content: TinyImage) -> None:
    place = references.parse(image)
    base = f"http://{place.registry}/v2/{place.repository}"
    for digest, blob in content.blobs.items():
        if (await http.head(f"{base}/blobs/{digest}")).status_code == 200:
            continue
        begun = (await http.post(f"{base}/blobs/uploads/")).raise_for_status()
        where = begun.url.join(begun.headers["Location"]).copy_merge_params({"digest": digest})
        (await http.put(where, content=blob)).raise_for_status()
    kind = {"Content-Type": MEDIA_TYPES["oci"]["manifest"]}
    answer = await http.put(
        f"{base}/manifests/{place.tag}", content=content.manifest(), headers=kind
    )
    answer.raise_for_status()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        registry = RegistryPiece(Path(folder), port=any_free(random.Random()))
        await registry.start()
        try:
            keep("validation", (await measure(registry.host)).rows())
        finally:
            await registry.stop()


if __name__ == "__main__":
    uvloop.run(main())
