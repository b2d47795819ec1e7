"""§3 and §4: delivering an image as a TAR."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.archives.image_archives import docker_archive, oci_archive
from tests.support.archives.images import busybox_image
from tests.support.models.model_images import model_image
from tests.support.models.models_door import Door, Version
from tests.support.waiting import eventually

IMAGE = busybox_image(random_layers=(2_000_000,), seed=40)
ARCHIVE = docker_archive(IMAGE, "team/classifier:3")
TAR = {"Content-Type": "application/x-tar"}
PLACES = ("registryHost", "repositoryNamespace", "imagePrefix", "repositoryName")


async def send(made: Version, content: Any = ARCHIVE, **options: Any) -> httpx.Response:
    return await made.call("POST", "container-image", content=content, headers=TAR, **options)


class SlowSender:
    """Sends an archive in pieces, each when it is told to."""

    def __init__(self, archive: bytes, pieces: int = 10) -> None:
        size = -(-len(archive) // pieces)
        self._pieces = [archive[at : at + size] for at in range(0, len(archive), size)]
        self._allowed = asyncio.Semaphore(0)
        self.length = {"Content-Length": str(len(archive))} | TAR

    def allow(self, pieces: int) -> None:
        for _ in range(pieces):
            self._allowed.release()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await self._allowed.acquire()
            yield piece


BODIES: list[dict[str, Any]] = [
    {"content": ARCHIVE, "headers": TAR},
    {"content": ARCHIVE, "headers": {"Content-Type": "application/octet-stream"}},
    {"content": gzip.compress(ARCHIVE, 1), "headers": {"Content-Type": "application/gzip"}},
    {"content": gzip.compress(ARCHIVE, 1), "headers": TAR},
    {"files": {"file": ("image.tar", ARCHIVE)}},
    {"content": oci_archive(IMAGE), "headers": TAR},
]
NAMES = ["tar", "bytes", "gzip", "gzip called tar", "form", "oci"]


@pytest.mark.parametrize("body", BODIES, ids=NAMES)
async def test_an_archive_is_taken_in_whatever_its_form(door: Door, body: dict[str, Any]) -> None:
    made = await door.create("classifier", "1.0.0+build.2")
    answer = await made.call("POST", "container-image", **body)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["status"], shown["percentage"], shown["loadPercentage"]) == ("uploaded", 100, 0)
    assert all(shown[name] is None for name in PLACES)
    if "content" in body:
        assert shown["containerImageSize"] == len(body["content"])
    assert await made.get("container-image") == shown
    images = (await door.http.get("/yard/v1/images")).json()["items"]
    mine = [each["reference"] for each in images if made.identifier in each["reference"]]
    assert [each.partition("/")[2] for each in mine] == [f"models/{made.identifier}:1.0.0_build.2"]


async def test_an_archive_may_come_in_chunks(door: Door) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(ARCHIVE), 100_000):
            yield ARCHIVE[at : at + 100_000]

    answer = await send(await door.create(), pieces())
    assert answer.status_code == 201
    assert answer.json()["containerImageSize"] == len(ARCHIVE)


async def test_progress_is_seen_while_it_is_received(door: Door) -> None:
    made, sender = await door.create(), SlowSender(ARCHIVE)
    asked = asyncio.create_task(
        made.call("POST", "container-image", content=sender, headers=sender.length)
    )
    seen = []
    for expected in (20, 50, 80):
        sender.allow(3 if seen else 2)

        async def is_shown(least: int = expected) -> bool:
            answer = await made.call("GET", "container-image")
            if answer.status_code != 200:
                return False
            seen.append(answer.json())
            return bool(seen[-1]["percentage"] >= least)

        await eventually(is_shown)
    assert {each["status"] for each in seen} == {"uploading"}
    assert {each["stepName"] for each in seen} == {"Uploading container image"}
    percents = [each["percentage"] for each in seen]
    assert percents == sorted(percents)
    assert max(percents) <= 99
    assert 0 < seen[-1]["containerImageSize"] < len(ARCHIVE)
    sender.allow(10)
    assert (await asked).json()["percentage"] == 100


FAULTS = [
    (b"", 422, {"not_a_tar", "image_incomplete", "tar_truncated"}),
    (b"\x89PNG" + bytes(2000), 422, {"not_a_tar"}),
    (ARCHIVE[: len(ARCHIVE) // 2], 422, {"tar_truncated"}),
    (docker_archive(busybox_image(platform="linux/s390x"), "a:1"), 422, {"wrong_platform"}),
]


@pytest.mark.parametrize(("archive", "status", "codes"), FAULTS)
async def test_a_faulty_archive_leaves_nothing_but_the_reason(
    door: Door, archive: bytes, status: int, codes: set[str]
) -> None:
    made = await door.create()
    answer = await send(made, archive)
    assert answer.status_code == status
    assert answer.json()["code"] in codes
    polled = await made.call("GET", "container-image")
    assert (polled.status_code, polled.json()["code"]) == (422, answer.json()["code"])
    assert polled.json()["containerImage"]["status"] == "failed"
    assert polled.json()["message"] == answer.json()["message"]
    images = (await door.http.get("/yard/v1/images")).json()["items"]
    assert not [each for each in images if made.identifier in each["reference"]]


async def test_the_platform_asked_for_must_be_there(door: Door) -> None:
    answer = await send(await door.create(), params={"platform": "linux/arm64"})
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_platform")
    malformed = await send(await door.create(), params={"platform": "a/b/c/d"})
    assert malformed.status_code == 422


async def test_the_image_of_a_tag_may_be_chosen(door: Door) -> None:
    right = await send(await door.create(), params={"repoTag": "team/classifier:3"})
    assert right.status_code == 201
    wrong = await send(await door.create(), params={"repoTag": "team/other:1"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "image_ambiguous")
    assert "team/classifier:3" in wrong.text


async def test_a_size_that_is_too_large_is_refused_before_anything_is_read(door: Door) -> None:
    made = await door.create()
    address = door.http.base_url
    reader, writer = await asyncio.open_connection(address.host, address.port)
    path = f"/api/models/{made.identifier}/versions/{made.version}/container-image"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
        f"Authorization: {door.http.headers['Authorization']}\r\n"
        f"Content-Length: {2**50}\r\n\r\n"
    )
    writer.write(head.encode())
    status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 413 " in status
    writer.close()
    assert (await made.call("GET", "container-image")).status_code == 404


async def test_a_newer_delivery_ends_one_under_way_with_409(door: Door, linked: str) -> None:
    made, sender = await door.create(), SlowSender(ARCHIVE)
    older = asyncio.create_task(
        made.call("POST", "container-image", content=sender, headers=sender.length)
    )
    sender.allow(3)

    async def is_under_way() -> bool:
        answer = await made.call("GET", "container-image")
        return answer.status_code == 200 and answer.json()["percentage"] > 0

    await eventually(is_under_way)
    await made.delivered(linked)
    sender.allow(10)
    answer = await older
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    shown = await made.get("container-image")
    assert (shown["status"], shown["repositoryName"]) == ("uploaded", "classifier")


async def test_a_sender_who_vanishes_leaves_a_failure(door: Door) -> None:
    made, sender = await door.create(), SlowSender(ARCHIVE)
    asked = asyncio.create_task(
        made.call("POST", "container-image", content=sender, headers=sender.length)
    )
    sender.allow(3)

    async def is_under_way() -> bool:
        answer = await made.call("GET", "container-image")
        return answer.status_code == 200 and answer.json()["percentage"] > 0

    await eventually(is_under_way)
    asked.cancel()
    await asyncio.wait({asked})

    async def has_failed() -> bool:
        return (await made.call("GET", "container-image")).status_code == 422

    await eventually(has_failed)


async def test_what_came_as_an_archive_can_be_loaded(door: Door) -> None:
    made = await door.create()
    assert (await send(made, docker_archive(model_image(), "m:1"))).status_code == 201
    assert (await made.load()).status_code == 200
