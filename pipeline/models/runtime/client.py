"""How the model in a container is spoken to: one dialect for each protocol that images speak."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

from pipeline.adapters.grpc.client import OK, Answer, GrpcModels
from pipeline.adapters.http.guarded import GuardedHttp, Limits, Reply, json_reply
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.containers.agent_requests import Logs
from pipeline.errors import ModelRefused, NotFound, RunFailed, RunTimedOut, Unreachable, YardError
from pipeline.models.runtime import grpc_messages
from pipeline.models.runtime.container_spec import PROTOCOL_LABEL, ModelProtocol, model_port
from pipeline.models.runtime.grpc_messages import Malformed, Output
from pipeline.models.runtime.outputs import RESULTS, shown
from schemas.access import Principal
from schemas.container import Container
from schemas.model import DEFAULT_INPUT
from schemas.node import Node

JSON: Final = "application/json"
SHUTDOWN_S: Final = 5
SHOWN_CHARACTERS: Final = 500
LOG_LINES: Final = 40
LOG_CHARACTERS: Final = 8192
LOG_S: Final = 5
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


class Dialect(Protocol):
    """The three calls that every model answers, at `address` (`http://host:port`).

    Another protocol's answer is put into the words of HTTP: its own code as the status, its output
    as a JSON body. Raises Unreachable, with `facts["kind"]`, when there is no answer.
    """

    @property
    def status_call(self) -> str:
        """What callers know the call as."""
        ...

    @property
    def run_call(self) -> str: ...

    async def status(self, address: str, *, limits: Limits) -> Reply: ...

    async def run(self, address: str, body: bytes, *, name: str, limits: Limits) -> Reply:
        """`body` is a JSON object; where inputs have names it is the one called `name`."""
        ...

    async def shutdown(self, address: str, *, limits: Limits) -> Reply: ...


class RestDialect:
    """`GET /status`, `POST /run` and `POST /shutdown`."""

    status_call: Final = "GET /status"
    run_call: Final = "POST /run"

    def __init__(self, http: GuardedHttp) -> None:
        """`http` must be allowed to contact nodes, wherever they are."""
        self._http = http

    async def status(self, address: str, *, limits: Limits) -> Reply:
        return await self._http.request("GET", f"{address}/status", limits=limits)

    async def run(self, address: str, body: bytes, *, name: str, limits: Limits) -> Reply:
        kind = {"Content-Type": JSON}
        url = f"{address}/run"
        return await self._http.request("POST", url, headers=kind, content=body, limits=limits)

    async def shutdown(self, address: str, *, limits: Limits) -> Reply:
        return await self._http.request("POST", f"{address}/shutdown", limits=limits)


class GrpcDialect:
    """The service `ModzyModel`. What it calls `status_code` is the status of the reply."""

    status_call: Final = f"gRPC {grpc_messages.STATUS}"
    run_call: Final = f"gRPC {grpc_messages.RUN}"

    def __init__(self, models: GrpcModels, http: GuardedHttp) -> None:
        """`http` tells which addresses may be contacted: nodes must be, wherever they are."""
        self._models = models
        self._http = http

    async def status(self, address: str, *, limits: Limits) -> Reply:
        """A message that is none of `ModzyModel` counts as a body that is no JSON."""
        answer = await self._call(address, grpc_messages.STATUS, grpc_messages.EMPTY, limits)
        return _reply(answer, malformed=200)

    async def shutdown(self, address: str, *, limits: Limits) -> Reply:
        answer = await self._call(address, grpc_messages.SHUTDOWN, grpc_messages.EMPTY, limits)
        return _reply(answer)

    async def run(self, address: str, body: bytes, *, name: str, limits: Limits) -> Reply:
        """`body` becomes the input `name`; the results come back as they are, else all outputs."""
        reply, files = await self.exchange(address, {name: body}, limits=limits)
        if reply.status != 200 or reply.is_truncated:
            return reply
        if RESULTS in files:
            return json_reply(reply.status, files[RESULTS])
        outputs = {file: shown(content) for file, content in files.items()}
        return json_reply(reply.status, json.dumps(outputs).encode())

    async def exchange(
        self, address: str, files: Mapping[str, bytes], *, limits: Limits
    ) -> tuple[Reply, Mapping[str, bytes]]:
        """One input of `files` and the files that the model makes of it.

        The body of a success is empty: there is nothing in it that is not in a file.
        """
        request = grpc_messages.run_request(files)
        answer = await self._call(address, grpc_messages.RUN, request, limits)
        reply = _reply(answer)
        if reply.status != 200 or reply.is_truncated:
            return reply, {}
        try:
            return _judged(reply, grpc_messages.read_outputs(answer.message))
        except Malformed as error:
            return _no_message(error, 500), {}

    async def _call(self, address: str, method: str, request: bytes, limits: Limits) -> Answer:
        hosts, port = await self._http.pinned(address)
        return await self._models.call(
            hosts[0], port, method, request, total_s=limits.total_s, max_bytes=limits.body_max_bytes
        )


class ModelClient:
    """What is said to the model in a container, and heard of it. Remembers nothing."""

    def __init__(self, store: Store, logs: Logs, dialects: Mapping[ModelProtocol, Dialect]) -> None:
        """`dialects`: one for every protocol."""
        self._store = store
        self._logs = logs
        self._dialects = dialects

    def dialect(self, container: Container) -> Dialect:
        protocol = container.spec.labels.get(PROTOCOL_LABEL, ModelProtocol.REST)
        return self._dialects[ModelProtocol(protocol)]

    async def address(self, container: Container) -> str:
        """Where the model listens, as the platform reaches it: `http://host:port`.

        Raises NotFound when it has no port.
        """
        port = model_port(container.spec)
        bound = next((each for each in container.ports if each.internal == port), None)
        if bound is None or container.node is None:
            raise NotFound(f"Port {port} of container {container.name} is not published.")
        node = await self._store.get(Node, container.node, org=EVERY_ORG)
        host = f"[{node.address}]" if ":" in node.address else node.address
        return f"http://{host}:{bound.host}"

    async def status(self, container: Container, *, limits: Limits) -> Reply:
        """Ask the model how it is. Raises Unreachable when there is no answer."""
        address = await self.address(container)
        return await self.dialect(container).status(address, limits=limits)

    async def ask(
        self, container: Container, body: bytes, *, name: str = DEFAULT_INPUT, limits: Limits
    ) -> Reply:
        """Have the model run `body`, its input `name` where inputs have names.

        Raises Unreachable when there is no answer.
        """
        address = await self.address(container)
        return await self.dialect(container).run(address, body, name=name, limits=limits)

    async def unanswered(
        self, caller: Principal, container: Container, error: Unreachable, timeout_s: float
    ) -> ModelRefused:
        """What a run failed of that was not answered, or not within `timeout_s`."""
        technical = await self.last_lines(caller, container)
        call = self.dialect(container).run_call
        if error.facts.get("kind") == "timeout":
            message = f"{call} was not answered within {timeout_s:g} s."
            return RunTimedOut(message, technical=technical)
        return RunFailed(f"{call} failed: {error.message}", technical=technical)

    async def refused(self, caller: Principal, container: Container, reply: Reply) -> ModelRefused:
        """What a run failed of whose answer is not 2xx."""
        body = reply.body[:SHOWN_CHARACTERS].decode(errors="replace")
        message = f"{self.dialect(container).run_call} answered {reply.status}: {body}"
        wait = reply.headers.get("retry-after")
        told = [message, *([] if wait is None else [f"Retry-After: {wait[:SHOWN_CHARACTERS]}"])]
        told.append(await self.last_lines(caller, container))
        return RunFailed(message, technical="\n".join(told))

    async def last_lines(self, caller: Principal, container: Container) -> str:
        """What it wrote last, or why that cannot be told."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(LOG_S):
                reading: Any = self._logs.read(caller, container.uuid, tail=LOG_LINES)
                async with aclosing(reading) as entries:
                    async for entry in entries:
                        lines.append(entry.text)
        except TimeoutError:
            lines.append("(the rest of the log did not come in time)")
        except YardError as error:
            return f"(the log cannot be read: {error.message})"
        return "".join(lines)[-LOG_CHARACTERS:] or "(the container wrote nothing)"

    async def shut_down(self, container: Container) -> str | None:
        """Ask the model to end; None when it agreed, else why not. Never raises for the model."""
        limits = Limits(total_s=SHUTDOWN_S, body_max_bytes=4096, redirects=0)
        try:
            address = await self.address(container)
            reply = await self.dialect(container).shutdown(address, limits=limits)
        except (Unreachable, NotFound) as error:
            return error.message
        return None if 200 <= reply.status < 300 else f"The shutdown was answered {reply.status}."


def _reply(answer: Answer, *, malformed: int = 500) -> Reply:
    """`malformed` is the status for a message that is none of `ModzyModel`."""
    if answer.is_too_large:
        return json_reply(200, b"", is_truncated=True)
    if answer.code != OK:
        body = {"grpcStatus": answer.code, "message": answer.details}
        return json_reply(HTTP_STATUSES.get(answer.code, 500), json.dumps(body).encode())
    try:
        outcome = grpc_messages.read_outcome(answer.message)
    except Malformed as error:
        return _no_message(error, malformed)
    body = {"status": outcome.status, "message": outcome.message}
    return json_reply(outcome.status_code, json.dumps(body).encode())


def _no_message(error: Malformed, status: int) -> Reply:
    return json_reply(status, f"(this is no message of ModzyModel: {error})".encode())


def _judged(reply: Reply, outputs: list[Output]) -> tuple[Reply, Mapping[str, bytes]]:
    files = outputs[0].files if outputs else {}
    if outputs and not outputs[0].is_success:
        why = files.get(grpc_messages.FAILURE, b"the output is marked as a failure")
        return json_reply(500, why), {}
    return json_reply(reply.status, b""), files
