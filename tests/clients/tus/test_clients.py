"""Unmodified clients of tus send images: `tus-js-client` and `tuspy`."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from tests.clients.tus.conftest import ARCHIVE, CHUNK, METADATA, sending
from tests.support.http.api_process import ApiProcess
from tests.support.http.tus import TUS, metadata
from tests.support.waiting import eventually

CHUNKS = -(-len(ARCHIVE) // CHUNK)


async def ready(http: httpx.AsyncClient, url: str) -> None:
    """The upload at `url` became an image, called as its metadata say."""
    path = httpx.URL(url).path
    head = await http.head(path, headers=TUS)
    assert sorted(head.headers["upload-metadata"].split(",")) == sorted(
        metadata(**METADATA).split(",")
    )

    async def has_ended() -> bool:
        return (await http.get(path)).json()["status"] in ("completed", "failed")

    await eventually(has_ended, timeout_s=30)
    view = (await http.get(path)).json()
    assert view["status"] == "completed", view
    digest = {"called": f"{METADATA['name']}@{view['image']['digest']}"}
    image = (await http.get("/yard/v1/images/find", params=digest)).json()
    assert (image["status"], image["name"]) == ("READY", METADATA["name"])


async def offset(http: httpx.AsyncClient, url: str) -> int:
    head = await http.head(httpx.URL(url).path, headers=TUS)
    assert head.status_code == 200, head.status_code
    return int(head.headers["upload-offset"])


async def test_tus_js_client_sends_in_pieces(
    api: ApiProcess, http: httpx.AsyncClient, token: str, archive: Path
) -> None:
    async with sending(api, token, archive) as script:
        said = await script.heard()
    assert said["how"] == "done", said
    assert said["methods"] == ["POST"] + ["PATCH"] * CHUNKS
    await ready(http, said["url"])


async def test_tus_js_client_resumes_in_another_process(
    api: ApiProcess, http: httpx.AsyncClient, token: str, archive: Path
) -> None:
    async with sending(api, token, archive, stopAfter=2) as script:
        first = await script.heard()
    assert first["how"] == "aborted"
    assert await offset(http, first["url"]) == 2 * CHUNK
    async with sending(api, token, archive) as script:
        second = await script.heard()
    assert (second["how"], second["url"]) == ("done", first["url"])
    assert second["methods"] == ["HEAD"] + ["PATCH"] * (CHUNKS - 2)
    await ready(http, second["url"])


async def test_tus_js_client_goes_on_by_itself_once_a_killed_server_is_back(
    api: ApiProcess, http: httpx.AsyncClient, token: str, archive: Path
) -> None:
    async with sending(api, token, archive, waitAfter=2) as script:
        assert "waits" in await script.heard()
        await api.stop(signal.SIGKILL)
        script.tell("go on")
        await api.start()
        said = await script.heard()
    assert said["how"] == "done", said
    assert "HEAD" in said["methods"]
    await ready(http, said["url"])


async def test_tus_js_client_ends_an_upload_for_good(
    api: ApiProcess, http: httpx.AsyncClient, token: str, archive: Path
) -> None:
    async with sending(api, token, archive, stopAfter=1, terminate=True) as script:
        said = await script.heard()
    assert (said["how"], said["methods"][-1]) == ("aborted", "DELETE")
    gone = await http.head(httpx.URL(said["url"]).path, headers=TUS)
    assert gone.status_code == 410
    async with sending(api, "wrong", archive.rename(archive.with_name("other.tar"))) as script:
        assert await script.heard() == {
            "how": "failed", "url": None, "methods": ["POST"], "status": 401,
        }  # fmt: skip


async def test_tuspy_sends_in_pieces_with_checksums_and_resumes(
    api: ApiProcess, http: httpx.AsyncClient, token: str, archive: Path
) -> None:
    async with sending(api, token, archive, by="upload.py", stopAfter=2) as script:
        first = await script.heard()
    assert first["how"] == "aborted"
    assert await offset(http, first["url"]) == 2 * CHUNK
    async with sending(api, token, archive, by="upload.py") as script:
        assert await script.heard() == {"how": "done", "url": first["url"], "began": 2 * CHUNK}
    await ready(http, first["url"])


async def test_tuspy_is_told_what_is_over_and_what_is_refused(
    api: ApiProcess, http: httpx.AsyncClient, token: str, archive: Path
) -> None:
    async with sending(api, token, archive, by="upload.py", stopAfter=1) as script:
        first = await script.heard()
    assert (await http.delete(httpx.URL(first["url"]).path, headers=TUS)).status_code == 204
    async with sending(api, token, archive, by="upload.py") as script:
        assert await script.heard() == {"how": "failed", "status": 410}
    other = archive.rename(archive.with_name("other.tar"))
    async with sending(api, "wrong", other, by="upload.py") as script:
        assert await script.heard() == {"how": "failed", "status": 401}
