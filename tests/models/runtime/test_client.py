"""What gRPC models say, in the words of HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.grpc.client import GrpcModels
from pipeline.adapters.http.guarded import GuardedHttp, Limits, Reply
from pipeline.adapters.http.resolving import Rules
from pipeline.errors import AddressRefused, Unreachable
from pipeline.models.runtime.client import GrpcDialect
from tests.support.models.grpc_model_server import a_model

LIMITS = Limits(total_s=5, body_max_bytes=2000)


@pytest.fixture
async def dialect() -> AsyncIterator[GrpcDialect]:
    async with GuardedHttp.open(Rules(allow_local=True)) as http:
        yield GrpcDialect(GrpcModels(), http)


def said(reply: Reply) -> tuple[int, object]:
    assert reply.headers["content-type"] == "application/json"
    return reply.status, json.loads(reply.body)


async def test_a_model_that_is_well_says_so(dialect: GrpcDialect) -> None:
    async with a_model() as port:
        status = await dialect.status(f"http://localhost:{port}", limits=LIMITS)
        shutdown = await dialect.shutdown(f"http://127.0.0.1:{port}", limits=LIMITS)
    told = {"status": "OK", "message": "Model Initialized Successfully."}
    assert said(status) == (200, told)
    assert said(shutdown) == (200, {"status": "OK", "message": "bye"})


async def test_the_code_inside_the_reply_counts(dialect: GrpcDialect) -> None:
    async with a_model(STATUS_CODE="500", RUN_CODE="503") as port:
        address = f"http://127.0.0.1:{port}"
        status = await dialect.status(address, limits=LIMITS)
        run = await dialect.run(address, b"{}", name="input", limits=LIMITS)
    told = {"status": "OK", "message": "Model Failed to Initialize."}
    assert said(status) == (500, told)
    assert said(run) == (503, {"status": "OK", "message": "Inference executed"})


async def test_faults_of_grpc_have_the_code_that_http_has(dialect: GrpcDialect) -> None:
    async with a_model(STATUS_ABSENT="1", RUN_CODE="no number") as port:
        address = f"http://127.0.0.1:{port}"
        status = await dialect.status(address, limits=LIMITS)
        run, _ = await dialect.exchange(address, {"input": b"1"}, limits=LIMITS)
    assert status.status == 501
    assert json.loads(status.body)["grpcStatus"] == "UNIMPLEMENTED"
    assert run.status == 500
    assert "no number" in json.loads(run.body)["message"]


async def test_bytes_that_are_no_message_are_no_json(dialect: GrpcDialect) -> None:
    async with a_model(STATUS_RAW="hello there", RUN_RAW="hello there") as port:
        address = f"http://127.0.0.1:{port}"
        status = await dialect.status(address, limits=LIMITS)
        run = await dialect.run(address, b"{}", name="input", limits=LIMITS)
    assert (status.status, run.status) == (200, 500)
    for reply in (status, run):
        assert reply.body.startswith(b"(this is no message of ModzyModel: ")
    async with a_model(RUN_RAW="\x08\xc8\x01\x22\x01\x0b") as port:
        assert (
            await dialect.run(f"http://127.0.0.1:{port}", b"{}", name="x", limits=LIMITS)
        ).status == 500


async def test_a_call_gives_the_results_and_an_exchange_all_files(dialect: GrpcDialect) -> None:
    async with a_model(WRITE_TOO="notes.txt") as port:
        address = f"http://127.0.0.1:{port}"
        run = await dialect.run(address, b'{"a": 1}', name="my input", limits=LIMITS)
        reply, files = await dialect.exchange(address, {"a": b"1", "b": b"2"}, limits=LIMITS)
    assert said(run) == (200, {"read": 'my input={"a": 1};'})
    assert reply.status == 200
    assert files == {"results.json": b'{"read": "a=1;b=2;"}', "notes.txt": b"not json"}


async def test_without_results_all_outputs_are_the_answer(dialect: GrpcDialect) -> None:
    async with a_model(WRITE="labels.json", WRITE_TOO="notes.txt") as port:
        run = await dialect.run(f"http://127.0.0.1:{port}", b"{}", name="i", limits=LIMITS)
    assert said(run) == (200, {"labels.json": {"read": "i={};"}, "notes.txt": "not json"})


async def test_an_output_that_failed_is_a_failure(dialect: GrpcDialect) -> None:
    async with a_model(RUN_FAILS="no tensor") as port:
        run = await dialect.run(f"http://127.0.0.1:{port}", b"{}", name="i", limits=LIMITS)
    assert (run.status, run.body) == (500, b"no tensor")


async def test_what_is_too_large_is_cut(dialect: GrpcDialect) -> None:
    async with a_model() as port:
        body = b"x" * 3000
        run = await dialect.run(f"http://127.0.0.1:{port}", body, name="i", limits=LIMITS)
    assert (run.status, run.is_truncated, run.body) == (200, True, b"")


async def test_nobody_there_is_no_answer(dialect: GrpcDialect) -> None:
    with pytest.raises(Unreachable) as caught:
        await dialect.status("http://127.0.0.1:1", limits=LIMITS)
    assert caught.value.facts["kind"] == "refused"


async def test_addresses_that_nobody_may_contact_are_refused(dialect: GrpcDialect) -> None:
    with pytest.raises(AddressRefused):
        await dialect.status("http://169.254.169.254:45000", limits=LIMITS)
