"""How an engine is waited for, against a server that misbehaves as each test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from pipeline.adapters.engine import threads
from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.engine.threads import Pool, Timeouts
from pipeline.errors import (
    ContainerMissing,
    EngineError,
    EngineUnavailable,
    Misconfigured,
    Overloaded,
    PullFailed,
)
from tests.support.engines.fake_engine import Exchange, FakeEngine

IMPATIENT = Timeouts(connect_s=1, call_s=0.3, wait_s=0.3)


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    async with FakeEngine.open() as fake:
        yield fake


@pytest.fixture
async def engine(fake: FakeEngine) -> AsyncIterator[DockerEngine]:
    async with DockerEngine.open(fake.address) as engine:
        yield engine


@pytest.fixture
async def impatient(fake: FakeEngine) -> AsyncIterator[DockerEngine]:
    async with DockerEngine.open(fake.address, timeouts=IMPATIENT) as engine:
        yield engine


async def no_progress(done: int, total: int | None) -> None:
    return


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - threads set no events
            await asyncio.sleep(0.01)


def threads_of(engine: DockerEngine, pool: Pool) -> int:
    """Only its own: whatever else runs in this process may talk to engines too."""
    return sum(thread.is_alive() for thread in engine._link._pools[pool]._threads)


async def test_an_engine_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with DockerEngine.open(f"unix://{tmp_path}/none.sock") as engine:
        with pytest.raises(EngineUnavailable, match="No such file or directory"):
            await engine.ping()


async def test_an_address_of_no_known_kind_is_misconfigured() -> None:
    async with DockerEngine.open("gopher://engine") as engine:
        with pytest.raises(Misconfigured, match="gopher"):
            await engine.ping()


async def test_a_call_that_is_not_answered_ends_in_time(
    fake: FakeEngine, impatient: DockerEngine
) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.closed.wait()

    fake.on["POST", "/containers/a/start"] = never
    began = time.monotonic()
    with pytest.raises(EngineUnavailable):
        await impatient.start("a")
    assert time.monotonic() - began < 30


async def test_an_answer_that_is_cut_is_unavailable(fake: FakeEngine, engine: DockerEngine) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.send("Content-Length: 100", 200, b'{"Id":')
        exchange.writer.close()

    fake.on["GET", "/images/a/json"] = cut
    with pytest.raises(EngineUnavailable):
        await engine.image_id("a")


async def test_an_answer_that_is_not_json_is_an_error_of_the_engine(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    async def page(exchange: Exchange) -> None:
        exchange.send("Content-Length: 6", 200, b"<html>")

    fake.on["GET", "/images/a/json"] = page
    with pytest.raises(EngineError) as caught:
        await engine.image_id("a")
    assert type(caught.value) is EngineError


async def test_the_version_is_asked_for_once(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.api_version, fake.min_api_version = "1.52", "1.44"
    for _ in range(3):
        with pytest.raises(ContainerMissing):
            await engine.start("a")
    assert [one.version for one in fake.seen] == ["", "1.44", "1.44", "1.44"]


async def test_the_version_is_asked_for_again_after_the_engine_was_lost(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.writer.close()

    fake.on["POST", "/containers/a/start"] = hang_up
    with pytest.raises(EngineUnavailable):
        await engine.start("a")
    fake.min_api_version = fake.api_version = "1.44"
    with pytest.raises(ContainerMissing):
        await engine.start("b")
    assert fake.seen[-1].version == "1.44"


async def test_an_engine_older_than_api_1_41_is_refused(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    fake.api_version = "1.40"
    with pytest.raises(Misconfigured, match="upgrade"):
        await engine.ping()


async def test_calls_one_after_the_other_share_a_connection(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    for id in "abcdef":
        with pytest.raises(ContainerMissing):
            await engine.start(id)
    assert fake.connections == 1


async def test_slow_starts_and_stops_hold_up_no_call(fake: FakeEngine) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.closed.wait()

    ids = [f"c{number}" for number in range(40)]
    fake.on |= {("POST", f"/containers/{id}/{verb}"): slow for id in ids for verb in VERBS}
    async with DockerEngine.open(fake.address) as engine:
        work = [asyncio.ensure_future(engine.stop(id, grace_s=0)) for id in ids]
        work += [asyncio.ensure_future(engine.start(id)) for id in ids]
        await until(lambda: threads_of(engine, "launches") == threads_of(engine, "waits") == 16)
        async with asyncio.timeout(30):
            assert await engine.inspect("none") is None
    ended = await asyncio.gather(*work, return_exceptions=True)
    assert {type(one) for one in ended} == {EngineUnavailable}


VERBS = ("start", "stop")


async def test_no_more_outputs_are_followed_than_there_are_threads(
    fake: FakeEngine, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quiet(exchange: Exchange) -> None:
        exchange.begin()
        await exchange.closed.wait()

    monkeypatch.setitem(threads._THREADS, "streams", 2)
    fake.on["GET", "/containers/a/logs"] = quiet
    follow = [engine.logs("a", tail=0, since=None, follow=True) for _ in range(3)]
    tasks = [asyncio.ensure_future(anext(one)) for one in follow]
    with pytest.raises(Overloaded):
        await tasks[2]
    for task in tasks[:2]:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_reader_that_stops_reading_stops_the_engine_not_the_memory(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        exchange.begin()
        while not exchange.closed.is_set():
            exchange.chunk(b"x" * 65_536)
            await exchange.writer.drain()
            sent += 65_536

    async def settled() -> int:
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        return sent

    fake.on["GET", "/containers/a/archive"] = flood
    async with asyncio.timeout(10), aclosing(engine.copy_out("a", "/x")) as pieces:
        assert await anext(pieces)
        assert await settled() < 4 << 20


async def test_closing_a_stream_hangs_up_and_ends_its_thread(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    hung_up = asyncio.Event()

    async def quiet(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk(b"2024-02-29T12:00:00Z hello\n")
        await exchange.closed.wait()
        hung_up.set()

    fake.on["GET", "/containers/a/logs"] = quiet
    async with aclosing(engine.logs("a", tail=0, since=None, follow=True)) as lines:
        assert (await anext(lines)).text == "hello\n"
    async with asyncio.timeout(30):
        await hung_up.wait()


async def test_a_followed_output_may_be_silent_longer_than_a_call(
    fake: FakeEngine, impatient: DockerEngine
) -> None:
    async def late(exchange: Exchange) -> None:
        exchange.begin()
        await asyncio.sleep(2 * IMPATIENT.call_s)
        exchange.chunk(b"2024-02-29T12:00:00Z hello\n")
        exchange.end()

    fake.on["GET", "/containers/a/logs"] = late
    lines = [line async for line in impatient.logs("a", tail=0, since=None, follow=True)]
    assert [line.text for line in lines] == ["hello\n"]


async def test_an_output_that_is_cut_is_unavailable(fake: FakeEngine, engine: DockerEngine) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk(b"2024-02-29T12:00:00Z hello\n")
        await exchange.writer.drain()
        exchange.writer.close()

    fake.on["GET", "/containers/a/logs"] = cut
    lines = engine.logs("a", tail=0, since=None, follow=True)
    assert (await anext(lines)).text == "hello\n"
    with pytest.raises(EngineUnavailable):
        await anext(lines)


async def test_a_registry_that_never_answers_the_engine_is_a_stalled_pull(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.closed.wait()

    fake.on["POST", "/images/create"] = silent
    pull = engine.pull("r/a:1", credentials=None, platform=None, stall_s=0.2, progress=no_progress)
    with pytest.raises(PullFailed) as caught:
        await pull
    assert caught.value.facts["reason"] == "stalled"
    await until(fake.seen[-1].closed.is_set)


async def test_a_pull_that_waits_for_another_is_not_stalled(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    over = asyncio.Event()

    async def pulls(exchange: Exchange) -> None:
        exchange.begin()
        if exchange.query["fromImage"] == "r/queued":
            exchange.chunk(b'{"status":"Waiting","id":"a"}\n')
            await over.wait()
        for done in range(8 if not over.is_set() else 0):
            exchange.chunk(
                b'{"status":"Downloading","id":"b","progressDetail":{"current":%d,"total":8}}\n'
                % done
            )
            await exchange.writer.drain()
            await asyncio.sleep(0.1)
        over.set()
        exchange.end()

    async def found(exchange: Exchange) -> None:
        exchange.json(200, {"Id": "sha256:00"})

    fake.on["POST", "/images/create"] = pulls
    fake.on["GET", "/images/r/queued:latest/json"] = found
    fake.on["GET", "/images/r/busy:latest/json"] = found
    ids = await asyncio.gather(
        *(
            engine.pull(name, credentials=None, platform=None, stall_s=0.3, progress=no_progress)
            for name in ("r/queued", "r/busy")
        )
    )
    assert ids == ["sha256:00", "sha256:00"]


async def test_a_body_is_sent_piece_by_piece(fake: FakeEngine, engine: DockerEngine) -> None:
    async def taken(exchange: Exchange) -> None:
        exchange.send("Content-Length: 0", 200, b"")

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"", b"two"):
            yield piece

    fake.on["PUT", "/containers/a/archive"] = taken
    await engine.copy_in("a", "/x", pieces())
    assert fake.seen[-1].body == b"one two"
    assert fake.seen[-1].query == {"path": "/x"}


async def test_an_error_of_the_source_reaches_the_one_who_copies(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("the source is gone")

    with pytest.raises(LookupError, match="the source is gone"):
        await engine.copy_in("a", "/x", broken())


async def test_cancelling_a_copy_ends_its_thread(fake: FakeEngine, engine: DockerEngine) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        begun.set()
        yield b"one"
        await never.wait()

    copy = asyncio.ensure_future(engine.copy_in("a", "/x", slow()))
    await begun.wait()
    copy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copy
    await engine.close()
    await until(lambda: threads_of(engine, "streams") == 0)


async def test_closing_breaks_off_a_call_that_is_not_answered(fake: FakeEngine) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.closed.wait()

    fake.on["POST", "/containers/a/start"] = never
    engine = DockerEngine(fake.address)
    call = asyncio.ensure_future(engine.start("a"))
    await until(lambda: len(fake.seen) == 2)
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await call


async def test_an_engine_at_a_tcp_address_is_the_same() -> None:
    async def quiet(exchange: Exchange) -> None:
        exchange.begin()
        await exchange.closed.wait()

    async with FakeEngine.open(tcp=True) as fake, DockerEngine.open(fake.address) as engine:
        fake.on["GET", "/events"] = quiet
        events = asyncio.ensure_future(anext(engine.events(since=None, labels={})))
        await until(lambda: len(fake.seen) == 2)
        events.cancel()
        await until(fake.seen[-1].closed.is_set)


async def test_a_closed_engine_takes_no_more_calls(engine: DockerEngine) -> None:
    await engine.close()
    await engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await engine.ping()
    with pytest.raises(EngineUnavailable, match="closed"):
        await anext(engine.events(since=None, labels={}))
