"""§3 and §4: delivering an image by a link to its registry, and polling."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from pipeline.settings import Settings
from tests.support.archives.image_delivery import push_index
from tests.support.archives.images import busybox_image
from tests.support.models.models_door import Door

OBJECT = {
    "uploadStatus",
    "loadStatus",
    "uploadPercentage",
    "loadPercentage",
    "containerImageSize",
    "registryHost",
    "repositoryNamespace",
    "imagePrefix",
    "repositoryName",
    "percentage",
    "step",
    "stepName",
    "status",
    "technicalInformation",
}
UPLOADING = "Uploading container image"


async def test_a_link_is_accepted_and_then_looked_at(door: Door, linked: str) -> None:
    made = await door.create("classifier")
    accepted = await made.link(linked)
    assert set(accepted) == OBJECT
    assert accepted["status"] == "uploading"
    assert accepted["uploadStatus"] == accepted["stepName"] == UPLOADING
    assert (accepted["step"], accepted["percentage"], accepted["loadPercentage"]) == (0, 0, 0)
    settled = (await made.settled()).json()
    assert settled["status"] == "uploaded"
    assert (settled["percentage"], settled["uploadPercentage"]) == (100, 100)
    assert settled["loadStatus"] == f"0: {UPLOADING} (0%)"
    assert settled["containerImageSize"] == busybox_image().size_bytes
    assert settled["registryHost"] == linked.partition("/")[0]
    assert settled["imagePrefix"] == "models/location"
    assert settled["repositoryNamespace"] == "models"
    assert settled["repositoryName"] == "classifier"
    assert settled["technicalInformation"] is None
    assert (await made.get())["containerImage"] == settled


async def test_a_link_may_be_the_address_of_a_manifest(door: Door) -> None:
    made = await door.create()
    shown = await made.link("https://registry.hub.docker.com/v2/library/nginx/manifests/latest")
    assert (shown["registryHost"], shown["imagePrefix"], shown["repositoryName"]) == (
        "registry-1.docker.io",
        "library",
        "nginx",
    )


@pytest.mark.parametrize(
    "registry",
    [
        {"url": "Not A Reference"},
        {"url": "http://r.example/v2/a/manifests/1"},
        {"url": ""},
        {"url": 7},
        {},
        None,
        {"url": "r.example/a:1", "username": "only"},
        {"url": "r.example/a:1", "password": "only-the-password"},
    ],
)
async def test_a_malformed_link_is_refused_at_once(door: Door, registry: Any) -> None:
    made = await door.create()
    answer = await made.call("POST", "container-image", json={"registry": registry})
    assert answer.status_code == 422
    assert (await made.call("GET", "container-image")).status_code == 404


async def test_a_password_in_the_url_is_not_repeated(door: Door) -> None:
    made = await door.create()
    for url in ("https://joe:hunter2@r.example/v2/a/manifests/1", "joe:hunter2@r.example/a:1"):
        answer = await made.call("POST", "container-image", json={"registry": {"url": url}})
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


async def test_anything_but_json_or_a_tar_is_415(door: Door) -> None:
    made = await door.create()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/zip"):
        answer = await made.call(
            "POST", "container-image", content=b"x", headers={"Content-Type": kind}
        )
        assert answer.status_code == 415
    assert (await made.call("POST", "container-image")).status_code == 415


async def test_before_any_delivery_there_is_no_object(door: Door) -> None:
    answer = await (await door.create()).call("GET", "container-image")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_image_that_is_absent_fails_the_delivery(door: Door, registry_host: str) -> None:
    made = await door.create()
    await made.link(f"{registry_host}/no/such:1")
    answer = await made.settled()
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "manifest_not_found")
    shown = body["containerImage"]
    assert (shown["status"], shown["percentage"], shown["stepName"]) == ("failed", 0, UPLOADING)
    assert shown["technicalInformation"] == body["technicalInformation"]
    assert (await made.get())["containerImage"]["status"] == "failed"


def test_callers_hear_within_30_s_that_a_registry_cannot_be_reached() -> None:
    assert Settings().link_timeout_s < 30


async def test_a_registry_that_refuses_connections_fails_the_delivery(door: Door) -> None:
    made = await door.create()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await made.link(f"127.0.0.1:{closed.getsockname()[1]}/a:1")
        answer = await made.settled(seconds=8)
    assert (answer.status_code, answer.json()["code"]) == (422, "registry_unavailable")


async def test_a_registry_that_never_answers_fails_the_delivery(door: Door) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1")
    made = await door.create()
    async with server:
        await made.link(f"127.0.0.1:{server.sockets[0].getsockname()[1]}/a:1")
        answer = await made.settled(seconds=8)
    assert (answer.status_code, answer.json()["code"]) == (422, "registry_unavailable")


async def test_denied_says_neither_private_nor_absent(door: Door) -> None:
    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"\x16":  # a try with TLS
            writer.close()
            return
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    made = await door.create()
    async with await asyncio.start_server(deny, "127.0.0.1") as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await made.link(f"{host}/a:1", username="joe", password="hunter2-secret")
        answer = await made.settled()
    assert (answer.status_code, answer.json()["code"]) == (422, "registry_denied")
    assert "hunter2" not in answer.text


async def test_the_newest_delivery_wins(door: Door, registry_host: str, linked: str) -> None:
    made = await door.create()
    await made.link(f"{registry_host}/no/such:1")
    await made.settled()
    shown = await made.delivered(linked)
    assert (shown["status"], shown["percentage"]) == ("uploaded", 100)


async def test_an_image_of_another_platform_is_taken_in(door: Door, registry_host: str) -> None:
    arm, amd = (busybox_image(platform=name) for name in ("linux/arm64", "linux/amd64"))
    push_index({"linux/arm64": arm}, registry_host, "models/arm", "1")
    push_index({"linux/arm64": arm, "linux/amd64": amd}, registry_host, "models/both", "1")
    only_arm = await (await door.create()).delivered(f"{registry_host}/models/arm:1")
    assert only_arm["containerImageSize"] == arm.size_bytes
    both = await (await door.create()).delivered(f"{registry_host}/models/both:1")
    assert both["containerImageSize"] == amd.size_bytes
    made = await door.create()
    path = "container-image?platform=linux/arm64"
    link = {"registry": {"url": f"{registry_host}/models/both:1"}}
    assert (await made.call("POST", path, json=link)).status_code == 202
    assert (await made.settled()).json()["containerImageSize"] == arm.size_bytes
    refused = await made.call("POST", "container-image?platform=a/b/c/d", json=link)
    assert refused.status_code == 422


async def test_credentials_are_used_and_shown_nowhere(door: Door, linked: str) -> None:
    made = await door.create()
    await made.delivered(linked, username="joe", password="hunter2-secret")
    answers: list[httpx.Response] = [
        await made.call("GET"),
        await made.call("GET", "container-image"),
        await door.http.get("/yard/v1/images"),
    ]
    assert all("hunter2" not in answer.text for answer in answers)
