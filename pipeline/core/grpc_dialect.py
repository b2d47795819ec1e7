"""Models that speak gRPC, in the words of HTTP that everything else about models uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pipeline.adapters.grpc_models import OK, Answer, GrpcModels
from pipeline.adapters.http_guard import GuardedHttp, Limits, Reply, json_reply
from pipeline.rules import model_messages
from pipeline.rules.model_messages import Output
from pipeline.rules.protobuf import Malformed
from pipeline.rules.run_results import RESULTS, shown

HTTP_STATUSES: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
}
"""As `google/rpc/code.proto` maps them; every other one is 500."""


class GrpcDialect:
    """The service `ModzyModel`. What it calls `status_code` is the status of the reply."""

    status_call: Final = f"gRPC {model_messages.STATUS}"
    run_call: Final = f"gRPC {model_messages.RUN}"

    def __init__(self, models: GrpcModels, http: GuardedHttp) -> None:
        """`http` tells which addresses may be contacted: nodes must be, wherever they are."""
        self._models = models
        self._http = http

    async def status(self, address: str, *, limits: Limits) -> Reply:
        """A message that is none of `ModzyModel` counts as a body that is no JSON."""
        answer = await self._call(address, model_messages.STATUS, model_messages.EMPTY, limits)
        return _reply(answer, malformed=200)

    async def shutdown(self, address: str, *, limits: Limits) -> Reply:
        answer = await self._call(address, model_messages.SHUTDOWN, model_messages.EMPTY, limits)
        return _reply(answer)

    async def run(self, address: str, body: bytes, *, name: str, limits: Limits) -> Reply:
        """`body` becomes the input `name`; the results come back as they are, else all outputs."""
        reply, files = await self.exchange(address, {name: body}, limits=limits)
        if reply.status != 200 or reply.is_truncated:
            return reply
        if RESULTS in files:
            return json_reply(reply.status, files[RESULTS])
        told = {file: shown(content) for file, content in files.items()}
        return json_reply(reply.status, json.dumps(told).encode())

    async def exchange(
        self, address: str, files: Mapping[str, bytes], *, limits: Limits
    ) -> tuple[Reply, Mapping[str, bytes]]:
        """One input of `files` and the files that the model makes of it.

        The body of a success is empty: there is nothing in it that is not in a file.
        """
        request = model_messages.run_request(files)
        answer = await self._call(address, model_messages.RUN, request, limits)
        reply = _reply(answer)
        if reply.status != 200 or reply.is_truncated:
            return reply, {}
        try:
            return _judged(reply, model_messages.read_outputs(answer.message))
        except Malformed as error:
            return _no_message(error, 500), {}

    async def _call(self, address: str, method: str, request: bytes, limits: Limits) -> Answer:
        hosts, port = await self._http.pinned(address)
        return await self._models.call(
            hosts[0],
            port,
            method,
            request,
            total_s=limits.total_s,
            max_bytes=limits.body_max_bytes,
        )


def _reply(answer: Answer, *, malformed: int = 500) -> Reply:
    """`malformed` is the status for a message that is none of `ModzyModel`."""
    if answer.is_too_large:
        return json_reply(200, b"", is_truncated=True)
    if answer.code != OK:
        told = {"grpcStatus": answer.code, "message": answer.details}
        return json_reply(HTTP_STATUSES.get(answer.code, 500), json.dumps(told).encode())
    try:
        outcome = model_messages.read_outcome(answer.message)
    except Malformed as error:
        return _no_message(error, malformed)
    told = {"status": outcome.status, "message": outcome.message}
    return json_reply(outcome.status_code, json.dumps(told).encode())


def _no_message(error: Malformed, status: int) -> Reply:
    return json_reply(status, f"(this is no message of ModzyModel: {error})".encode())


def _judged(reply: Reply, outputs: list[Output]) -> tuple[Reply, Mapping[str, bytes]]:
    files = outputs[0].files if outputs else {}
    if outputs and not outputs[0].is_success:
        why = files.get(model_messages.FAILURE, b"the output is marked as a failure")
        return json_reply(500, why), {}
    return json_reply(reply.status, b""), files
