from __future__ import annotations

import asyncio

import pytest
from httpx import AsyncClient, Response

from pipeline.records.idempotency import id_for
from schemas.states import ImageStatus
from tests.support.http.front import ORG, Front, bearer

PATH = "/yard/v1/images"
BODY = {"reference": "127.0.0.1:5000/team/model:1"}
KEY = {"Idempotency-Key": "k-1"}
UUID = id_for(ORG, "image", "k-1")


async def submit(http: AsyncClient, **options: object) -> Response:
    return await http.post(PATH, json=BODY, headers=KEY, **options)  # type: ignore[arg-type]


async def test_an_image_is_accepted_at_once(http: AsyncClient) -> None:
    answer = await submit(http)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{PATH}/{UUID}"
    assert answer.headers["etag"] == '"1"'
    assert answer.json()["status"] == "PENDING"


async def test_what_is_internal_is_not_shown(http: AsyncClient) -> None:
    await submit(http)
    for answer in (await http.get(f"{PATH}/{UUID}"), await http.get(PATH)):
        for word in ("outbox", "request_hash", "replayed"):
            assert word not in answer.text


async def test_a_repeat_gets_the_record_of_the_first(http: AsyncClient) -> None:
    first, again = await submit(http), await submit(http)
    assert again.json()["uuid"] == first.json()["uuid"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_key_with_another_body_is_refused(http: AsyncClient) -> None:
    await submit(http)
    answer = await http.post(PATH, json={"reference": "r.test/other:2"}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_without_a_key_every_request_makes_a_record(http: AsyncClient) -> None:
    uuids = {(await http.post(PATH, json=BODY)).json()["uuid"] for _ in range(3)}
    assert len(uuids) == 3


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb"])
async def test_a_bad_key_is_refused(http: AsyncClient, key: str) -> None:
    answer = await http.post(PATH, json=BODY, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].lower() == "idempotency-key"


@pytest.mark.parametrize("status", [ImageStatus.READY, ImageStatus.FAILED])
async def test_waiting_answers_with_the_outcome(
    fake: Front, http: AsyncClient, status: ImageStatus
) -> None:
    asked = asyncio.create_task(submit(http, params={"wait": 5}))
    await fake.images.until(UUID)
    fake.images.move(UUID, status=ImageStatus.VALIDATING)
    fake.images.move(UUID, status=status, reason="because")
    answer = await asyncio.wait_for(asked, 30)
    assert answer.status_code == 201
    assert (answer.json()["status"], answer.headers["etag"]) == (status, '"3"')
    assert "idempotency-replayed" not in answer.headers


async def test_waiting_ends_in_time_with_the_record_as_it_is(
    fake: Front, http: AsyncClient
) -> None:
    asked = asyncio.create_task(submit(http, params={"wait": 0.05}))
    await fake.images.until(UUID)
    fake.images.kept[UUID] = fake.images.kept[UUID].model_copy(update={"reason": "seen at the end"})
    answer = await asyncio.wait_for(asked, 30)
    assert answer.status_code == 202
    assert answer.json()["reason"] == "seen at the end"


async def test_waiting_is_cut_to_the_maximum(fake: Front, http: AsyncClient) -> None:
    fake.settings.wait_max_s = 0.01
    answer = await asyncio.wait_for(submit(http, params={"wait": 9999}), 30)
    assert answer.status_code == 202


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon"])
async def test_a_bad_wait_is_refused(http: AsyncClient, wait: str) -> None:
    assert (await submit(http, params={"wait": wait})).status_code == 422


async def test_waiting_again_for_what_is_settled_answers_at_once(
    fake: Front, http: AsyncClient
) -> None:
    await submit(http)
    fake.images.move(UUID, status=ImageStatus.READY)
    answer = await submit(http, params={"wait": 60})
    assert answer.status_code == 201
    assert answer.headers["idempotency-replayed"] == "true"


async def test_an_image_deleted_meanwhile_ends_the_wait(fake: Front, http: AsyncClient) -> None:
    asked = asyncio.create_task(submit(http, params={"wait": 5}))
    await fake.images.until(UUID)
    fake.images.move(UUID, status=ImageStatus.DELETED)
    answer = await asyncio.wait_for(asked, 30)
    assert (answer.status_code, answer.json()["status"]) == (201, "DELETED")


async def test_the_server_stopping_ends_the_wait(fake: Front, http: AsyncClient) -> None:
    asked = asyncio.create_task(submit(http, params={"wait": 60}))
    await fake.images.until(UUID)
    fake.hub.drain()
    assert (await asyncio.wait_for(asked, 30)).status_code == 202


async def test_a_record_that_has_not_changed_is_304(fake: Front, http: AsyncClient) -> None:
    await submit(http)
    for tag, status in [
        ('"1"', 304),
        ('W/"1"', 304),
        ("*", 304),
        ('"2"', 200),
        ('"0", "1"', 304),
        ("1", 200),
    ]:
        answer = await http.get(f"{PATH}/{UUID}", headers={"If-None-Match": tag})
        assert answer.status_code == status, tag
        assert answer.headers["etag"] == '"1"'
        assert (answer.content == b"") is (status == 304)


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"1"', 200),
        ("*", 200),
        ('"7", "1"', 200),
        ('"2"', 412),
        ('W/"1"', 412),
        ('"7", "8"', 412),
        ('"one"', 412),
        ('"' + "9" * 5000 + '"', 412),
        ("1", 422),
        ("", 422),
    ],
)
async def test_a_delete_can_be_guarded(http: AsyncClient, tag: str, status: int) -> None:
    await submit(http)
    answer = await http.delete(f"{PATH}/{UUID}", headers={"If-Match": tag})
    assert answer.status_code == status
    assert (await http.get(f"{PATH}/{UUID}")).status_code == (404 if status == 200 else 200)


async def test_a_deleted_image_is_answered_once_more(http: AsyncClient) -> None:
    await submit(http)
    answer = await http.delete(f"{PATH}/{UUID}")
    assert (answer.status_code, answer.json()["status"]) == (200, "DELETED")


async def test_lists_come_in_pages_that_link_to_the_next(http: AsyncClient) -> None:
    made = [(await http.post(PATH, json=BODY)).json()["uuid"] for _ in range(5)]
    seen: list[str] = []
    url: str | None = f"{PATH}?limit=2"
    while url:
        answer = await http.get(url)
        page = answer.json()
        seen += [item["uuid"] for item in page["items"]]
        link = answer.links.get("next", {}).get("url")
        assert (link is None) is (page["next"] is None)
        url = str(link) if link else None
    assert seen == made[::-1]


async def test_lists_can_be_narrowed(fake: Front, http: AsyncClient) -> None:
    await submit(http)
    await http.post(PATH, json={**BODY, "name": "other"})
    fake.images.move(UUID, status=ImageStatus.READY)
    ready = (await http.get(PATH, params={"status": "READY"})).json()["items"]
    assert [item["uuid"] for item in ready] == [UUID]
    other = (await http.get(PATH, params={"name": "other"})).json()["items"]
    assert [item["name"] for item in other] == ["other"]


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"status": "ready"}, {"cursor": "x" * 513}]
)
async def test_a_bad_query_is_refused(http: AsyncClient, query: dict[str, str]) -> None:
    answer = await http.get(PATH, params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(query))


async def test_head_answers_as_get_does(http: AsyncClient) -> None:
    await submit(http)
    got, head = await http.get(f"{PATH}/{UUID}"), await http.head(f"{PATH}/{UUID}")
    assert (head.status_code, head.headers["etag"]) == (200, got.headers["etag"])
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (await http.head(f"{PATH}/nowhere")).status_code == 404
    assert (await http.head("/nowhere")).status_code == 404


async def test_viewers_see_images(http: AsyncClient) -> None:
    await submit(http)
    answer = await http.get(f"{PATH}/{UUID}", headers=bearer("viewer"))
    assert answer.status_code == 200
