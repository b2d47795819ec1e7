from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api.server import protocol as api_server
from api.server.protocol import Server
from pipeline.records.idempotency import id_for
from schemas.states import ImageStatus
from tests.support.http.front import ORG, Front, bearer
from tests.support.http.serving import serving
from tests.support.http.sse import stream

Running = tuple[Server, str]


@pytest.fixture
async def running(app: FastAPI, fake: Front) -> AsyncIterator[Running]:
    fake.settings.api_port = 0
    async with serving(app, fake.settings) as running:
        yield running


async def test_a_stop_ends_streams_and_waits_and_finishes_the_rest(
    fake: Front, running: Running
) -> None:
    server, url = running
    uuid = id_for(ORG, "image", "k")
    async with AsyncClient(base_url=url, headers=bearer("admin"), timeout=30) as http:
        async with stream(http, "/yard/v1/events") as reader:
            await reader.frame()
            waiting = asyncio.create_task(
                http.post(
                    "/yard/v1/images",
                    params={"wait": 60},
                    json={"reference": "r.test/m:1"},
                    headers={"Idempotency-Key": "k"},
                )
            )
            await fake.images.until(uuid)
            server.should_exit = True
            assert (await reader.frame()).event == "bye"
            await reader.end()
        answer = await asyncio.wait_for(waiting, 30)
    assert (answer.status_code, answer.json()["status"]) == (202, ImageStatus.PENDING)


async def test_a_caller_that_takes_nothing_is_bounded_and_cut_off(
    fake: Front, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_server, "STALL_S", 0.2)
    _, url = running
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    head = "GET /yard/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer viewer\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    async with (
        AsyncClient(base_url=url, headers=bearer("viewer"), timeout=30) as http,
        stream(http, "/yard/v1/events") as quick,
    ):
        await quick.frame()
        assert fake.hub.readers == 2
        async with asyncio.timeout(20):
            while fake.hub.readers == 2:
                fake.log.happen(filler="x" * 200_000)
                await quick.events(1)
    assert fake.hub.readers <= 1
    writer.close()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"GET /api/models HTTP/1.1\r\nno header\r\n\r\n", b"application/json"),
        (b"GET /yard/v1/images HTTP/1.1\r\nno header\r\n\r\n", b"application/problem+json"),
        (b"\x16\x03\x01 what is this\r\n\r\n", b"application/problem+json"),
    ],
)
async def test_what_is_no_http_is_refused_in_the_shape_of_its_door(
    running: Running, line: bytes, kind: bytes
) -> None:
    _, url = running
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(line)
    answer = await asyncio.wait_for(reader.read(), 10)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: " + kind in head.split(b"\r\n")
    assert json.loads(body)["code"] == "malformed_request"
    writer.close()


async def test_settings_decide_where_it_listens(running: Running) -> None:
    server, url = running
    async with AsyncClient(base_url=url, timeout=30) as http:
        answer = await http.get("/healthz")
    assert answer.json() == {"status": "alive"}
    assert "server" not in answer.headers
    assert server.config.access_log is False
