from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.http.middleware import DrainRequest

SIZE = 16 * 1024


class Sender:
    """Sends `chunks` pieces of a body and notes what it hears."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks
        self.heard: list[Message] = []

    async def receive(self) -> Message:
        self.left -= 1
        return {"type": "http.request", "body": b"x" * SIZE, "more_body": self.left > 0}

    async def send(self, message: Message) -> None:
        self.heard.append(message)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


async def read(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        continue
    await refuse(scope, receive, send)


async def asked(app: Any, sender: Sender, *headers: tuple[bytes, bytes]) -> None:
    scope = {"type": "http", "headers": list(headers)}
    await DrainRequest(app)(scope, sender.receive, sender.send)


LENGTH = (b"content-length", b"1000000")


async def test_the_answer_goes_out_before_the_rest_is_read() -> None:
    sender = Sender(10)
    await asked(refuse, sender, LENGTH)
    start, body, end = sender.heard
    assert (b"connection", b"close") in start["headers"]
    assert (body["body"], body["more_body"]) == (b"no", True)
    assert (end["body"], end["more_body"]) == (b"", False)
    assert sender.left == 0


async def test_a_request_that_was_read_is_answered_as_ever() -> None:
    sender = Sender(3)
    await asked(read, sender, LENGTH)
    assert len(sender.heard) == 2
    assert sender.heard[0]["headers"] == []


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
async def test_a_request_without_a_body_is_answered_as_ever(headers: list[Any]) -> None:
    sender = Sender(3)
    await asked(refuse, sender, *headers)
    assert len(sender.heard) == 2
    assert sender.left == 3


async def test_it_does_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.middleware.LINGER_BYTES", 4 * SIZE)
    sender = Sender(1000)
    await asked(refuse, sender, (b"transfer-encoding", b"chunked"))
    assert sender.left == 1000 - 4
    assert sender.heard[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.middleware.LINGER_S", 0.05)
    sender = Sender(1)

    async def silent() -> Message:
        return await asyncio.Future()

    async with asyncio.timeout(30):
        await DrainRequest(refuse)({"type": "http", "headers": [LENGTH]}, silent, sender.send)
    assert len(sender.heard) == 3
