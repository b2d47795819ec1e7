"""What lies in a registry of the directory, and images that come from one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.bootstrap.control_plane import Services as Yard
from schemas.image import Image, ImageSpec
from schemas.states import ImageStatus
from tests.support.archives.image_delivery import push
from tests.support.archives.images import busybox_image
from tests.support.http.raw_server import saying, serving
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import URL, Door
from tests.support.tenants import principal
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def filled(registry_host: str) -> str:
    image = busybox_image()
    for name in ("shelf/a", "shelf/b", "shelf/c/deep"):
        push(image, registry_host, name, "1")
    for tag in ("2", "3", "latest"):
        push(image, registry_host, "shelf/a", tag)
    return registry_host


async def pages(door: Door, path: str, limit: int) -> list[list[str]]:
    found, cursor = [], None
    while True:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        answer = await door.http.get(f"/yard/v1/registries/{path}".rstrip("/"), params=params)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        cursor = answer.json()["next"]
        if cursor is None:
            return found


async def test_repositories_and_tags_come_in_pages(door: Door, filled: str) -> None:
    id = await door.create(public_url=f"http://{filled}")
    for limit in (1, 2, 200):
        got = await pages(door, f"{id}/repositories", limit)
        listed = [name for page in got for name in page]
        assert {"shelf/a", "shelf/b", "shelf/c/deep"} <= set(listed)
        assert len(listed) == len(set(listed))
        assert all(len(page) <= limit for page in got)
        tags = await pages(door, f"{id}/repositories/shelf/a/tags", limit)
        assert sorted(tag for page in tags for tag in page) == ["1", "2", "3", "latest"]
        assert all(len(page) <= limit for page in tags)
    assert await pages(door, f"{id}/repositories/shelf/c/deep/tags", 10) == [["1"]]


async def test_a_registry_that_does_not_page_is_paged_all_the_same(door: Door) -> None:
    body = b'{"name":"x","tags":["c","a","b"]}'
    everything = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with serving(saying(everything)) as server:
        id = await door.create(public_url=f"http://127.0.0.1:{server.port}")
        assert await pages(door, f"{id}/repositories/x/tags", 2) == [["c", "a"], ["b"]]


async def test_the_path_before_v2_is_part_of_the_address(door: Door) -> None:
    seen: list[bytes] = []

    async def talk(reader: Any, writer: Any) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            seen.append(head.split(b" ")[1])
            body = b'{"repositories":["a"]}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with serving(talk) as server:
        id = await door.create(public_url=f"http://127.0.0.1:{server.port}/under/here/")
        assert await pages(door, f"{id}/repositories", 5) == [["a"]]
        await door.check(id)
    assert b"/under/here/v2/_catalog?n=6" in seen
    assert b"/under/here/v2/" in seen


async def test_a_locked_registry_is_listed_with_the_secret_of_its_entry(
    door: Door, locked_host: str
) -> None:
    url = f"http://{locked_host}"
    denied = await door.create(public_url=url)
    answer = await door.http.get(f"/yard/v1/registries/{denied}/repositories")
    assert (answer.status_code, answer.json()["code"]) == (422, "registry_denied")
    secret = await door.secret(locked_host, username=USER, password=PASSWORD)
    id = await door.create(public_url=url, secret=secret)
    assert await pages(door, f"{id}/repositories", 5) == [["team/model"]]
    assert await pages(door, f"{id}/repositories/team/model/tags", 5) == [["1"]]


async def test_what_cannot_be_listed_is_a_clear_problem(door: Door, filled: str) -> None:
    away = await door.create(public_url="http://127.0.0.1:9")
    there = await door.create(public_url=f"http://{filled}")
    for path, status in (
        (f"{away}/repositories", 502),
        ("ghost/repositories", 404),
        ("ghost/checks", 404),
        (f"{there}/repositories/no/such/tags", 404),
        (f"{there}/repositories/UPPER/tags", 404),
        (f"{there}/repositories?cursor=!", 422),
        (f"{there}/repositories?limit=0", 422),
    ):
        answer = await door.http.get(f"/yard/v1/registries/{path}")
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_another_organisations_registries_are_not_listed(
    door: Door, other: Door, filled: str
) -> None:
    id = await door.create(public_url=f"http://{filled}")
    answer = await other.http.get(f"/yard/v1/registries/{id}/repositories")
    assert answer.status_code == 404


# --- images


async def settled(yard: Yard, door: Door, reference: str, **spec: Any) -> Image:
    """The image once its validation is over."""
    caller = principal(door.org)
    image = await yard.images.service.submit(caller, ImageSpec(reference=reference, **spec))

    async def is_settled() -> bool:
        found = await yard.images.service.get(caller, image.uuid)
        return found.status in (ImageStatus.READY, ImageStatus.FAILED)

    await eventually(is_settled)
    return await yard.images.service.get(caller, image.uuid)


@pytest.fixture(scope="module")
def private(locked_host: str) -> str:
    return f"{locked_host}/team/model:1"


async def test_an_image_uses_the_secret_of_its_registrys_entry(
    door: Door, yard: Yard, locked_host: str, private: str
) -> None:
    assert (await settled(yard, door, private)).status is ImageStatus.FAILED
    secret = await door.secret(locked_host, username=USER, password=PASSWORD)
    id = await door.create(public_url=f"http://{locked_host}")
    assert (await settled(yard, door, private)).secret is None
    await door.updated(id, {"container_registry_secret": secret})
    image = await settled(yard, door, private)
    assert (image.status, image.secret) == (ImageStatus.READY, secret)
    await door.call("DELETE", f"/container_registry/{id}")
    assert (await settled(yard, door, private)).status is ImageStatus.FAILED


async def test_an_image_submitted_over_http_is_found_by_the_host_of_its_registry(
    door: Door, locked_host: str, private: str
) -> None:
    secret = await door.secret(locked_host, username=USER, password=PASSWORD)
    await door.create(public_url="http://other.test:5000", image_prefix="team")
    await door.create(public_url=f"http://{locked_host}/", secret=secret)
    answer = await door.http.post(
        "/yard/v1/images", json={"reference": private}, params={"wait": 20}
    )
    assert answer.json()["status"] == "READY", answer.text
    assert answer.json()["digest"].startswith("sha256:")
    assert PASSWORD not in answer.text


async def test_a_named_secret_comes_before_the_directorys(
    door: Door, yard: Yard, locked_host: str, private: str
) -> None:
    right = await door.secret(locked_host, "right", username=USER, password=PASSWORD)
    wrong = await door.secret(locked_host, "wrong", username=USER, password="no")
    await door.create(public_url=f"http://{locked_host}", secret=wrong)
    image = await settled(yard, door, private, secret=right)
    assert (image.status, image.secret) == (ImageStatus.READY, right)


async def test_of_several_entries_the_one_with_the_best_prefix_counts(
    door: Door, yard: Yard, locked_host: str, private: str
) -> None:
    right = await door.secret(locked_host, "right", username=USER, password=PASSWORD)
    wrong = await door.secret(locked_host, "wrong", username=USER, password="no")
    url = f"http://{locked_host}"
    await door.create(public_url=url, secret=wrong, image_prefix=locked_host)
    await door.create(public_url=url, secret=right, image_prefix=f"{locked_host}/team")
    await door.create(public_url=url, secret=wrong, image_prefix=f"{locked_host}/teams")
    assert (await settled(yard, door, private)).secret == right


async def test_another_organisations_directory_does_not_count(
    door: Door, other: Door, yard: Yard, locked_host: str, private: str
) -> None:
    secret = await door.secret(locked_host, username=USER, password=PASSWORD)
    await door.create(public_url=f"http://{locked_host}", secret=secret)
    assert (await settled(yard, other, private)).secret is None


async def test_entries_are_listed_newest_first_without_what_their_keepers_wrote(door: Door) -> None:
    ids = [
        await door.create(public_url=URL, name=f"r{n}", config={"password": "hidden"})
        for n in range(2)
    ]
    (first, second) = [page for page in await pages(door, "", 1) if page][:2]
    assert [first[0]["id"], second[0]["id"]] == ids[::-1]
    shown = (await door.http.get(f"/yard/v1/registries/{ids[0]}")).json()
    assert (shown["name"], shown["public_url"]) == ("r0", URL)
    assert "hidden" not in str(shown | first[0])
    await door.call("DELETE", f"/container_registry/{ids[0]}")
    assert (await door.http.get(f"/yard/v1/registries/{ids[0]}")).status_code == 404
    assert ids[0] not in [each["id"] for page in await pages(door, "", 200) for each in page]
