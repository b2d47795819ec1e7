"""How a model in a container is spoken to: one dialect for each protocol that images speak."""

from __future__ import annotations

from typing import Final, Protocol

from pipeline.adapters.http_guard import GuardedHttp, Limits, Reply

REST: Final = "rest"
"""The protocol of images that do not name another one."""
PROTOCOL_LABEL: Final = "model.protocol"
"""On a container: which dialect its model speaks."""

JSON: Final = "application/json"


class Dialect(Protocol):
    """The three calls that every model answers, at `address` (`http://host:port`).

    Another protocol's answer is put into the words of HTTP: its own code as the status, its output
    as a JSON body. Raises RegistryUnavailable, with `facts["kind"]`, when there is no answer.
    """

    async def status(self, address: str, *, limits: Limits) -> Reply: ...

    async def run(self, address: str, body: bytes, *, limits: Limits) -> Reply:
        """`body` is a JSON object."""
        ...

    async def shutdown(self, address: str, *, limits: Limits) -> Reply: ...


class RestDialect:
    """`GET /status`, `POST /run` and `POST /shutdown`."""

    def __init__(self, http: GuardedHttp) -> None:
        """`http` must be allowed to contact nodes, wherever they are."""
        self._http = http

    async def status(self, address: str, *, limits: Limits) -> Reply:
        return await self._http.request("GET", f"{address}/status", limits=limits)

    async def run(self, address: str, body: bytes, *, limits: Limits) -> Reply:
        kind = {"Content-Type": JSON}
        url = f"{address}/run"
        return await self._http.request("POST", url, headers=kind, content=body, limits=limits)

    async def shutdown(self, address: str, *, limits: Limits) -> Reply:
        return await self._http.request("POST", f"{address}/shutdown", limits=limits)
