"""Every exception of httpx has a place in our tree."""

from __future__ import annotations

import errno
import ssl
from typing import get_args

import httpx
import pytest

from pipeline.adapters.http import faults
from pipeline.adapters.http.connection import Unanswered
from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import GuardedResolver, Rules
from pipeline.errors import Unreachable
from tests.support.http.fake_network import FakeNetwork

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
    error = faults.translate(instance(kind), "h.example")
    assert isinstance(error, Unreachable)
    assert error.facts["kind"] in get_args(faults.Kind)
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

    http = GuardedHttp(Broken(), GuardedResolver(FakeNetwork().resolve, Rules(allow_local=False)))
    with pytest.raises(Unreachable):
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
    assert faults.kind_of(error) == kind


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
    assert faults.kind_of(error) == kind


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ("https://r.example/v2/", "r.example:443"),
        ("http://r.example", "r.example:80"),
        ("http://[::1]/", "[::1]:80"),
        ("http://r.example:5000/", "r.example:5000"),
        ("https://r.example:443/", "r.example:443"),
        ("ftp://r.example/", "r.example"),
    ],
)
def test_whoever_cannot_be_reached_is_named_with_its_port(where: str, place: str) -> None:
    error = faults.unavailable(httpx.URL(where), "refused")
    assert error.message == f"{place} cannot be reached: it refuses the connection."
