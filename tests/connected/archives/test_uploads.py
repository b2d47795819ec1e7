"""Resumable uploads: tus 1.0.0, cuts, restarts, two writers, checksums."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.settings import Settings
from pipeline.stack.pieces.registry import RegistryPiece
from tests.connected.archives.test_ingest import run
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image, prints
from tests.support.http.api_process import ORG, ApiProcess, api_process, log_in
from tests.support.http.tus import TUS, UPLOADS, TusUpload, checksum, metadata
from tests.support.registries.registry_files import RegistryFiles
from tests.support.waiting import eventually

IMAGE = busybox_image(command=prints("resumed"), random_layers=(1_500_000,), seed=31)
ARCHIVE = docker_archive(IMAGE, "team/resumed:1")
STEP = 400_000
SHOWN = 1_300_000
"""More than what waits in memory: some of it is in the file while it is sent."""
EDGES = range(0, len(ARCHIVE), STEP)


@pytest.fixture
async def upload(http: httpx.AsyncClient) -> TusUpload:
    upload = TusUpload(http, ARCHIVE)
    assert (await upload.create(filename="resumed.tar")).status_code == 201
    return upload


async def ended(upload: TusUpload, status: str = "completed") -> dict[str, object]:
    async def has_ended() -> bool:
        return (await upload.view())["status"] in ("completed", "failed")

    await eventually(has_ended, timeout_s=30)
    view = await upload.view()
    assert view["status"] == status, view
    return view


async def at(upload: TusUpload, offset: int) -> None:
    async def is_there() -> bool:
        return await upload.offset() == offset

    await eventually(is_there)


async def test_what_the_server_can_do_is_told_without_a_token(api: ApiProcess) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as stranger:
        answer = await stranger.options(UPLOADS)
    assert answer.status_code == 204
    told = {name: answer.headers[name] for name in answer.headers if name.startswith("tus")}
    assert told == {
        "tus-resumable": "1.0.0",
        "tus-version": "1.0.0",
        "tus-extension": "creation,termination,checksum,expiration",
        "tus-max-size": str(api.settings.upload_max_bytes),
        "tus-checksum-algorithm": "sha1,sha256",
    }


async def test_an_upload_in_one_piece_becomes_an_image(
    upload: TusUpload, http: httpx.AsyncClient, docker_host: str
) -> None:
    assert await upload.send(0) == len(ARCHIVE)
    view = await ended(upload)
    assert (view["offset"], view["length"], view["percentage"]) == (len(ARCHIVE),) * 2 + (100,)
    assert view["message"] is None
    image = view["image"]
    assert isinstance(image, dict)
    assert image["reference"].endswith(f"/images/{ORG}/team/resumed:1")
    pinned = image["reference"].rpartition(":")[0] + "@" + image["digest"]
    assert await run(docker_host, pinned) == "resumed"
    listed = await http.get("/yard/v1/images", params={"name": "team/resumed:1"})
    assert "READY" in {item["status"] for item in listed.json()["items"]}


@pytest.mark.parametrize("edge", EDGES)
async def test_a_cut_anywhere_keeps_what_arrived_and_the_rest_completes_it(
    edge: int, upload: TusUpload
) -> None:
    if edge:
        await upload.send(0, edge)
    await upload.cut(edge, 12_345)
    await at(upload, min(edge + 12_345, len(ARCHIVE)))
    assert await upload.send(edge + 12_345) == len(ARCHIVE)
    await ended(upload)


@pytest.mark.parametrize("is_proved", [False, True])
async def test_progress_is_told_while_bytes_arrive(
    upload: TusUpload, http: httpx.AsyncClient, is_proved: bool
) -> None:
    half = len(ARCHIVE) // 2
    proof = checksum(ARCHIVE[:half]) if is_proved else {}
    assert (await upload.patch(0, ARCHIVE[:half], **proof)).status_code == 204
    view = await upload.view()
    assert (view["status"], view["offset"]) == ("receiving", half)
    assert view["percentage"] in (49, 50)

    async def is_shown() -> bool:
        listed = (await http.get("/yard/v1/images", params={"status": "UPLOADING"})).json()
        return any(
            item["upload"]["percentage"] == view["percentage"]
            and item["upload"]["total_bytes"] == len(ARCHIVE)
            for item in listed["items"]
        )

    await eventually(is_shown)
    await upload.delete()


async def test_a_second_writer_is_refused_while_the_first_one_sends(
    upload: TusUpload, api: ApiProcess
) -> None:
    async with upload.sending(0, SHOWN):
        await eventually(lambda: size_of(api, upload) > 0)
        assert (await upload.patch(size_of(api, upload), b"x")).status_code == 409
    await at(upload, SHOWN)
    assert (await upload.patch(0, b"x")).status_code == 409
    assert await upload.send(SHOWN) == len(ARCHIVE)
    await ended(upload)


async def test_of_two_writers_at_one_offset_one_wins(upload: TusUpload) -> None:
    answers = await asyncio.gather(*(upload.patch(0, ARCHIVE[:500_000]) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [204, 409]
    assert await upload.offset() == 500_000


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_bytes_with_the_right_checksum_count(upload: TusUpload, algorithm: str) -> None:
    for start in EDGES:
        piece = ARCHIVE[start : start + STEP]
        answer = await upload.patch(start, piece, **checksum(piece, algorithm))
        assert answer.status_code == 204
        assert int(answer.headers["upload-offset"]) == start + len(piece)
    await ended(upload)


async def test_bytes_with_a_wrong_checksum_do_not_count(upload: TusUpload) -> None:
    await upload.send(0, STEP)
    answer = await upload.patch(STEP, ARCHIVE[STEP : 2 * STEP], **checksum(b"others"))
    assert (answer.status_code, answer.headers["tus-resumable"]) == (460, "1.0.0")
    assert await upload.offset() == STEP


async def test_bytes_with_a_checksum_do_not_count_when_they_are_cut(
    upload: TusUpload, api: ApiProcess
) -> None:
    await upload.cut(0, 900_000, **checksum(ARCHIVE))

    async def can_go_on() -> bool:
        return (await upload.patch(0, b"")).status_code == 204

    await eventually(can_go_on)
    assert await upload.offset() == 0
    folder: Path = api.settings.state / "uploads"
    await eventually(lambda: not list(folder.glob("*.part")))


async def test_a_piece_that_falls_silent_is_closed_and_kept(upload: TusUpload) -> None:
    async with upload.sending(0, 300_000) as reader:
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert await upload.offset() == 300_000


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Content-Type": "application/octet-stream"}, 415),
        ({"Upload-Offset": "7"}, 409),
        ({"Upload-Offset": "x"}, 400),
        ({"Upload-Offset": ""}, 400),
        ({"Upload-Checksum": "md5 XrY7u+Ae7tCTyyK7j1rNww=="}, 400),
        ({"Upload-Checksum": "sha1 !!"}, 400),
    ],
)
async def test_a_piece_that_is_announced_wrongly_changes_nothing(
    upload: TusUpload, changed: dict[str, str], status: int
) -> None:
    answer = await upload.patch(0, b"x", **changed)
    assert answer.status_code == status, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert await upload.offset() == 0


async def test_a_missing_version_of_tus_is_refused(
    upload: TusUpload, http: httpx.AsyncClient
) -> None:
    answers = [
        await http.post(UPLOADS, headers={"Upload-Length": "5"}),
        await http.head(upload.path),
        await http.delete(upload.path),
        await http.get(upload.path, headers={"Tus-Resumable": "2.0.0"}),
    ]
    assert [answer.status_code for answer in answers] == [412] * 4
    assert answers[0].headers["tus-version"] == "1.0.0"


async def test_nothing_follows_the_last_byte(upload: TusUpload) -> None:
    assert (await upload.patch(0, ARCHIVE + b"x")).status_code == 413
    assert await upload.offset() == 0

    async def endless() -> object:
        for start in range(0, len(ARCHIVE) + STEP, STEP):
            yield ARCHIVE[start : start + STEP] or b"x" * STEP

    assert (await upload.patch(0, endless())).status_code == 413  # type: ignore[arg-type]
    assert await upload.offset() == 0


async def test_an_upload_that_is_whole_says_so(upload: TusUpload) -> None:
    await upload.send(0)
    answer = await upload.patch(len(ARCHIVE), b"x")
    assert (answer.status_code, "nothing can follow" in answer.json()["detail"]) == (409, True)
    await ended(upload)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "many"}, 400),
        ({"Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "99999999999"}, 413),
        ({"Upload-Length": "5", "Upload-Metadata": "name !"}, 400),
        ({"Upload-Length": "5", "Upload-Metadata": metadata(model="abcdefghij")}, 422),
        (
            {
                "Upload-Length": "5",
                "Upload-Metadata": metadata(model="abcdefghij", version="1.0.0"),
            },
            404,
        ),
        ({"Upload-Length": "5", "Upload-Metadata": metadata(platform="a/b/c/d")}, 422),
        ({"Upload-Length": "5", "Upload-Metadata": metadata(name="x" * 300)}, 422),
    ],
)
async def test_an_upload_that_cannot_be_is_not_created(
    http: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    answer = await http.post(UPLOADS, headers=TUS | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"


async def test_what_was_asked_for_is_told_with_the_offset(http: httpx.AsyncClient) -> None:
    upload = TusUpload(http, ARCHIVE)
    created = await upload.create(name="Ünï", filename="x.tar", repoTag="team/resumed:1")
    assert created.headers["upload-expires"].endswith(" GMT")
    head = await http.head(upload.path, headers=TUS)
    assert head.headers["upload-metadata"] == metadata(
        name="Ünï", filename="x.tar", repoTag="team/resumed:1"
    )
    assert head.headers["cache-control"] == "no-store"
    assert head.headers["upload-length"] == str(len(ARCHIVE))


async def test_an_upload_that_is_given_up_is_gone(upload: TusUpload, api: ApiProcess) -> None:
    await upload.send(0, STEP)
    assert (await upload.delete()).status_code == 204
    assert (await upload.delete()).status_code in (404, 410)
    assert (await upload.http.head(upload.path, headers=TUS)).status_code in (404, 410)
    assert (await upload.patch(STEP, b"x")).status_code in (404, 410)
    name = upload.path.rpartition("/")[2]
    assert not (api.settings.state / "uploads" / name).exists()


async def test_an_upload_that_is_given_up_while_it_is_sent_is_gone_for_its_sender(
    upload: TusUpload, api: ApiProcess
) -> None:
    async def until_deleted() -> AsyncIterator[bytes]:
        yield ARCHIVE[:SHOWN]
        await eventually(lambda: size_of(api, upload) > 0)
        assert (await upload.delete()).status_code == 204
        yield ARCHIVE[SHOWN:]

    answer = await upload.patch(0, until_deleted())  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")


async def test_nothing_follows_an_upload_that_failed(http: httpx.AsyncClient) -> None:
    upload = TusUpload(http, b"no archive")
    await upload.create()
    await upload.send(0)
    await ended(upload, "failed")
    answer = await upload.patch(len(upload.content), b"x")
    assert (answer.status_code, "nothing can follow" in answer.json()["detail"]) == (409, True)


async def test_an_archive_that_cannot_be_used_says_why(
    http: httpx.AsyncClient, files: RegistryFiles
) -> None:
    upload = TusUpload(http, ARCHIVE[:-20_000])
    await upload.create(name="cut-short")
    await upload.send(0)
    view = await ended(upload, "failed")
    assert "ends early" in str(view["message"])
    assert str(view["technicalInformation"]).startswith("tar_truncated: ")
    assert view["image"] is None
    listed = await http.get("/yard/v1/images", params={"name": "cut-short"})
    assert listed.json()["items"] == []
    assert files.tags(f"images/{ORG}/cut-short") == []


async def test_nothing_at_all_is_no_archive(http: httpx.AsyncClient) -> None:
    upload = TusUpload(http, b"")
    await upload.create()
    assert str((await ended(upload, "failed"))["technicalInformation"]).startswith("not_a_tar")


async def test_layers_that_are_there_are_told(http: httpx.AsyncClient, upload: TusUpload) -> None:
    await upload.send(0)
    await ended(upload)
    known = IMAGE.layers[1].diff_id
    asked = {"digests": [known, "sha256:" + "0" * 64]}
    answer = await http.post(f"{UPLOADS}/present", json=asked)
    assert answer.json() == {"present": [{"digest": known, "size": len(IMAGE.layers[1].tar)}]}
    wrong = await http.post(f"{UPLOADS}/present", json={"digests": ["sha256:../../etc"]})
    assert wrong.status_code == 422


async def test_an_upload_goes_on_after_the_server_was_killed(
    api_settings: Callable[..., Settings], archive_nats: str
) -> None:
    async with api_process(api_settings(archive_nats)) as own:
        async with logged_in(own) as http:
            upload = TusUpload(http, ARCHIVE)
            await upload.create()
            await upload.send(0, STEP)
            async with upload.sending(STEP, SHOWN):
                await eventually(lambda: size_of(own, upload) > STEP)
                await own.stop(signal.SIGKILL)
        await own.start()
        async with logged_in(own) as http:
            upload.http = http
            offset = await upload.offset()
            assert STEP < offset <= STEP + SHOWN
            await upload.send(offset)
            await ended(upload)


async def test_a_stop_of_the_server_keeps_what_arrived(
    api_settings: Callable[..., Settings], archive_nats: str
) -> None:
    async with api_process(api_settings(archive_nats)) as own, logged_in(own) as http:
        upload = TusUpload(http, ARCHIVE)
        await upload.create()
        async with upload.sending(0, SHOWN) as reader:
            await eventually(lambda: size_of(own, upload) > 0)
            stopping = asyncio.create_task(own.stop())
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        await stopping
        assert size_of(own, upload) == SHOWN


async def test_a_whole_upload_goes_on_with_the_next_server_once_the_registry_answers(
    api_settings: Callable[..., Settings], archive_nats: str, own_registry: RegistryPiece
) -> None:
    given = api_settings(archive_nats, registry=own_registry.host)
    async with api_process(given) as own:
        async with logged_in(own) as http:
            upload = TusUpload(http, ARCHIVE)
            await upload.create()
            own_registry.pause()
            await upload.send(0)
            assert (await upload.view())["status"] == "ingesting"
            await own.stop(signal.SIGKILL)
        own_registry.resume()
        await own.start()
        async with logged_in(own) as http:
            upload.http = http
            await ended(upload)
            assert not list((given.state / "uploads").iterdir())


@asynccontextmanager
async def logged_in(api: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
        await log_in(http)
        yield http


def size_of(api: ApiProcess, upload: TusUpload) -> int:
    return (api.settings.state / "uploads" / upload.path.rpartition("/")[2]).stat().st_size
