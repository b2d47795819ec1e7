"""What we take from the Docker SDK, its HTTP session and its exceptions, and what refusals mean.

Nobody else imports the SDK, but `building` how it packs a context.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from socket import AF_UNIX, SHUT_RDWR, socket
from typing import Any

import docker
from docker import errors as sdk
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import kwargs_from_env
from requests import Response
from requests import exceptions as http
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError as TransportError

from pipeline.errors import (
    AlreadyExists,
    ContainerMissing,
    DiskFull,
    EngineError,
    EngineUnavailable,
    ImageMissing,
    Misconfigured,
    PathMissing,
    PortTaken,
    YardError,
)

OLDEST_API = (1, 41)
"""Docker 20.10. A newer engine is spoken to in the oldest dialect that it still accepts."""

_CONNECTIONS = 128
"""Kept open to one engine: more than all threads of a link can use at once."""
Client = docker.APIClient


def connect(docker_host: str, connections: Connections) -> Client:
    """A session that has not contacted the engine yet. Its connections are known to `connections`.

    `docker_host` empty: DOCKER_HOST and its companions for TLS, then the default socket.
    """
    place: Mapping[str, Any] = {"base_url": docker_host} if docker_host else kwargs_from_env()
    client = Client(version=dotted(OLDEST_API), **place)
    client.trust_env = False  # neither proxies nor .netrc are for an engine
    unix = client.adapters.get("http+docker://")
    if isinstance(unix, UnixHTTPAdapter):
        client.mount("http+docker://", _UnixAdapter(unix, connections))
    elif unix is None:
        client.mount("http://", _TcpAdapter(connections))
        client.mount("https://", _TcpAdapter(connections))
    return client


def negotiate(offer: Mapping[str, Any]) -> str:
    """The API version to speak, from an engine's answer to /version.

    Raises Misconfigured when the engine is older than OLDEST_API.
    """
    newest = parse_version(offer.get("ApiVersion", "0.0"))
    if newest < OLDEST_API:
        raise Misconfigured(
            f"The engine speaks API {dotted(newest)}; at least {dotted(OLDEST_API)} is needed: "
            "upgrade to Docker 20.10 or newer."
        )
    return dotted(max(OLDEST_API, parse_version(offer.get("MinAPIVersion", "0.0"))))


def parse_version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


# --- connections ------------------------------------------------------------------------------


class Connections:
    """Which thread is using which connection, so that one that blocks can be woken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_use: dict[int, Any] = {}

    def take(self, connection: Any) -> None:
        with self._lock:
            self._in_use[threading.get_ident()] = connection

    def release(self) -> None:
        with self._lock:
            self._in_use.pop(threading.get_ident(), None)

    def wake(self, thread: int) -> None:
        """Shuts its connection down in both directions: it fails, and the engine notices."""
        with self._lock:
            _shut_down(self._in_use.get(thread))

    def wake_all(self) -> int:
        """Returns how many there were."""
        with self._lock:
            for connection in self._in_use.values():
                _shut_down(connection)
            return len(self._in_use)


@dataclass(frozen=True, slots=True)
class BareConnection:
    sock: Any


def bare_connection(answer: Response) -> BareConnection:
    """Under an answer that ends with its connection, which the library keeps to itself."""
    reader: Any = answer.raw._fp
    return BareConnection(reader.fp.raw._sock)


def _shut_down(connection: Any) -> None:
    if connection is not None and connection.sock is not None:
        try:
            # Not the TLS socket's own shutdown, which takes the socket apart under its reader.
            socket.shutdown(connection.sock, SHUT_RDWR)
        except OSError:
            return  # it is closed already


class _TrackedPool(HTTPConnectionPool):
    def __init__(self, *place: Any, connections: Connections, **settings: Any) -> None:
        super().__init__(*place, **settings)
        self._connections = connections

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        self._connections.take(connection)
        return connection

    def _put_conn(self, connection: Any) -> None:
        self._connections.release()
        super()._put_conn(connection)


class _UnixPool(_TrackedPool, UnixHTTPConnectionPool):
    """Of a Unix socket."""

    def _new_conn(self) -> Any:
        return _UnixConnection(self.base_url, self.socket_path)


class _UnixConnection(UnixHTTPConnection):
    def connect(self) -> None:
        # Kept at once, so that it is closed when it cannot connect; the SDK's would leak.
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_socket)


class _TlsPool(_TrackedPool, HTTPSConnectionPool):
    """Of a TCP address with TLS."""


class _UnixAdapter(UnixHTTPAdapter):
    """One pool. The SDK's keeps one per URL, so that a connection is hardly ever used twice."""

    def __init__(self, like: UnixHTTPAdapter, connections: Connections) -> None:
        super().__init__(f"http+unix://{like.socket_path}", like.timeout)
        place = ("http+docker://", like.socket_path, like.timeout, _CONNECTIONS)
        self._pool = _UnixPool(*place, connections=connections)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> UnixHTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class _TcpAdapter(HTTPAdapter):
    def __init__(self, connections: Connections) -> None:
        super().__init__(pool_maxsize=_CONNECTIONS)
        pools: Any = {
            "http": partial(_TrackedPool, connections=connections),
            "https": partial(_TlsPool, connections=connections),
        }
        self.poolmanager.pool_classes_by_scheme = pools


# --- errors -----------------------------------------------------------------------------------

_KINDS: Mapping[type[Exception], type[YardError]] = {
    TransportError: EngineUnavailable,
    http.ConnectionError: EngineUnavailable,
    http.Timeout: EngineUnavailable,
    http.ChunkedEncodingError: EngineUnavailable,
    http.ContentDecodingError: EngineUnavailable,
    http.RetryError: EngineUnavailable,
    http.UnrewindableBodyError: EngineUnavailable,
    http.InvalidURL: Misconfigured,
    http.InvalidSchema: Misconfigured,
    http.MissingSchema: Misconfigured,
    http.URLRequired: Misconfigured,
    http.InvalidHeader: Misconfigured,
    sdk.DockerException: Misconfigured,
    http.RequestException: EngineError,
    sdk.InvalidRepository: EngineError,
    sdk.InvalidArgument: EngineError,
    sdk.DeprecatedMethod: EngineError,
    sdk.NullResource: EngineError,
    sdk.ContainerError: EngineError,
    sdk.StreamParseError: EngineError,
    sdk.BuildError: EngineError,
    sdk.ImageLoadError: EngineError,
}
"""What exceptions of the SDK and of the HTTP library below it are for us; others are what the
nearest of their bases is. A test lists them all."""

FOREIGN = tuple(_KINDS)
"""For `except`: anything else is a fault of our own and stays what it is."""


def translate(error: Exception, where: str) -> YardError:
    """What a foreign exception means. `where`: the engine's address, for the message."""
    kind = next(_KINDS[cls] for cls in type(error).__mro__ if cls in _KINDS)
    if kind is EngineUnavailable:
        return kind(f"The Docker Engine at {where} does not answer: {_plainly(error)}.")
    if kind is Misconfigured:
        return kind(f"The engine address {where} cannot be used: {_plainly(error)}.")
    return kind(f"The Docker Engine at {where} answered oddly: {_plainly(error)}.")


def _plainly(error: Exception) -> str:
    """The innermost cause: these libraries wrap errors as arguments of each other."""
    inner = [arg for arg in error.args if isinstance(arg, Exception)]
    if not inner and isinstance(reason := getattr(error, "reason", None), Exception):
        inner = [reason]
    if inner:
        return _plainly(inner[-1])
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said.strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# --- refusals -----------------------------------------------------------------------------------


def refusal(answer: Response, fallback: type[YardError]) -> YardError:
    """What a status of 400 and above means; `fallback` where the engine's words say no more."""
    return explain(answer.status_code, message_of(answer), fallback)


def message_of(answer: Response) -> str:
    try:
        return str(answer.json()["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500]


def explain(status: int, message: str, fallback: type[YardError]) -> YardError:
    """`status` 0: an error in the middle of a stream that began well."""
    lower = message.lower()
    for statuses, words, kind, advice in _MEANINGS:
        if (not statuses or status in statuses) and re.search(words, lower):
            return kind(advice.format(message=message), engine=message)
    return fallback(f"The engine refused: {message or f'status {status}'}", engine=message)


_MEANINGS: tuple[tuple[tuple[int, ...], str, type[YardError], str], ...] = (
    (
        (),
        r"no space left on device|disk quota exceeded",
        DiskFull,
        "The engine's disk is full: free space on the node, then try again.",
    ),
    (
        (),
        r"port is already allocated|address already in use",
        PortTaken,
        "A host port is in use already: choose another. ({message})",
    ),
    ((409,), r"already in use by container", AlreadyExists, "{message}"),
    (
        (409,),
        r"marked for removal|is already in progress|is dead",
        ContainerMissing,
        "The container is being removed.",
    ),
    ((404,), r"no such container", ContainerMissing, "The engine has no such container."),
    (
        (404, 500),
        r"no such image|reference does not exist",
        ImageMissing,
        "The image is not on the engine: pull it first.",
    ),
    ((404,), r"could not find the file", PathMissing, "The container has no such path."),
    ((404,), r"no such volume", PathMissing, "The engine has no such volume."),
    ((503,), r"", EngineUnavailable, "The engine is not ready: {message}"),
)
