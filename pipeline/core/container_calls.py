"""Calls that are passed on to the model in a running container, straight to its node.

They take the way of the load test: to the node's address and the port published there. Bodies of
any size flow along it with the back pressure of TCP, which the broker is not made for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pipeline.adapters.http_calls import Called, HttpCalls
from pipeline.core.model_containers import IDENTIFIER_LABEL, VERSION_LABEL, model_port
from pipeline.core.model_dialects import PROTOCOL_LABEL
from pipeline.core.model_launches import UP
from pipeline.errors import (
    CallFailed,
    CallTimedOut,
    Conflict,
    NotFound,
    NotListening,
    RegistryUnavailable,
)
from pipeline.rules.model_protocols import ModelProtocol
from schemas.access import Principal
from schemas.container import Container

if TYPE_CHECKING:
    from pipeline.core.containers import Containers

T = TypeVar("T")

PATH = "/run"
DESCRIBES = ("content-type", "content-length", "content-encoding", "accept", "accept-language")
"""What of a request's headers the container sees: never who the caller is."""

Address = Callable[[Container], Awaitable[str]]
"""`http://host:port` of a container's model; raises NotFound."""
Holding = Callable[[Container, float], AbstractAsyncContextManager[None]]
"""Keeps a container from counting as idle, for at most some seconds."""
Explain = Callable[[RegistryUnavailable], Awaitable[CallFailed]]


class ContainerCalls:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        containers: Containers,
        http: HttpCalls,
        address: Address,
        holding: Holding,
        *,
        timeout_s: float,
    ) -> None:
        """`http` must be allowed to contact nodes."""
        self._containers = containers
        self._http = http
        self._address = address
        self._holding = holding
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def run(
        self,
        caller: Principal,
        uuid: str,
        *,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes],
        timeout_s: float | None = None,
    ) -> AsyncIterator[Called]:
        """`POST /run` of the container, whatever it answers; see `HttpCalls.post`.

        Of `headers`, in lower case, those count that describe the content. Raises NotFound,
        Conflict unless it runs and has a port, and the CallFailed family, also while the pieces
        of the answer are read.
        """
        limit_s = min(timeout_s or self._timeout_s, self._timeout_s)
        container = await self._containers.get(caller, uuid)
        url = await self._url(container)
        passed = {name: headers[name] for name in DESCRIBES if name in headers}
        explain = partial(self._explain, caller, container)
        call = _Call(container.name, limit_s, explain)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._holding(container, limit_s))
            posting = self._http.post(url, headers=passed, content=content)
            called = await call.limited(stack.enter_async_context(posting))
            yield Called(called.status, called.headers, call.pieces(called))

    async def _url(self, container: Container) -> str:
        if container.status not in UP:
            raise Conflict(
                f"The container {container.name} is {container.status}: only one that runs can be"
                " called."
            )
        labels = container.spec.labels
        if labels.get(PROTOCOL_LABEL, ModelProtocol.REST) != ModelProtocol.REST:
            model, version = labels.get(IDENTIFIER_LABEL), labels.get(VERSION_LABEL)
            raise Conflict(
                "The model in the container does not speak HTTP: call its version, POST"
                f" /api/models/{model}/versions/{version}/run."
            )
        try:
            return await self._address(container) + PATH
        except NotFound as error:
            raise Conflict(f"The container cannot be called: {error.message}") from error

    async def _explain(
        self, caller: Principal, container: Container, error: RegistryUnavailable
    ) -> CallFailed:
        port, name = model_port(container.spec), f"The container {container.name}"
        kind = error.facts.get("kind")
        state = await self._state(caller, container)
        if kind in ("refused", "dns", "timeout"):
            return NotListening(f"{name} takes no connections on port {port}{state}.")
        if error.facts.get("is_silent"):
            return CallFailed(
                f"{name} closed the connection without an answer{state}: does it listen on port"
                f" {port}, and speak HTTP?"
            )
        return CallFailed(f"{name} broke off, or does not answer as HTTP demands{state}.")

    async def _state(self, caller: Principal, container: Container) -> str:
        """Empty while it runs."""
        try:
            now = await self._containers.get(caller, container.uuid)
        except NotFound:
            return "; it was removed"
        if now.status in UP:
            return ""
        return f"; it is {now.status}" + (f" ({now.reason})" if now.reason else "")


class _Call:
    """The deadline of one call, and its errors in the words of callers."""

    def __init__(self, name: str, limit_s: float, explain: Explain) -> None:
        self._name = name
        self._limit_s = limit_s
        self._explain = explain
        self._deadline = asyncio.get_running_loop().time() + limit_s

    async def pieces(self, called: Called) -> AsyncGenerator[bytes]:
        async with aclosing(called.pieces) as source:
            while piece := await self.limited(anext(source, b"")):
                yield piece

    async def limited(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await step
        except TimeoutError as error:
            raise CallTimedOut(
                f"The call of the container {self._name} was not over within {self._limit_s:g} s."
            ) from error
        except RegistryUnavailable as error:
            raise await self._explain(error) from error
