"""The event stream over a real HTTP server, above a stream in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from api.app import drain
from api.yard import messages
from tests.support.http.front import Front, bearer
from tests.support.http.serving import serving
from tests.support.http.sse import Stream, stream
from tests.support.waiting import eventually

PATH = "/yard/v1/events"


@pytest.fixture
async def http(app: FastAPI, fake: Front) -> AsyncIterator[AsyncClient]:
    fake.settings.api_port = 0
    async with (
        serving(app, fake.settings) as (_, url),
        AsyncClient(base_url=url, headers=bearer("viewer"), timeout=30) as client,
    ):
        yield client


async def test_events_arrive_while_they_happen(fake: Front, http: AsyncClient) -> None:
    async with stream(http, PATH) as reader:
        assert reader.response.headers["content-type"].startswith("text/event-stream")
        assert reader.response.headers["cache-control"] == "no-store"
        for kind in ("created", "validating", "ready"):
            fake.log.happen(kind, name="model")
            [event] = await reader.events(1)
            assert event.data["kind"] == kind
            assert event.data["data"] == {"name": "model"}


async def test_the_first_frame_says_how_to_come_back(fake: Front, http: AsyncClient) -> None:
    fake.log.happen()
    async with stream(http, PATH) as reader:
        first = await reader.frame()
        assert first.id == "e1-1"
        assert reader.retry_ms is not None


@pytest.mark.parametrize("by", ["header", "query"])
async def test_a_reader_resumes_by_header_or_query(fake: Front, http: AsyncClient, by: str) -> None:
    for _ in range(4):
        fake.log.happen()
    headers = {"Last-Event-ID": "e1-2"} if by == "header" else {}
    params = {"last_event_id": "e1-2"} if by == "query" else {}
    async with stream(http, PATH, headers=headers, params=params) as reader:
        found = await reader.events(2)
    assert [event.sequence for event in found] == [3, 4]


async def test_the_header_counts_more_than_the_query(fake: Front, http: AsyncClient) -> None:
    """A client that reconnects sends the newest id as header, and its first URL again."""
    for _ in range(4):
        fake.log.happen()
    async with stream(
        http, PATH, headers={"Last-Event-ID": "e1-3"}, params={"last_event_id": "e1-1"}
    ) as reader:
        assert (await reader.events(1))[0].sequence == 4


async def test_readers_choose_what_they_want(fake: Front, http: AsyncClient) -> None:
    query = [("resource", "image"), ("resource", "node"), ("kind", "ready")]
    async with stream(http, PATH, params=query) as reader:
        await reader.frame()
        fake.log.happen("ready", resource="container")
        fake.log.happen("created", resource="image")
        fake.log.happen("ready", resource="node")
        fake.log.happen("ready", resource="image")
        found = await reader.events(2)
    assert [event.data["resource"] for event in found] == ["node", "image"]


@pytest.mark.parametrize(
    "query", ["resource=nope", "resource=image&resource=nope", "kind=a%20b", "kind=pull.", "kind=*"]
)
async def test_what_never_happens_is_not_waited_for(http: AsyncClient, query: str) -> None:
    answer = await http.get(f"{PATH}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    [fault] = answer.json()["errors"]
    assert fault["field"].partition(".")[0] == query.partition("=")[0]
    if query.startswith("resource"):
        assert "container, dead-letter, deployment, image, model" in fault["message"]


async def test_a_reset_is_explicit(fake: Front, http: AsyncClient) -> None:
    fake.log.happen()
    async with stream(http, PATH, headers={"Last-Event-ID": "e0-77"}) as reader:
        await reader.frame()
        reset = await reader.frame()
        assert (reset.event, reset.data["reason"]) == ("reset", "stream_recreated")
        assert (await reader.events(1))[0].sequence == 1


async def test_silence_is_filled_with_heartbeats(
    http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "HEARTBEAT_S", 0.01)
    async with stream(http, PATH) as reader:
        for _ in range(3):
            assert (await reader.frame()).data is None


async def test_a_token_that_ends_ends_the_stream(
    fake: Front, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "ADMIT_EVERY_S", 0.0)
    async with stream(http, PATH) as reader:
        fake.log.happen()
        await reader.events(1)
        fake.access.revoked.add("viewer")
        fake.log.happen()
        await reader.events(1)
        assert (await reader.frame()).event == "bye"
        await reader.end()


async def test_a_stopping_server_says_so_and_ends_streams(
    app: FastAPI, fake: Front, http: AsyncClient
) -> None:
    async with stream(http, PATH) as reader:
        await reader.frame()
        drain(app)
        assert (await reader.frame()).event == "bye"
        await reader.end()


async def test_a_reader_that_hangs_up_is_forgotten(fake: Front, http: AsyncClient) -> None:
    async with stream(http, PATH) as reader:
        await reader.frame()
        assert fake.hub.readers == 1
    await eventually(lambda: fake.hub.readers == 0)


async def test_head_opens_no_stream(fake: Front, http: AsyncClient) -> None:
    answer = await http.head(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert fake.hub.readers == 0


async def test_a_stream_that_cannot_be_opened_is_an_answer_of_its_own(
    fake: Front, http: AsyncClient
) -> None:
    fake.log.down = True
    answer: Response = await http.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (503, "bus_unavailable")


async def test_hundreds_of_readers_see_the_same_events(fake: Front, http: AsyncClient) -> None:
    @asynccontextmanager
    async def many(count: int) -> AsyncIterator[list[Stream]]:
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(stream(http, PATH)) for _ in range(count)]

    async with many(90) as readers:
        for _ in range(10):
            fake.log.happen()
        for reader in readers:
            found = await reader.events(10)
            assert [event.sequence for event in found] == list(range(1, 11))
