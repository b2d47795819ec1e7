"""The map from the SDK's world into ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType

import docker.errors
import pytest
import requests.exceptions
import urllib3.exceptions
from requests import Response

from pipeline.adapters.engine import client as engine_client
from pipeline.adapters.engine.client import explain, negotiate, refusal, translate
from pipeline.errors import (
    AlreadyExists,
    ContainerMissing,
    CreateFailed,
    DiskFull,
    EngineError,
    EngineUnavailable,
    ImageMissing,
    Misconfigured,
    PathMissing,
    PortTaken,
    StartFailed,
    YardError,
)

KINDS: Mapping[type[Exception], type[YardError]] = {
    **dict.fromkeys(
        (
            requests.exceptions.ConnectionError,
            requests.exceptions.ConnectTimeout,
            requests.exceptions.ReadTimeout,
            requests.exceptions.Timeout,
            requests.exceptions.ProxyError,
            requests.exceptions.SSLError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
            requests.exceptions.RetryError,
            requests.exceptions.UnrewindableBodyError,
            urllib3.exceptions.HTTPError,
        ),
        EngineUnavailable,
    ),
    **dict.fromkeys(
        (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
            requests.exceptions.URLRequired,
            requests.exceptions.InvalidProxyURL,
            requests.exceptions.InvalidHeader,
            docker.errors.DockerException,
            docker.errors.InvalidVersion,
            docker.errors.InvalidConfigFile,
            docker.errors.TLSParameterError,
            docker.errors.MissingContextParameter,
            docker.errors.ContextAlreadyExists,
            docker.errors.ContextException,
            docker.errors.ContextNotFound,
        ),
        Misconfigured,
    ),
    **dict.fromkeys(
        (
            requests.exceptions.RequestException,
            requests.exceptions.HTTPError,
            requests.exceptions.InvalidJSONError,
            requests.exceptions.JSONDecodeError,
            requests.exceptions.StreamConsumedError,
            requests.exceptions.TooManyRedirects,
            docker.errors.APIError,
            docker.errors.NotFound,
            docker.errors.ImageNotFound,
            docker.errors.InvalidRepository,
            docker.errors.InvalidArgument,
            docker.errors.DeprecatedMethod,
            docker.errors.NullResource,
            docker.errors.ContainerError,
            docker.errors.StreamParseError,
            docker.errors.BuildError,
            docker.errors.ImageLoadError,
        ),
        EngineError,
    ),
}


def exceptions_of(module: ModuleType) -> Iterator[type[Exception]]:
    for value in vars(module).values():
        if getattr(value, "__module__", "") != module.__name__ or not isinstance(value, type):
            continue
        if issubclass(value, Exception) and not issubclass(value, Warning):
            yield value


def test_every_exception_of_the_sdk_and_its_http_library_is_mapped_on_purpose() -> None:
    foreign = {*exceptions_of(docker.errors), *exceptions_of(requests.exceptions)}
    assert foreign == KINDS.keys() - {urllib3.exceptions.HTTPError}


def test_every_exception_of_the_transport_is_an_engine_that_does_not_answer() -> None:
    other = {
        kind
        for kind in exceptions_of(urllib3.exceptions)
        if not issubclass(kind, engine_client.FOREIGN)
    }
    assert other == {urllib3.exceptions.ProxySchemeUnsupported}, "no proxy is used"
    error = urllib3.exceptions.ProtocolError("Connection broken")
    assert isinstance(translate(error, "unix:///e"), EngineUnavailable)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_each_exception_becomes_its_kind(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    error.args = ("words",)
    for name in ("msg", "param", "name", "explanation", "response"):
        if not isinstance(getattr(kind, name, None), property):
            error.__dict__.setdefault(name, None if name == "response" else "words")
    assert type(translate(error, "unix:///e")) is KINDS[kind]


def test_a_missing_socket_is_named_in_plain_words() -> None:
    refused = urllib3.exceptions.ProtocolError(
        "Connection aborted.", FileNotFoundError(2, "No such file or directory")
    )
    said = translate(requests.exceptions.ConnectionError(refused), "unix:///e").message
    assert said == "The Docker Engine at unix:///e does not answer: No such file or directory."


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "No such container: my-1", ContainerMissing),
        (404, "No such image: team/model:1", ImageMissing),
        (404, "Could not find the file /x in container my-1", PathMissing),
        (409, 'Conflict. The name "/my-1" is already in use by container "ab12".', AlreadyExists),
        (409, "removal of container my-1 is already in progress", ContainerMissing),
        (409, "container is marked for removal and cannot be started", ContainerMissing),
        (
            500,
            "driver failed programming external connectivity on endpoint my-1 (ab): "
            "Bind for 127.0.0.1:8080 failed: port is already allocated",
            PortTaken,
        ),
        (
            500,
            "Error starting userland proxy: listen tcp4 127.0.0.1:8080: "
            "bind: address already in use",
            PortTaken,
        ),
        (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", DiskFull),
        (503, "engine is starting", EngineUnavailable),
        (400, "Minimum memory limit allowed is 6MB", CreateFailed),
        (500, "oops", CreateFailed),
    ],
)
def test_a_refusal_is_read_from_its_status_and_words(
    status: int, message: str, kind: type[YardError]
) -> None:
    error = explain(status, message, CreateFailed)
    assert type(error) is kind
    assert error.facts["engine"] == message


def test_a_taken_port_is_told_which() -> None:
    error = explain(500, "Bind for 0.0.0.0:8080 failed: port is already allocated", StartFailed)
    assert "0.0.0.0:8080" in error.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message": "bad parameter"}', "bad parameter"),
        (b"plain words", "plain words"),
        (b"[1]", "[1]"),
        (b"", "status 400"),
    ],
)
def test_the_words_of_a_refusal_are_found_in_any_body(body: bytes, words: str) -> None:
    answer = Response()
    answer.status_code, answer._content = 400, body
    assert words in refusal(answer, EngineError).message


@pytest.mark.parametrize(
    ("offer", "version"),
    [
        ({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}, "1.41"),
        ({"ApiVersion": "1.47", "MinAPIVersion": "1.24"}, "1.41"),
        ({"ApiVersion": "1.52", "MinAPIVersion": "1.44"}, "1.44"),
        ({"ApiVersion": "1.41"}, "1.41"),
    ],
)
def test_the_oldest_dialect_that_both_know_is_spoken(offer: dict[str, str], version: str) -> None:
    assert negotiate(offer) == version


def test_an_engine_that_is_too_old_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"1\.40.*upgrade"):
        negotiate({"ApiVersion": "1.40", "MinAPIVersion": "1.12"})
