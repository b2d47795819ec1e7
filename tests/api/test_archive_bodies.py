from __future__ import annotations

import pytest
from fastapi import Request
from httpx import AsyncClient
from starlette.exceptions import HTTPException

from api.archive_bodies import RAW, archive_body, is_archive
from pipeline.errors import MalformedRequest


def request(content_type: str, body: bytes = b"") -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def read(sent: Request) -> bytes:
    return b"".join([bytes(piece) async for piece in archive_body(sent, silence_s=1).stream])


@pytest.mark.parametrize("kind", sorted(RAW))
async def test_an_archive_may_be_called_by_its_compression(kind: str) -> None:
    assert is_archive(kind)
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
