"""Calls that are passed on to containers: a real server before models that a test makes up."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.http.streaming import StreamingHttp
from pipeline.errors import NotFound
from pipeline.models.runtime.passthrough import ContainerCalls
from pipeline.settings import Settings
from schemas.container import Container, PortBinding
from schemas.states import ContainerStatus
from tests.support import records as made
from tests.support.http.front import Front, application, bearer, front
from tests.support.http.raw_server import OK, Talk, saying
from tests.support.http.raw_server import serving as talking
from tests.support.http.serving import serving

MIB = 1024 * 1024
LIMIT_S = 60
PORT = PortBinding(internal=8080, host=30000, address="127.0.0.1")


class Yard:
    """A front with one running container, whose model is `talk`."""

    def __init__(self, fake: Front, url: str, container: Container) -> None:
        self.fake = fake
        self.container = container
        self.http = httpx.AsyncClient(base_url=url, headers=bearer("member"), timeout=30)

    async def run(self, uuid: str = "", **options: Any) -> httpx.Response:
        path = f"/yard/v1/containers/{uuid or self.container.uuid}/run"
        return await self.http.post(path, **options)


@asynccontextmanager
async def a_yard(talk: Talk) -> AsyncIterator[Yard]:
    settings = Settings(api_port=0, body_max_bytes=4096)
    async with (
        talking(talk) as model,
        front(settings) as fake,
        StreamingHttp.open(Rules(allow_local=True)) as http,
        application(fake) as app,
    ):

        async def address(container: Container) -> str:
            if not container.ports:
                raise NotFound("Port 8080 is not published.")
            return f"http://127.0.0.1:{model.port}"

        calls = ContainerCalls(
            fake.containers,  # type: ignore[arg-type]
            http,
            SimpleNamespace(address=address),  # type: ignore[arg-type]
            lambda _container: nullcontext(),  # type: ignore[arg-type,return-value]
            timeout_s=LIMIT_S,
        )
        fake.models.passthrough = calls
        container = fake.containers.add(
            made.container(status=ContainerStatus.RUNNING, ports=[PORT])
        )
        async with serving(app, settings) as (_, url):
            yard = Yard(fake, url, container)
            async with yard.http:
                yield yard


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode().lower()


def told(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def test_body_and_types_pass_through_unchanged() -> None:
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))
        body = await reader.readexactly(5)
        kind = b"Content-Type: image/png\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\n"
        writer.write(b"HTTP/1.1 203 Fine\r\n" + kind + body[::-1])

    async with a_yard(talk) as yard:
        kind = {"Content-Type": "audio/wav", "Cookie": "secret=1"}
        answer = await yard.run(content=b"\0\xff\r\nx", headers=kind)
    assert (answer.status_code, answer.content) == (203, b"x\n\r\xff\0")
    assert answer.headers["content-type"] == "image/png"
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-security-policy"] == "sandbox"
    assert asked[0].startswith("post /run http/1.1")
    assert "content-type: audio/wav" in asked[0]
    assert "authorization" not in asked[0]
    assert "secret" not in asked[0]


MODELS_HEADERS = (
    b"Retry-After: 7\r\nInference-Header-Content-Length: 2\r\nX-Request-Cost: 1\r\n"
    b"x-request-cost: 2\r\nX-Text: caf\xe9\r\nContent-Language: fr\r\nWWW-Authenticate: Own\r\n"
)
NOT_FOR_CALLERS = (
    b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"
    b"Proxy-Authenticate: Basic\r\nAccess-Control-Allow-Origin: *\r\nAlt-Svc: h3=x:1\r\n"
    b'Clear-Site-Data: "*"\r\nContent-Security-Policy: default-src *\r\nLocation: /away\r\n'
    b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Content-Type-Options: sniff\r\n"
)


@pytest.mark.parametrize("status", [b"200 OK", b"429 Too Many Requests", b"503 Unavailable"])
@pytest.mark.parametrize("cookies", [False, True])
async def test_what_a_model_tells_its_caller_passes_through(status: bytes, cookies: bool) -> None:
    head = b"HTTP/1.1 " + status + b"\r\n" + MODELS_HEADERS + NOT_FOR_CALLERS
    async with a_yard(saying(head + b"Content-Length: 2\r\n\r\n{}", then_close=True)) as yard:
        yard.fake.settings.model_cookies = cookies
        answer = await yard.run(json={})
    assert (answer.status_code, answer.content) == (int(status[:3]), b"{}")
    raw = [(name.lower(), value) for name, value in answer.headers.raw]
    for line in MODELS_HEADERS.split(b"\r\n")[:-1]:
        name, value = line.split(b": ")
        assert (name.lower(), value) in raw
    told = {name for name, _ in raw}
    hidden = {line.split(b":")[0].lower() for line in NOT_FOR_CALLERS.split(b"\r\n")[:-1]}
    ours = {b"content-security-policy", b"x-content-type-options", b"connection"}
    assert told & (hidden - ours) == ({b"set-cookie"} if cookies else set())
    assert answer.headers.get_list("content-security-policy") == ["sandbox"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("set-cookie") == (["a=b", "c=d"] if cookies else [])


async def test_where_tensors_begin_is_told_to_the_model() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert "inference-header-content-length: 2" in await head(reader)
        writer.write(OK)

    async with a_yard(talk) as yard:
        headers = {"Inference-Header-Content-Length": "2"}
        assert (await yard.run(headers=headers)).content == b"ok"


async def test_a_call_without_a_body_has_none_for_the_model() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert "content-length: 0" in await head(reader)
        writer.write(OK)

    async with a_yard(talk) as yard:
        assert (await yard.run()).content == b"ok"


@pytest.mark.parametrize("status", [b"400 Bad", b"404 Gone", b"500 Broken", b"302 Elsewhere"])
async def test_what_the_model_refuses_is_its_own_answer(status: bytes) -> None:
    kind = b"Content-Type: application/json\r\nLocation: /away\r\nContent-Length: 2\r\n\r\n{}"
    async with a_yard(saying(b"HTTP/1.1 " + status + b"\r\n" + kind)) as yard:
        answer = await yard.run(json={})
    assert (answer.status_code, answer.json()) == (int(status[:3]), {})
    assert "location" not in answer.headers


async def test_pieces_come_when_the_model_writes_them() -> None:
    go_on = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        kind = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + kind + b"3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with a_yard(talk) as yard:
        path = f"/yard/v1/containers/{yard.container.uuid}/run"
        async with yard.http.stream("POST", path) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"one"
            go_on.set()
            assert await anext(pieces) == b"two"


async def test_large_bodies_flow_both_ways_in_little_memory() -> None:
    size = 96 * MIB

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        left = size
        while left:
            left -= len(await reader.read(256 * 1024))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            writer.write(bytes(MIB))
            await writer.drain()

    async def content() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            held.append(resident_bytes())
            yield bytes(MIB)

    held: list[int] = []
    async with a_yard(talk) as yard:
        path = f"/yard/v1/containers/{yard.container.uuid}/run"
        before, most, seen = resident_bytes(), 0, 0
        headers = {"Content-Length": str(size)}
        async with yard.http.stream("POST", path, content=content(), headers=headers) as answer:
            async for piece in answer.aiter_raw():
                seen += len(piece)
                most = max(most, resident_bytes())
            most = max(most, *held)
    assert seen == size
    assert most - before < 32 * MIB


BAD = [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b"\0" * 100]


@pytest.mark.parametrize("answer", BAD)
async def test_a_model_that_talks_nonsense_is_a_bad_gateway(answer: bytes) -> None:
    async with a_yard(saying(answer, then_close=True)) as yard:
        refused = await yard.run(json={})
    assert told(refused) == (502, "container_bad_answer")
    assert yard.container.name in refused.json()["detail"]


async def test_a_model_that_breaks_off_breaks_off_the_answer() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    async with a_yard(saying(half, then_close=True)) as yard:
        with pytest.raises(httpx.RemoteProtocolError):
            await yard.run(json={})


async def test_a_model_that_takes_too_long_is_given_up() -> None:
    hung_up = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        while await reader.read(1024):
            continue
        hung_up.set()

    async with a_yard(talk) as yard:
        late = await yard.run(json={}, params={"timeout": 0.2})
        assert told(late) == (504, "container_timeout")
        assert "0.2 s" in late.json()["detail"]
        await asyncio.wait_for(hung_up.wait(), 30)


async def test_nobody_may_wait_for_longer_than_the_setting() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with a_yard(talk) as yard:
        yard.fake.models.passthrough._timeout_s = 0.1
        assert told(await yard.run(params={"timeout": 1000})) == (504, "container_timeout")
        assert told(await yard.run(params={"timeout": 0})) == (422, "invalid_input")


async def test_the_model_hears_when_its_caller_leaves() -> None:
    begun, hung_up = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nslow")
        begun.set()
        while await reader.read(1024):
            continue
        hung_up.set()

    async with a_yard(talk) as yard:
        path = f"/yard/v1/containers/{yard.container.uuid}/run"
        async with yard.http.stream("POST", path, json={}):
            await begun.wait()
        await asyncio.wait_for(hung_up.wait(), 30)


@pytest.mark.parametrize("status", ["PLACED", "STOPPED", "FAILED", "LOST"])
async def test_only_what_runs_can_be_called(status: str) -> None:
    async with a_yard(saying(OK)) as yard:
        yard.fake.containers.move(yard.container.uuid, status=ContainerStatus(status))
        refused = await yard.run(json={})
    assert told(refused) == (409, "conflict")
    assert status in refused.json()["detail"]


async def test_what_speaks_grpc_is_called_by_its_version() -> None:
    labels = {"model.protocol": "grpc", "model.identifier": "abc", "model.version": "1.0.0"}
    async with a_yard(saying(OK)) as yard:
        spec = yard.container.spec.model_copy(update={"labels": labels})
        yard.fake.containers.move(yard.container.uuid, spec=spec)
        refused = await yard.run(json={})
    assert told(refused) == (409, "conflict")
    assert "/api/models/abc/versions/1.0.0/run" in refused.json()["detail"]


async def test_a_container_without_a_port_cannot_be_called() -> None:
    async with a_yard(saying(OK)) as yard:
        yard.fake.containers.move(yard.container.uuid, ports=[])
        refused = await yard.run(json={})
    assert told(refused) == (409, "conflict")
    assert "not published" in refused.json()["detail"]


async def test_whoever_may_not_run_containers_may_not_call_them() -> None:
    async with a_yard(saying(OK)) as yard:
        assert told(await yard.run(headers=bearer("viewer")))[0] == 403
        assert told(await yard.run(headers={"Authorization": "none"}))[0] == 401
        assert told(await yard.run(headers=bearer("member@others")))[0] == 404
        assert told(await yard.run("nobody"))[0] == 404
