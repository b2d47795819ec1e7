"""How a model in a container is spoken to: one dialect for each protocol that images speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from pipeline.adapters.http_guard import GuardedHttp, Limits, Reply

PROTOCOL_LABEL: Final = "model.protocol"
"""On a container: which dialect its model speaks."""

JSON: Final = "application/json"


class Dialect(Protocol):
    """The three calls that every model answers, at `address` (`http://host:port`).

    Another protocol's answer is put into the words of HTTP: its own code as the status, its output
    as a JSON body. Raises RegistryUnavailable, with `facts["kind"]`, when there is no answer.
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


@runtime_checkable
class FileDialect(Dialect, Protocol):
    """Files travel in the call. With other dialects they have to lie in the container."""

    async def exchange(
        self, address: str, files: Mapping[str, bytes], *, limits: Limits
    ) -> tuple[Reply, Mapping[str, bytes]]:
        """Have the model run `files`; the outputs by name, when it did."""
        ...


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
