"""Calls that are passed on to the model in a running container, straight to its node.

Bodies of any size flow there and back with the back pressure of TCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import TypeVar

from pipeline import errors
from pipeline.adapters.http.streaming import StreamedAnswer, StreamingHttp
from pipeline.containers.service import Containers
from pipeline.models.runtime.client import ModelClient
from pipeline.models.runtime.container_spec import (
    IDENTIFIER_LABEL,
    PROTOCOL_LABEL,
    VERSION_LABEL,
    ModelProtocol,
    model_port,
)
from pipeline.models.runtime.starts import UP
from schemas.access import Principal
from schemas.container import Container

T = TypeVar("T")

DESCRIBES = (
    "content-type",
    "content-length",
    "content-encoding",
    "accept",
    "accept-language",
    "inference-header-content-length",  # where Triton's binary tensors begin
)
"""What of a request's headers the container sees: never who the caller is."""

Holding = Callable[[Container], AbstractAsyncContextManager[None]]
"""Keeps a container from counting as idle."""


class ContainerCalls:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        containers: Containers,
        http: StreamingHttp,
        client: ModelClient,
        holding: Holding,
        *,
        timeout_s: float,
    ) -> None:
        """`http` must be allowed to contact nodes."""
        self._containers = containers
        self._http = http
        self._client = client
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
    ) -> AsyncIterator[StreamedAnswer]:
        """`POST /run` of the container, whatever it answers; see `StreamingHttp.post`.

        Of `headers`, in lower case, those count that describe the content. Raises NotFound,
        Conflict unless it runs and has a port, and the CallFailed family, also while the pieces
        of the answer are read.
        """
        limit_s = min(timeout_s or self._timeout_s, self._timeout_s)
        container = await self._containers.get(caller, uuid)
        url = await self._url(container)
        passed = {name: headers[name] for name in DESCRIBES if name in headers}
        call = _Call(self._containers, caller, container, limit_s)
        async with self._holding(container), AsyncExitStack() as stack:
            posting = self._http.post(url, headers=passed, content=content)
            called = await call.limited(stack.enter_async_context(posting))
            yield StreamedAnswer(called.status, called.headers, call.pieces(called))

    async def _url(self, container: Container) -> str:
        if container.status not in UP:
            raise errors.Conflict(
                f"The container {container.name} is {container.status}: only one that runs can be"
                " called."
            )
        labels = container.spec.labels
        if labels.get(PROTOCOL_LABEL, ModelProtocol.REST) != ModelProtocol.REST:
            model, version = labels.get(IDENTIFIER_LABEL), labels.get(VERSION_LABEL)
            raise errors.Conflict(
                "The model in the container does not speak HTTP: call its version, POST"
                f" /api/models/{model}/versions/{version}/run."
            )
        try:
            return await self._client.address(container) + "/run"
        except errors.NotFound as error:
            raise errors.Conflict(f"The container cannot be called: {error.message}") from error


class _Call:
    """The deadline of one call, and its errors in the words of callers."""

    def __init__(
        self, containers: Containers, caller: Principal, container: Container, limit_s: float
    ) -> None:
        self._containers = containers
        self._caller = caller
        self._container = container
        self._limit_s = limit_s
        self._deadline = asyncio.get_running_loop().time() + limit_s

    async def pieces(self, called: StreamedAnswer) -> AsyncGenerator[bytes]:
        async with aclosing(called.pieces) as source:
            while piece := await self.limited(anext(source, b"")):
                yield piece

    async def limited(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await step
        except TimeoutError as error:
            raise errors.CallTimedOut(
                f"The call of the container {self._container.name} was not over within"
                f" {self._limit_s:g} s."
            ) from error
        except errors.Unreachable as error:
            raise await self._explained(error) from error

    async def _explained(self, error: errors.Unreachable) -> errors.CallFailed:
        port, name = model_port(self._container.spec), f"The container {self._container.name}"
        state = await self._state()
        if error.facts.get("kind") in ("refused", "dns", "timeout"):
            return errors.NotListening(f"{name} takes no connections on port {port}{state}.")
        if error.facts.get("is_silent"):
            return errors.CallFailed(
                f"{name} closed the connection without an answer{state}: does it listen on port"
                f" {port}, and speak HTTP?"
            )
        return errors.CallFailed(f"{name} broke off, or does not answer as HTTP demands{state}.")

    async def _state(self) -> str:
        """Empty while it runs."""
        try:
            now = await self._containers.get(self._caller, self._container.uuid)
        except errors.NotFound:
            return "; it was removed"
        if now.status in UP:
            return ""
        return f"; it is {now.status}" + (f" ({now.reason})" if now.reason else "")
