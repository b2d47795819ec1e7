"""`POST /yard/v1/images` with an archive: every form of body, the record and its events."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.images.service import DELETED
from tests.connected.archives.conftest import pieces
from tests.connected.archives.test_ingest import run
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image, prints
from tests.support.http.api_process import ORG, ApiProcess

IMAGES = "/yard/v1/images"
IMAGE = busybox_image(command=prints("hello"), random_layers=(4_000_000,), seed=21)
ARCHIVE = docker_archive(IMAGE, "team/hello:3")
RAW = (
    "application/x-tar",
    "application/octet-stream",
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
    "application/x-zstd",
)


@pytest.fixture
async def bus(api: ApiProcess) -> AsyncIterator[Bus]:
    async with Bus.open(api.settings.nats_url, name="test") as bus:
        yield bus


async def told(bus: Bus, uuid: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Kinds and data of the events of one image."""
    subject = f"yard.evt.{ORG}.image.{uuid}.>"
    batch = await bus.read_batch(topology.EVENTS.name, after=0, subject=subject)
    return [
        (topology.parse_event(message.subject).kind, json.loads(message.data))
        for message in batch.messages
    ]


@pytest.mark.parametrize("content_type", RAW)
async def test_an_archive_becomes_an_image_that_is_ready(
    http: httpx.AsyncClient, content_type: str, docker_host: str
) -> None:
    answer = await http.post(IMAGES, content=ARCHIVE, headers={"Content-Type": content_type})
    assert answer.status_code == 201, answer.text
    image = answer.json()
    assert answer.headers["location"] == f"{IMAGES}/{image['uuid']}"
    assert image["status"] == "READY"
    assert image["name"] == "team/hello:3"
    assert image["source"] == "archive"
    assert image["parts"]["repository"] == f"images/{ORG}/team/hello"
    assert image["upload"] == {
        "done_bytes": len(ARCHIVE),
        "total_bytes": len(ARCHIVE),
        "percentage": 100,
    }
    assert (await http.get(answer.headers["location"])).json() == image
    assert await run(docker_host, image["pinned"]) == "hello"


async def test_an_archive_may_come_in_chunks_without_a_length(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-tar"}
    answer = await http.post(IMAGES, content=pieces(ARCHIVE, 10_000), headers=headers)
    assert answer.status_code == 201, answer.text


async def test_a_boundary_that_is_too_long_is_refused(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={'b' * 300}"}
    answer = await http.post(IMAGES, content=b"--bbb", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("content", [ARCHIVE, gzip.compress(ARCHIVE, 1)], ids=["tar", "gzip"])
async def test_an_archive_may_be_the_file_of_a_form(
    http: httpx.AsyncClient, content: bytes
) -> None:
    form = {"files": {"file": ("image.tar", content)}, "data": {"note": "x", "more": "y" * 99}}
    answer = await http.post(IMAGES, **form)
    assert answer.status_code == 201, answer.text
    assert answer.json()["upload"]["done_bytes"] == len(content)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", 422),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"nonsense", 400),
        ("multipart/form-data; boundary=b", b"", 422),
        ("application/x-tar", b"", 422),
        ("text/plain", b"x", 415),
        ("application/zip", b"x", 415),
    ],
)
async def test_bodies_that_hold_no_archive_are_refused(
    http: httpx.AsyncClient, content_type: str, body: bytes, status: int
) -> None:
    answer = await http.post(IMAGES, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_form_that_ends_early_is_truncated(http: httpx.AsyncClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await http.post(IMAGES, content=head + ARCHIVE[:9999], headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (422, "tar_truncated")


async def test_the_image_is_called_as_it_is_asked_for(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        IMAGES,
        content=ARCHIVE,
        headers={"Content-Type": "application/x-tar"},
        params={"name": "my-model"},
    )
    image = answer.json()
    assert (image["name"], image["parts"]["tag"]) == ("my-model", "3")
    assert image["parts"]["repository"] == f"images/{ORG}/my-model"


async def test_a_repeat_with_the_same_key_gets_the_image_of_the_first_request(
    http: httpx.AsyncClient,
) -> None:
    headers = {"Content-Type": "application/x-tar", "Idempotency-Key": "archive-1"}
    first = await http.post(IMAGES, content=ARCHIVE, headers=headers)
    again = await http.post(IMAGES, content=ARCHIVE, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["uuid"] == first.json()["uuid"]


@pytest.mark.parametrize(
    "change",
    [{"params": {"name": "other"}}, {"params": {"platform": "linux/amd64"}}, {"content": b"short"}],
)
async def test_a_key_of_another_archive_is_refused(
    http: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    headers = {"Content-Type": "application/x-tar", "Idempotency-Key": "archive-2"}
    request = {"content": ARCHIVE, "headers": headers}
    assert (await http.post(IMAGES, **request)).status_code == 201
    answer = await http.post(IMAGES, **request | change)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_pushes_of_one_name_replace_each_other_but_no_image_by_reference(
    http: httpx.AsyncClient,
) -> None:
    push = {"content": ARCHIVE, "headers": {"Content-Type": "application/x-tar"}}
    for _ in range(2):
        assert (await http.post(IMAGES, **push, params={"name": "pushed"})).status_code == 201
    body = {"reference": "127.0.0.1:9/team/model:1", "name": "chosen"}
    chosen = (await http.post(IMAGES, json=body)).json()
    answer = await http.post(IMAGES, **push, params={"name": "chosen"})
    assert (answer.status_code, answer.json()["code"]) == (409, "already_exists")
    assert "delete it or choose another name" in answer.json()["detail"]
    await http.delete(f"{IMAGES}/{chosen['uuid']}")
    assert (await http.post(IMAGES, **push, params={"name": "chosen"})).status_code == 201


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 256])
async def test_a_name_that_cannot_be_shown_is_refused(http: httpx.AsyncClient, name: str) -> None:
    headers = {"Content-Type": "application/x-tar"}
    answer = await http.post(IMAGES, content=ARCHIVE, headers=headers, params={"name": name})
    assert answer.status_code == 422
    assert "name" in answer.text


async def test_percentages_are_told_as_bytes_arrive_and_never_fall(
    http: httpx.AsyncClient, bus: Bus
) -> None:
    halves: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        step = len(ARCHIVE) // 20 + 1
        for at in range(0, len(ARCHIVE), step):
            yield ARCHIVE[at : at + step]
            await asyncio.sleep(0.02)
            halves.extend(item["upload"]["percentage"] for item in await arriving(http, "slow"))

    headers = {"Content-Type": "application/x-tar", "Content-Length": str(len(ARCHIVE))}
    answer = await http.post(IMAGES, content=slowly(), headers=headers, params={"name": "slow"})
    events = await told(bus, answer.json()["uuid"])
    kinds = [kind for kind, _ in events]
    assert kinds[:2] == ["created", "upload.started"]
    assert kinds[-3:] == ["validating", "ready", "upload.completed"]
    seen = [data["progress"]["percentage"] for kind, data in events if kind == "upload.progressed"]
    assert len(seen) >= 3
    assert seen == sorted(set(seen))
    assert max(seen) <= 99
    assert halves == sorted(halves)
    assert max(halves) > 30


async def test_a_failure_is_told_with_its_code_and_the_record_is_gone(
    http: httpx.AsyncClient, bus: Bus
) -> None:
    headers = {"Content-Type": "application/x-tar", "Idempotency-Key": "will-fail"}
    await http.post(IMAGES, content=ARCHIVE[:100_000], headers=headers)
    from pipeline.records.idempotency import id_for

    uuid = id_for(ORG, "image", "will-fail")
    kinds = [kind for kind, _ in await told(bus, uuid)]
    assert kinds[-2:] == ["failed", "upload.failed"]
    assert dict(await told(bus, uuid))["upload.failed"]["code"] == "tar_truncated"
    assert (await http.get(f"{IMAGES}/{uuid}")).status_code == 404


async def test_deleting_an_image_while_it_arrives_ends_its_delivery(
    http: httpx.AsyncClient,
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield ARCHIVE[:1_000_000]
        deleted = False
        for at in range(1_000_000, len(ARCHIVE), 20_000):
            listed = await arriving(http, "unwanted")
            if listed and not deleted:
                answer = await http.delete(f"{IMAGES}/{listed[0]['uuid']}")
                deleted = answer.status_code == 200
            yield ARCHIVE[at : at + 20_000]

    headers = {"Content-Type": "application/x-tar", "Content-Length": str(len(ARCHIVE))}
    name = {"name": "unwanted"}
    answer = await http.post(IMAGES, content=endless(), headers=headers, params=name)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["detail"] == DELETED


async def arriving(http: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    """That of this test alone: what the one before it left may still be cleared."""
    listed = await http.get(IMAGES, params={"status": "UPLOADING", "name": name})
    return list(listed.json()["items"])


async def test_four_archives_at_once_become_four_images(http: httpx.AsyncClient) -> None:
    archives = [
        docker_archive(busybox_image(random_layers=(3_000_000,), seed=seed), f"many/m{seed}:1")
        for seed in range(4)
    ]
    headers = {"Content-Type": "application/x-tar"}
    answers = await asyncio.gather(
        *(http.post(IMAGES, content=archive, headers=headers) for archive in archives)
    )
    assert [answer.status_code for answer in answers] == [201] * 4
