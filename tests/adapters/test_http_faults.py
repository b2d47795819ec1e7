"""Every exception of httpx has a place in our tree."""

from __future__ import annotations

import errno
import ssl
from typing import get_args

import httpx
import pytest

from pipeline.adapters import http_faults
from pipeline.adapters.http_guard import GuardedHttp
from pipeline.adapters.http_names import Names, Rules
from pipeline.adapters.http_wire import Unanswered
from pipeline.errors import RegistryUnavailable
from tests.support.fake_network import FakeNetwork

CLASSES = [
    value
    for name in httpx.__all__
    if isinstance(value := getattr(httpx, name), type) and issubclass(value, Exception)
]


def instance(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "secret=hunter2")
    return error


def test_there_are_exceptions_to_check() -> None:
    assert len(CLASSES) > 25


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_becomes_one_of_ours(kind: type[Exception]) -> None:
    error = http_faults.translate(instance(kind), "h.example")
    assert isinstance(error, RegistryUnavailable)
    assert error.facts["kind"] in get_args(http_faults.Kind)
    assert "hunter2" not in error.message


@pytest.mark.parametrize(
    "kind",
    [kind for kind in CLASSES if issubclass(kind, httpx.HTTPError | httpx.StreamError)],
    ids=lambda kind: kind.__name__,
)
async def test_nothing_that_a_transport_raises_gets_out(kind: type[Exception]) -> None:
    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise instance(kind)

    http = GuardedHttp(Broken(), Names(FakeNetwork().resolve, Rules(allow_local=False)))
    with pytest.raises(RegistryUnavailable):
        await http.request("GET", "https://8.8.8.8/")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("x"), "timeout"),
        (httpx.ReadTimeout("x"), "timeout"),
        (httpx.PoolTimeout("x"), "timeout"),
        (httpx.RemoteProtocolError("x"), "protocol"),
        (Unanswered("x"), "protocol"),
        (httpx.TooManyRedirects("x"), "redirect"),
        (httpx.ReadError("x"), "other"),
        (httpx.ConnectError("x"), "other"),
    ],
)
def test_kinds_by_class(error: Exception, kind: str) -> None:
    assert http_faults.kind_of(error) == kind


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "refused"),
        (ConnectionAbortedError("cut short in the handshake"), "refused"),
        (ssl.SSLError(1, "x"), "tls"),
        (ssl.SSLCertVerificationError(1, "x"), "tls"),
        (OSError(errno.ENETUNREACH, "x"), "other"),
    ],
)
def test_kinds_of_failed_connections_by_their_cause(cause: OSError, kind: str) -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = cause
    assert http_faults.kind_of(error) == kind
