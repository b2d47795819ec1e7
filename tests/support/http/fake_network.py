"""A network that no packet leaves: names, addresses and ASGI applications behind them."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import httpx

from pipeline.addresses import Ip


@dataclass(frozen=True, slots=True)
class Contact:
    """One request as it arrived at an address."""

    address: str
    method: str
    url: str
    headers: httpx.Headers


@dataclass(frozen=True, slots=True)
class _Listener:
    transport: httpx.AsyncBaseTransport
    speaks_tls: bool
    certificate_is_good: bool


class FakeNetwork(httpx.AsyncBaseTransport):
    """A transport that goes to the `pinned` address of a request, and the resolver beside it."""

    def __init__(self) -> None:
        self.contacts: list[Contact] = []
        self.asked_names: list[str] = []
        self._names: dict[str, list[str]] = {}
        self._changing: dict[str, list[list[str]]] = {}
        self._listeners: dict[tuple[str, int], _Listener] = {}

    def name(self, host: str, *addresses: str) -> None:
        self._names[host] = list(addresses)

    def name_changing(self, host: str, *answers: str) -> None:
        """A name that resolves to the next answer each time, and stays at the last one."""
        self._changing[host] = [[answer] for answer in answers]

    def listen(
        self,
        address: str,
        port: int,
        app: object | httpx.AsyncBaseTransport,
        *,
        tls: bool = True,
        good_certificate: bool = True,
    ) -> None:
        is_transport = isinstance(app, httpx.AsyncBaseTransport)
        transport = app if is_transport else httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        assert isinstance(transport, httpx.AsyncBaseTransport)
        self._listeners[address, port] = _Listener(transport, tls, good_certificate)

    async def resolve(self, host: str) -> Sequence[Ip]:
        self.asked_names.append(host)
        if host in self._changing:
            answers = self._changing[host]
            found = answers.pop(0) if len(answers) > 1 else answers[0]
        elif host in self._names:
            found = self._names[host]
        else:
            raise OSError(f"no such name: {host}")
        return [ip_address(text) for text in found]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        is_tls = request.url.scheme == "https"
        address = request.extensions["pinned"][0]
        self.contacts.append(
            Contact(address, request.method, str(request.url), httpx.Headers(request.headers))
        )
        listener = self._listeners.get((address, request.url.port or (443 if is_tls else 80)))
        if listener is None:
            raise _connect_error(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        if is_tls and not listener.speaks_tls:
            raise _connect_error(ssl.SSLError(1, "wrong version number"))
        if is_tls and not listener.certificate_is_good:
            raise _connect_error(ssl.SSLCertVerificationError(1, "certificate verify failed"))
        if not is_tls and listener.speaks_tls:
            return httpx.Response(400, text="Client sent an HTTP request to an HTTPS server.\n")
        return await listener.transport.handle_async_request(request)


def _connect_error(cause: OSError) -> httpx.ConnectError:
    error = httpx.ConnectError(str(cause))
    error.__cause__ = cause
    return error
