"""What a status that cannot be used is called."""

from __future__ import annotations

import gzip
from typing import Any, cast

import httpx
import pytest

from pipeline.adapters.http.guarded import Limits, Reply
from pipeline.errors import ModelRefused, StatusContentType, StatusError, StatusNotJson, Unreachable
from pipeline.models.runtime.client import ModelClient, RestDialect
from pipeline.models.runtime.container_spec import ModelProtocol
from pipeline.models.runtime.readiness import StatusCheck, ask_status
from schemas.container import Container
from tests.support import records

ZIPPED = httpx.Headers({"Content-Type": "application/json", "Content-Encoding": "gzip"})


class Client(ModelClient):
    """Of a model that always answers the same."""

    def __init__(self, reply: Reply | Unreachable) -> None:
        super().__init__(
            cast(Any, None), cast(Any, None), {ModelProtocol.REST: cast(Any, RestDialect)}
        )
        self._reply = reply

    async def status(self, container: Container, *, limits: Limits) -> Reply:
        if isinstance(self._reply, Unreachable):
            raise self._reply
        return self._reply


async def failure(reply: Reply | Unreachable) -> str:
    check = StatusCheck(Client(reply), records.container(), timeout_s=1)
    with pytest.raises(ModelRefused) as caught:
        await check.until_ready(0.01)
    return caught.value.message


async def test_a_status_that_redirects_says_so() -> None:
    told = await failure(Unreachable("It redirects.", status=307, kind="redirect"))
    assert "307, a redirect, which is not followed" in told


async def test_a_status_that_is_encoded_unasked_says_so() -> None:
    told = await failure(Reply(200, "OK", ZIPPED, gzip.compress(b"{}"), False, "", False))
    assert "encoded as 'gzip', which nobody asked for" in told


class Saying:
    """A model that answers so, however it is asked."""

    status_call = "GET /status"

    def __init__(self, status: int, body: bytes = b"{}", kind: str = "application/json") -> None:
        headers = httpx.Headers({"Content-Type": kind})
        self._reply = Reply(status, "", headers, body, False, "", False)

    async def status(self, address: str, *, limits: Limits) -> Reply:
        assert address == "http://127.0.0.1:8080"
        return self._reply


async def test_a_probe_takes_only_what_passes_a_load_test_for_a_start() -> None:
    assert await ask_status(cast(Any, Saying(200)), "http://127.0.0.1:8080", 1) == 200
    for saying, error in (
        (Saying(202), StatusError),
        (Saying(204, b""), StatusError),
        (Saying(302), StatusError),
        (Saying(200, kind="text/html"), StatusContentType),
        (Saying(200, b"[]"), StatusNotJson),
    ):
        with pytest.raises(error):
            await ask_status(cast(Any, saying), "http://127.0.0.1:8080", 1)
