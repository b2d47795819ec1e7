"""What clients of tus send besides the plain protocol."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.support.http.tus import TUS, UPLOADS


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize(
    "value",
    [encoded(b"x" * 600), encoded(b"one\ntwo"), encoded(bytes(range(200, 232))), "!not base64", ""],
)
async def test_metadata_that_nobody_here_knows_are_left_alone(
    http: httpx.AsyncClient, value: str
) -> None:
    given = f"filename {encoded(b'a.tar')}, x-note {value},is_confidential"
    headers = TUS | {"Upload-Length": "5", "Upload-Metadata": given}
    created = await http.post(UPLOADS, headers=headers)
    assert created.status_code == 201, created.text
    head = await http.head(created.headers["location"], headers=TUS)
    assert head.headers["upload-metadata"] == given


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Concat": "partial", "Upload-Length": "5"},
        {"Upload-Concat": "final;/yard/v1/uploads/a /yard/v1/uploads/b"},
        {"Upload-Defer-Length": "1"},
    ],
)
async def test_what_is_not_spoken_of_tus_is_refused_in_words(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await http.post(UPLOADS, headers=TUS | headers)
    assert answer.status_code == 400
    assert "Upload-Length" in answer.json()["detail"]
    assert answer.headers["tus-resumable"] == "1.0.0"


async def test_methods_that_a_network_lets_not_through_come_in_a_post(
    http: httpx.AsyncClient,
) -> None:
    def as_(method: str) -> dict[str, str]:
        return TUS | {"X-HTTP-Method-Override": method}

    created = await http.post(f"{UPLOADS}/", headers=TUS | {"Upload-Length": "5"})
    place = created.headers["location"]
    octets = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    sent = await http.post(place, content=b"abc", headers=as_("PATCH") | octets)
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "3")
    head = await http.post(f"{place}/", headers=as_("HEAD"))
    assert (head.status_code, head.headers["upload-offset"]) == (200, "3")
    assert (await http.get(place, headers=as_("DELETE"))).status_code == 200
    assert (await http.post(place, headers=as_("DELETE"))).status_code == 204
    assert (await http.head(place, headers=TUS)).status_code == 410
    assert (await http.post("/yard/v1/images", headers=as_("DELETE"))).status_code == 415
