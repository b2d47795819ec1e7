from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api.app import drain
from api.yard import container_streams
from pipeline.containers.agent_requests import LogEntry
from pipeline.errors import Conflict, EngineUnavailable
from tests.support.http.frames import parse
from tests.support.http.front import Front, bearer
from tests.support.http.serving import serving
from tests.support.http.sse import stream
from tests.support.waiting import eventually

PATH = "/yard/v1/containers/c1/logs"
AT = datetime(2026, 5, 1, tzinfo=UTC)


def entry(text: str, name: str = "stdout") -> LogEntry:
    return LogEntry.model_validate({"stream": name, "time": AT, "text": text})


@pytest.fixture
async def http(app: FastAPI, fake: Front) -> AsyncIterator[AsyncClient]:
    fake.settings.api_port = 0
    fake.logs.entries = [entry("one\n"), entry("two\n", "stderr"), entry("thr\u00e9e")]
    async with (
        serving(app, fake.settings) as (_, url),
        AsyncClient(base_url=url, headers=bearer("viewer"), timeout=30) as client,
    ):
        yield client


async def test_logs_are_plain_text_by_default(http: AsyncClient) -> None:
    for accept in ("*/*", "text/plain", "text/html, text/*;q=0.5"):
        answer = await http.get(PATH, headers={"Accept": accept})
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text == "one\ntwo\nthrée"


async def test_logs_are_json_lines_when_asked_for(http: AsyncClient) -> None:
    answer = await http.get(PATH, headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[1] == {"stream": "stderr", "time": "2026-05-01T00:00:00Z", "text": "two\n"}


async def test_logs_are_events_when_asked_for(http: AsyncClient) -> None:
    answer = await http.get(PATH, headers={"Accept": "text/event-stream"})
    frames = parse(answer.text)
    assert [frame.event for frame in frames] == ["log", "log", "log", "end"]
    assert frames[2].data["text"] == "thrée"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/plain;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/plain;q=0, */*", "application/x-ndjson"),
        ("*/*;q=0.1, text/event-stream;q=0.2", "text/event-stream"),
        ("application/*", "application/x-ndjson"),
    ],
)
async def test_qualities_are_heeded(http: AsyncClient, accept: str, kind: str) -> None:
    answer = await http.get(PATH, headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize("accept", ["image/png", "text/*;q=0", "*/*;q=0.0", "text/plain;q=x"])
async def test_another_type_is_406(http: AsyncClient, accept: str) -> None:
    answer = await http.get(PATH, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


async def test_what_is_asked_for_reaches_the_node(fake: Front, http: AsyncClient) -> None:
    since = "2026-05-01T12:00:00+02:00"
    await http.get(PATH, params={"tail": 5, "since": since, "follow": "true"})
    assert fake.logs.asked == {"tail": 5, "since": datetime.fromisoformat(since), "follow": True}


@pytest.mark.parametrize("query", [{"tail": -1}, {"since": "yesterday"}, {"follow": "perhaps"}])
async def test_a_bad_query_is_refused(http: AsyncClient, query: dict[str, str]) -> None:
    assert (await http.get(PATH, params=query)).status_code == 422


async def test_a_refusal_is_an_answer_of_its_own(fake: Front, http: AsyncClient) -> None:
    fake.logs.entries = []
    fake.logs.failure = Conflict("The container is REQUESTED: it has no logs yet.")
    assert (await http.get(PATH)).status_code == 409


async def test_many_entries_all_arrive_in_order(fake: Front, http: AsyncClient) -> None:
    fake.logs.entries = [entry(f"{number}\n") for number in range(5000)]
    assert (await http.get(PATH)).text.splitlines() == [str(number) for number in range(5000)]


async def test_a_quiet_container_can_be_followed(
    fake: Front, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_streams, "FIRST_S", 0.01)
    monkeypatch.setattr(container_streams, "HEARTBEAT_S", 0.01)
    fake.logs.entries = []
    more = asyncio.Event()
    fake.logs.wait = more.wait
    headers = {"Accept": "text/event-stream"}
    async with stream(http, PATH, params={"follow": "true"}, headers=headers) as reader:
        assert (await reader.frame()).data is None, "a heartbeat"
        more.set()
        while (frame := await reader.frame()).data is None:
            pass
        assert frame.event == "end"


async def test_a_follower_that_hangs_up_ends_the_reading(fake: Front, http: AsyncClient) -> None:
    fake.logs.wait = asyncio.Event().wait
    async with http.stream("GET", PATH, params={"follow": "true"}) as answer:
        assert await anext(answer.aiter_text()) == "one\ntwo\nthrée"
        assert not fake.logs.closed
    await eventually(lambda: fake.logs.closed)


async def test_a_stopping_server_ends_following(
    app: FastAPI, fake: Front, http: AsyncClient
) -> None:
    fake.logs.wait = asyncio.Event().wait
    async with http.stream("GET", PATH, params={"follow": "true"}) as answer:
        chunks = answer.aiter_text()
        await anext(chunks)
        drain(app)
        async with asyncio.timeout(30):
            assert [chunk async for chunk in chunks] == []


async def test_followers_can_tell_a_stopping_server_from_the_end(
    app: FastAPI, fake: Front, http: AsyncClient
) -> None:
    fake.logs.wait = asyncio.Event().wait
    headers = {"Accept": "text/event-stream"}
    async with stream(http, PATH, params={"follow": "true"}, headers=headers) as reader:
        await reader.frame()
        drain(app)
        while (frame := await reader.frame()).event == "log":
            pass
        assert frame.event == "bye"


async def test_a_stream_that_breaks_off_can_be_told_from_one_that_ended(
    fake: Front, http: AsyncClient
) -> None:
    fake.logs.failure = EngineUnavailable("The node went away.")
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(PATH)
    answer = await http.get(PATH, headers={"Accept": "text/event-stream"})
    last = parse(answer.text)[-1]
    assert (last.event, last.data["code"]) == ("error", "engine_unavailable")
