"""What we take from the Docker SDK: its HTTP session and its exceptions. Nobody else imports it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import docker
from docker import errors as sdk
from docker.transport import UnixHTTPAdapter
from docker.utils import kwargs_from_env
from requests import Response
from requests import exceptions as http
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

_CONNECTIONS = 64
"""Kept open to one engine: more than all threads of a link can use at once."""


Client = docker.APIClient


def connect(docker_host: str, *, connect_s: float) -> Client:
    """A session that has not contacted the engine yet.

    `docker_host` empty: DOCKER_HOST and its companions for TLS, then the default socket.
    """
    place: Mapping[str, Any] = {"base_url": docker_host} if docker_host else kwargs_from_env()
    client = Client(
        version=dotted(OLDEST_API), timeout=int(connect_s), max_pool_size=_CONNECTIONS, **place
    )
    client.trust_env = False  # neither proxies nor .netrc are for an engine
    unix = client.adapters.get("http+docker://")
    if isinstance(unix, UnixHTTPAdapter):
        client.mount("http+docker://", _OnePool(unix))
    return client


class _OnePool(UnixHTTPAdapter):
    """The SDK keeps a pool per URL, so that a connection is hardly ever used twice."""

    def __init__(self, like: UnixHTTPAdapter) -> None:
        super().__init__(
            f"http+unix://{like.socket_path}", like.timeout, max_pool_size=like.max_pool_size
        )

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://engine", proxies)


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
            sdk.DockerException,
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
        return kind(f"The Docker Engine at {where} does not answer: {_first_line(error)}.")
    if kind is Misconfigured:
        return kind(f"The engine address {where} cannot be used: {_first_line(error)}.")
    return kind(f"The Docker Engine at {where} answered oddly: {_first_line(error)}.")


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
    ((404,), r"no such image", ImageMissing, "The image is not on the engine: pull it first."),
    ((404,), r"could not find the file", PathMissing, "The container has no such path."),
    ((503,), r"", EngineUnavailable, "The engine is not ready: {message}"),
)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
