"""Bodies of the engine that a thread reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.adapters.engine.threads import ByteStream


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_closing_goes_on_to_its_end_though_it_is_cancelled_again(
    pool: ThreadPoolExecutor,
) -> None:
    woken = threading.Event()

    def body(_answer: Any, _size: int) -> Iterator[bytes]:
        yield b"first"
        woken.wait(5)
        raise ConnectionError("hung up")

    class Answer(SimpleNamespace):
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            return

    stream = ByteStream(lambda: Answer(), body, pool, lambda _thread: None)  # type: ignore[arg-type,return-value]
    assert await anext(stream) == b"first"
    closing = asyncio.create_task(stream.aclose())
    for _ in range(3):
        await asyncio.wait([closing], timeout=0.01)
        closing.cancel()
    assert not closing.done()
    woken.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert isinstance(stream.reader.exception(), ConnectionError)
