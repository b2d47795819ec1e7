"""What we take from the Docker SDK: its HTTP session and its exceptions. Nobody else imports it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from socket import AF_UNIX, SHUT_RDWR, socket
from typing import Any

import docker
from docker import errors as sdk
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import kwargs_from_env
from requests import exceptions as http
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError as TransportError

from pipeline.errors import EngineError, EngineUnavailable, Misconfigured, YardError

OLDEST_API = (1, 41)
"""Docker 20.10. A newer engine is spoken to in the oldest dialect that it still accepts."""

_CONNECTIONS = 128
"""Kept open to one engine: more than all threads of a link can use at once."""


Client = docker.APIClient


def connect(docker_host: str, wires: Wires) -> Client:
    """A session that has not contacted the engine yet. Its connections are known to `wires`.

    `docker_host` empty: DOCKER_HOST and its companions for TLS, then the default socket.
    """
    place: Mapping[str, Any] = {"base_url": docker_host} if docker_host else kwargs_from_env()
    client = Client(version=dotted(OLDEST_API), **place)
    client.trust_env = False  # neither proxies nor .netrc are for an engine
    unix = client.adapters.get("http+docker://")
    if isinstance(unix, UnixHTTPAdapter):
        client.mount("http+docker://", _UnixWires(unix, wires))
    elif unix is None:
        client.mount("http://", _TcpWires(wires))
        client.mount("https://", _TcpWires(wires))
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


class Wires:
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


def _shut_down(connection: Any) -> None:
    if connection is not None and connection.sock is not None:
        try:
            # Not the TLS socket's own shutdown, which takes the socket apart under its reader.
            socket.shutdown(connection.sock, SHUT_RDWR)
        except OSError:
            return  # it is closed already


class _Tracked(HTTPConnectionPool):
    wires: Wires

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        self.wires.take(connection)
        return connection

    def _put_conn(self, connection: Any) -> None:
        self.wires.release()
        super()._put_conn(connection)


class _UnixPool(_Tracked, UnixHTTPConnectionPool):
    """Of a Unix socket."""

    def _new_conn(self) -> Any:
        return _UnixConnection(self.base_url, self.socket_path)


class _UnixConnection(UnixHTTPConnection):
    def connect(self) -> None:
        # Kept at once, so that it is closed when it cannot connect; the SDK's would leak.
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_socket)


class _PlainPool(_Tracked):
    """Of a TCP address."""


class _TlsPool(_Tracked, HTTPSConnectionPool):
    """Of a TCP address with TLS."""


class _UnixWires(UnixHTTPAdapter):
    """One pool. The SDK's keeps one per URL, so that a connection is hardly ever used twice."""

    def __init__(self, like: UnixHTTPAdapter, wires: Wires) -> None:
        super().__init__(f"http+unix://{like.socket_path}", like.timeout)
        self._pool = _UnixPool("http+docker://", like.socket_path, like.timeout, _CONNECTIONS)
        self._pool.wires = wires

    def get_connection(self, url: str | bytes, proxies: Any = None) -> UnixHTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class _TcpWires(HTTPAdapter):
    def __init__(self, wires: Wires) -> None:
        super().__init__(pool_maxsize=_CONNECTIONS)
        pools: Any = {"http": _maker(_PlainPool, wires), "https": _maker(_TlsPool, wires)}
        self.poolmanager.pool_classes_by_scheme = pools


def _maker(kind: type[_Tracked], wires: Wires) -> Callable[..., _Tracked]:
    def make(*args: Any, **settings: Any) -> _Tracked:
        pool = kind(*args, **settings)
        pool.wires = wires
        return pool

    return make


# --- errors -----------------------------------------------------------------------------------

KINDS: Mapping[type[Exception], type[YardError]] = {
    **dict.fromkeys(
        (
            http.ConnectionError,
            http.ConnectTimeout,
            http.ReadTimeout,
            http.Timeout,
            http.ProxyError,
            http.SSLError,
            http.ChunkedEncodingError,
            http.ContentDecodingError,
            http.RetryError,
            http.UnrewindableBodyError,
            TransportError,
        ),
        EngineUnavailable,
    ),
    **dict.fromkeys(
        (
            http.InvalidURL,
            http.InvalidSchema,
            http.MissingSchema,
            http.URLRequired,
            http.InvalidProxyURL,
            http.InvalidHeader,
            sdk.DockerException,
            sdk.InvalidVersion,
            sdk.InvalidConfigFile,
            sdk.TLSParameterError,
            sdk.MissingContextParameter,
            sdk.ContextAlreadyExists,
            sdk.ContextException,
            sdk.ContextNotFound,
        ),
        Misconfigured,
    ),
    **dict.fromkeys(
        (
            http.RequestException,
            http.HTTPError,
            http.InvalidJSONError,
            http.JSONDecodeError,
            http.StreamConsumedError,
            http.TooManyRedirects,
            sdk.APIError,
            sdk.NotFound,
            sdk.ImageNotFound,
            sdk.InvalidRepository,
            sdk.InvalidArgument,
            sdk.DeprecatedMethod,
            sdk.NullResource,
            sdk.ContainerError,
            sdk.StreamParseError,
            sdk.BuildError,
            sdk.ImageLoadError,
        ),
        EngineError,
    ),
}
"""Every exception of the SDK and of the HTTP library below it, and what it is for us."""

FOREIGN = tuple(KINDS)
"""For `except`: anything else is a fault of our own and stays what it is."""


def translate(error: Exception, where: str) -> YardError:
    """What a foreign exception means. `where`: the engine's address, for the message."""
    kind = next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
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
