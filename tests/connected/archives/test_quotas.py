"""The quota of bytes of archives: where an upload begins, and where one of unknown length ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.connected.archives.conftest import pieces
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.http.api_process import ORG

IMAGES = "/yard/v1/images"
UPLOADS = "/yard/v1/uploads"
ARCHIVE = docker_archive(busybox_image(), "team/quota:1")
TAR = {"Content-Type": "application/x-tar"}


async def limit(http: httpx.AsyncClient, most: int | None) -> None:
    quotas = {"quotas": {"archive_bytes": most}}
    answer = await http.patch(f"/yard/v1/organisations/{ORG}", json=quotas)
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def used(http: httpx.AsyncClient) -> AsyncIterator[int]:
    """Bytes that others of this organisation left; no quota is left behind."""
    await limit(http, 0)
    refused = await http.post(IMAGES, content=ARCHIVE, headers=TAR)
    assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
    yield int(refused.json()["used"])
    await limit(http, None)


def tus(length: int) -> dict[str, str]:
    return {"Tus-Resumable": "1.0.0", "Upload-Length": str(length)}


async def test_an_archive_that_says_its_length_is_refused_before_its_first_byte(
    http: httpx.AsyncClient, used: int
) -> None:
    most = used + len(ARCHIVE)
    await limit(http, most - 1)
    refused = await http.post(IMAGES, content=ARCHIVE, headers=TAR)
    told = f"{used} of {most - 1} bytes of archives are in use, and this needs {len(ARCHIVE)} more."
    assert (refused.status_code, refused.json()["detail"]) == (409, told)
    assert (await http.post(UPLOADS, headers=tus(len(ARCHIVE)))).status_code == 409
    await limit(http, most)
    made = await http.post(IMAGES, content=ARCHIVE, headers=TAR)
    assert made.status_code == 201, made.text
    assert (await http.post(UPLOADS, headers=tus(1))).status_code == 409
    await http.delete(f"{IMAGES}/{made.json()['uuid']}")


async def test_uploads_that_begin_together_do_not_pass_together(
    http: httpx.AsyncClient, used: int
) -> None:
    await limit(http, used + 100)
    begun = await asyncio.gather(*(http.post(UPLOADS, headers=tus(60)) for _ in range(4)))
    assert sorted(each.status_code for each in begun) == [201, 409, 409, 409]
    (made,) = (each for each in begun if each.status_code == 201)
    given_up = await http.delete(made.headers["location"], headers=tus(0))
    assert given_up.status_code == 204
    again = await http.post(UPLOADS, headers=tus(60))
    assert again.status_code == 201
    await http.delete(again.headers["location"], headers=tus(0))


async def test_an_archive_of_unknown_length_is_measured_at_its_end(
    http: httpx.AsyncClient, used: int
) -> None:
    await limit(http, used + len(ARCHIVE) - 1)
    refused = await http.post(IMAGES, content=pieces(ARCHIVE), headers=TAR)
    assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
    found = await http.get(IMAGES, params={"name": "team/quota:1"})
    assert found.json()["items"] == []
    await limit(http, used + len(ARCHIVE))
    made = await http.post(IMAGES, content=pieces(ARCHIVE), headers=TAR)
    assert made.status_code == 201, made.text
    await http.delete(f"{IMAGES}/{made.json()['uuid']}")
