"""What is kept of output: read in pages and along, by whom it belongs to, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.adapters.store import log_chunks
from pipeline.adapters.store.log_chunks import LogChunks
from pipeline.errors import InvalidInput
from pipeline.logs.chunks import LogBatch, LogChunk, LogOpening, LogPosition, SentChunk, StreamName
from pipeline.logs.intake import LogIntake
from pipeline.logs.retention import LogRetention
from pipeline.logs.service import LogFilter, StoredLogs
from schemas.container import Container
from tests.support.engines.node_rig import NodeRig, settings
from tests.support.systems.working import member

SECOND = 10**9
MIB = 1024 * 1024


class Written:
    """Chunks of one container, one a second, as its agent would send them."""

    def __init__(self, rig: NodeRig, container: Container, **values: object) -> None:
        self.rig = rig
        self.container = container
        self.intake = LogIntake(rig.store, settings(**values), rig.clock)
        self.began_ns = int(rig.clock().timestamp() - 3600) * SECOND
        self.sent = 0
        self.node = rig.agent.uuid

    def chunk(self, text: str, stream: StreamName = "stdout", *, at_s: int = 0) -> SentChunk:
        at_ns = self.began_ns + (at_s or self.sent) * SECOND
        return SentChunk(
            container=self.container.uuid,
            engine_id=f"engine-{self.container.uuid}",
            stream=stream,
            begin=LogPosition(time_ns=at_ns),
            end=LogPosition(time_ns=at_ns, offset=len(text)),
            text=text,
        )

    async def take(self, *chunks: SentChunk) -> None:
        self.sent += 1
        await self.intake.open(self.node, LogOpening(session="s", engine_ids=[], reply=""))
        batch = LogBatch(session="s", chunks=list(chunks))
        await self.intake.take(self.node, batch, message=f"{self.container.uuid}-{self.sent}")

    async def lines(self, count: int, size: int = 0) -> None:
        for number in range(count):
            await self.take(self.chunk(f"line {number}\n".ljust(size, "x")))

    async def texts(self, which: LogFilter | None = None) -> list[str]:
        which = which or LogFilter(container=self.container.uuid)
        page = await StoredLogs(self.rig.store).list(self.rig.caller, which, limit=1000)
        return [chunk.text for chunk in page.items]

    def at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.began_ns // SECOND, UTC) + timedelta(seconds=seconds)


@pytest.fixture
async def written(rig: NodeRig) -> Written:
    return Written(rig, await rig.up())


async def test_pages_are_newest_first_and_each_chunk_is_in_one(written: Written) -> None:
    await written.lines(7)
    logs, texts, cursor = StoredLogs(written.rig.store), [], None
    for length in (3, 3, 1):
        page = await logs.list(written.rig.caller, LogFilter(), limit=3, cursor=cursor)
        assert len(page.items) == length
        texts += [chunk.text for chunk in page.items]
        cursor = page.next
    assert cursor is None
    assert texts == [f"line {number}\n" for number in reversed(range(7))]


async def test_filters_narrow_by_stream_text_time_and_node(written: Written) -> None:
    await written.lines(5)
    await written.take(written.chunk("50% (oops)\n", "stderr"))
    assert await written.texts(LogFilter(stream="stderr")) == ["50% (oops)\n"]
    assert await written.texts(LogFilter(contains="% (")) == ["50% (oops)\n"]
    assert await written.texts(LogFilter(contains=".*")) == []
    between = LogFilter(since=written.at(1), until=written.at(2))
    assert await written.texts(between) == ["line 2\n", "line 1\n"]
    assert await written.texts(LogFilter(node="another")) == []


async def test_a_long_search_says_where_it_goes_on(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_chunks, "SCANNED", 3)
    await written.lines(8)
    logs, which = StoredLogs(written.rig.store), LogFilter(contains="line 0")
    found: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor:
        page = await logs.list(written.rig.caller, which, limit=2, cursor=cursor)
        found += [chunk.text for chunk in page.items]
        cursor, pages = page.next, pages + 1
    assert found == ["line 0\n"]
    assert pages == 3


@pytest.mark.parametrize("cursor", ["", "x", "1-2-3", f"{2**63}-0-{'a' * 32}", "1-1-$ne"])
async def test_a_cursor_that_is_not_ours_is_refused(written: Written, cursor: str) -> None:
    logs = StoredLogs(written.rig.store)
    if cursor:
        with pytest.raises(InvalidInput, match="cursor"):
            await logs.list(written.rig.caller, LogFilter(), cursor=cursor)
    for limit in (0, 1001):
        with pytest.raises(InvalidInput, match="limit"):
            await logs.list(written.rig.caller, LogFilter(), limit=limit)


async def test_another_organisation_sees_nothing(written: Written) -> None:
    await written.lines(1)
    logs, stranger = StoredLogs(written.rig.store), member("other")
    mine = (await logs.list(written.rig.caller, LogFilter())).items[0]
    for which in (LogFilter(), LogFilter(container=written.container.uuid)):
        assert (await logs.list(stranger, which)).items == []
        with pytest.raises(TimeoutError):
            await first_of(logs, stranger, which, after=mine.id, limit_s=1)


async def first_of(
    logs: StoredLogs,
    caller: object,
    which: LogFilter,
    *,
    after: str | None,
    count: int = 1,
    limit_s: float = 30,
) -> list[LogChunk]:
    async with (
        asyncio.timeout(limit_s),
        aclosing(logs.follow(caller, which, after=after)) as chunks,  # type: ignore[arg-type]
    ):
        return [await anext(chunks) for _ in range(count)]


async def test_a_follower_gets_each_chunk_once_and_resumes_behind_the_last(
    written: Written,
) -> None:
    await written.lines(3)
    logs, caller, which = StoredLogs(written.rig.store), written.rig.caller, LogFilter()
    since = LogFilter(since=written.at(1))
    one, two = await first_of(logs, caller, since, after=None, count=2)
    assert [one.text, two.text] == ["line 1\n", "line 2\n"]
    following = asyncio.create_task(first_of(logs, caller, which, after=one.id, count=2))
    # What comes later, though its time is earlier.
    await written.take(written.chunk("late\n", at_s=0))
    assert [chunk.text for chunk in await following] == ["line 2\n", "late\n"]
    (again,) = await first_of(logs, caller, which, after=two.id)
    assert again.text == "late\n"


async def test_a_follower_whose_place_is_kept_no_more_gets_what_is(written: Written) -> None:
    await written.lines(1)
    logs = StoredLogs(written.rig.store)
    (chunk,) = await first_of(logs, written.rig.caller, LogFilter(), after="gone")
    assert chunk.text == "line 0\n"


async def test_what_comes_twice_is_kept_once(written: Written) -> None:
    chunk = written.chunk("once\n")
    for _ in range(3):
        await written.take(chunk)
    assert await written.texts() == ["once\n"]


async def test_what_was_written_longest_ago_goes_when_there_is_too_much(written: Written) -> None:
    given = settings(log_max_bytes=64 * 1024)
    retention = LogRetention(written.rig.store, given, written.rig.clock)
    other = Written(written.rig, await written.rig.up())
    await other.lines(1)
    await written.lines(12, size=8 * 1024)
    await retention.sweep()
    texts = await written.texts()
    assert sum(map(len, texts)) <= 64 * 1024
    assert [text.split()[1].rstrip("x") for text in texts] == [str(n) for n in range(11, 4, -1)]
    assert await other.texts() == ["line 0\n"]
    await retention.sweep()
    assert await written.texts() == texts


async def test_what_is_too_old_goes_and_is_not_taken_again(written: Written) -> None:
    retention = LogRetention(written.rig.store, written.rig.settings, written.rig.clock)
    chunk = written.chunk("old\n")
    await written.take(chunk)
    await retention.sweep()
    assert await written.texts() == ["old\n"]
    written.rig.clock.skip(7 * 86_400)
    await retention.sweep()
    assert await written.texts() == []
    assert await LogChunks(written.rig.store).larger(0) == []
    await written.take(chunk)
    assert await written.texts() == []


async def test_reading_uses_an_index_and_reads_no_more_than_it_gives(written: Written) -> None:
    await written.lines(20)
    chunks = written.rig.store.beside(log_chunks.CHUNKS)
    org = written.rig.caller.org
    for query, sort in (
        ({"org": org}, [("time_ns", -1), ("offset", -1), ("_id", -1)]),
        (
            {"org": org, "container": written.container.uuid},
            [("time_ns", -1), ("offset", -1), ("_id", -1)],
        ),
        ({"org": org, "number": {"$gt": 1}}, [("number", 1)]),
    ):
        plan = await chunks.find(query).sort(sort).limit(3).explain()
        assert plan["executionStats"]["totalDocsExamined"] <= 4, plan["queryPlanner"]
