"""Calls to gRPC servers: real ones, and those that are none."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from grpc import aio

from pipeline.adapters.grpc.client import Answer, GrpcModels
from pipeline.errors import Unreachable
from pipeline.models.runtime import grpc_messages
from tests.support.http.raw_server import serving
from tests.support.models.grpc_model_server import Model, a_model
from tests.support.models.modzy_messages import MESSAGES

HERE = "127.0.0.1"


async def ask(
    port: int,
    *,
    host: str = HERE,
    method: str = grpc_messages.STATUS,
    request: bytes = b"",
    total_s: float = 5,
    max_bytes: int = 1000,
) -> Answer:
    return await GrpcModels().call(
        host, port, method, request, total_s=total_s, max_bytes=max_bytes
    )


async def failure(port: int, *, total_s: float = 5) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        await ask(port, total_s=total_s)
    return caught.value


@pytest.mark.parametrize("host", [HERE, "::1"])
async def test_a_call_gives_the_message_as_it_is(host: str) -> None:
    async with a_model(host) as port:
        answer = await ask(port, host=host)
    reply = MESSAGES["StatusResponse"].FromString(answer.message)
    assert (answer.code, reply.status_code, reply.model_info.model_name) == ("OK", 200, "example")


async def test_a_request_arrives() -> None:
    async with a_model() as port:
        request = grpc_messages.run_request({"input": b"x" * 500})
        answer = await ask(port, method=grpc_messages.RUN, request=request)
    (output,) = grpc_messages.read_outputs(answer.message)
    assert output.files == {"results.json": b'{"read": "input=' + b"x" * 500 + b';"}'}


async def test_what_the_server_says_of_a_fault_is_told() -> None:
    async with a_model(RUN_CODE="not a number") as port:
        unknown = await ask(port, method="/ModzyModel/Sing")
        broken = await ask(port, method=grpc_messages.RUN)
    assert (unknown.code, unknown.message) == ("UNIMPLEMENTED", b"")
    assert broken.code == "UNKNOWN"
    assert "not a number" in broken.details


async def test_a_message_that_is_too_large_is_not_read() -> None:
    async with a_model() as port:
        request = grpc_messages.run_request({"input": b"x" * 5000})
        answer = await ask(port, method=grpc_messages.RUN, request=request)
    assert (answer.is_too_large, answer.message) == (True, b"")


async def test_who_takes_too_long_has_not_answered() -> None:
    async with a_model(STATUS_DELAY="30") as port:
        assert (await failure(port, total_s=0.2)).facts["kind"] == "timeout"


async def test_a_closed_port_refuses() -> None:
    with socket.socket() as closed:
        closed.bind((HERE, 0))
        port = closed.getsockname()[1]
        error = await failure(port)
    assert error.facts["kind"] == "refused"
    assert error.message == f"127.0.0.1:{port} cannot be reached: it refuses the connection."


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("said", "kind"), [(HTTP, "protocol"), (b"hi\n" * 99, "protocol"), (b"", "timeout")]
)
async def test_who_does_not_speak_grpc_has_not_answered(said: bytes, kind: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    async with serving(talk) as server:
        error = await failure(server.port, total_s=1)
    assert error.facts["kind"] == kind


async def test_who_hangs_up_has_not_answered() -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(talk) as server:
        assert (await failure(server.port)).facts["kind"] == "other"


async def test_a_model_that_starts_late_is_found_at_once() -> None:
    """Nothing waits on account of earlier refusals."""
    with socket.socket() as closed:
        closed.bind((HERE, 0))
        port = closed.getsockname()[1]
        for _ in range(5):
            await failure(port)
    server = aio.server()
    server.add_generic_rpc_handlers((Model({}).handlers(),))
    server.add_insecure_port(f"{HERE}:{port}")
    await server.start()
    assert (await ask(port, total_s=0.5)).code == "OK"
    await server.stop(0)


def test_nobody_pays_for_grpc_who_does_not_use_it() -> None:
    code = "import sys, pipeline.bootstrap.control_plane; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
