from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, FastAPI, Request
from httpx import AsyncClient
from starlette.exceptions import HTTPException
from starlette.types import Message

from api.http.auth import OpenRoute
from api.http.bodies import RAW, archive_body, is_archive, streams_body
from pipeline.errors import MalformedRequest

JSON = {"content-type": "application/json"}


async def pieces(count: int, read: list[int]) -> AsyncIterator[bytes]:
    for number in range(count):
        read.append(number)
        yield b" " * 1024


async def test_a_declared_length_is_refused_before_anything_is_read(http: AsyncClient) -> None:
    read: list[int] = []
    answer = await http.post(
        "/yard/v1/images", content=pieces(9, read), headers={**JSON, "content-length": "9216"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["connection"] == "close"
    assert read == []


async def test_a_chunked_body_is_cut_off_where_it_crosses_the_line(http: AsyncClient) -> None:
    read: list[int] = []
    answer = await http.post("/yard/v1/images", content=pieces(100, read), headers=JSON)
    assert answer.status_code == 413
    assert len(read) <= 6


async def test_a_body_as_large_as_the_cap_is_read(http: AsyncClient) -> None:
    body = b'{"reference": "r.test/m:1"}'.ljust(4096)
    assert (await http.post("/yard/v1/images", content=body, headers=JSON)).status_code == 202


async def test_a_caller_who_hangs_up_within_his_body_is_no_fault_of_ours(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Message] = []
    came: list[Message] = [
        {"type": "http.request", "body": b'{"half": ', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return came.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/container_registries",
        "raw_path": b"/container_registries",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer admin")],
    }
    await app(scope, receive, send)
    assert (came, sent) == ([], [])
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("declared", [True, False])
async def test_an_endpoint_that_streams_its_body_has_no_cap(
    app: FastAPI, http: AsyncClient, declared: bool
) -> None:
    router = APIRouter(route_class=OpenRoute)

    @router.put("/upload")
    @streams_body
    async def upload(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    app.include_router(router)
    headers = {"content-length": "20480"} if declared else {}
    answer = await http.put("/upload", content=pieces(20, []), headers=headers)
    assert answer.json() == 20480


def request(content_type: str, body: bytes = b"") -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def read(sent: Request) -> bytes:
    return b"".join([bytes(piece) async for piece in archive_body(sent, silence_s=1).stream])


@pytest.mark.parametrize("kind", sorted(RAW))
async def test_an_archive_may_be_called_by_its_compression(kind: str) -> None:
    assert is_archive({"content-type": kind})
    assert await read(request(kind, b"archive")) == b"archive"


@pytest.mark.parametrize("boundary", ["b" * 257, "b" * 300, ""])
async def test_a_boundary_that_cannot_be_one_is_malformed(boundary: str) -> None:
    with pytest.raises(MalformedRequest):
        await read(request(f"multipart/form-data; boundary={boundary}", b"--b\r\n"))


def test_another_type_is_refused_with_those_that_are_taken() -> None:
    with pytest.raises(HTTPException, match="application/zstd"):
        archive_body(request("text/plain"), silence_s=1)


async def test_the_path_of_images_names_all_that_it_takes(http: AsyncClient) -> None:
    answer = await http.post("/yard/v1/images", content=b"x", headers={"content-type": "text/x"})
    assert answer.status_code == 415
    for kind in ("application/json", "application/x-tar", "multipart/form-data"):
        assert kind in answer.json()["detail"]
    answer = await http.post("/yard/v1/containers", content=b"x")
    assert answer.json()["detail"] == "Send the body as application/json."
