"""Every error of the NATS client has a meaning of ours."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import nats.aio.errors
import nats.errors
import nats.js.errors
import pytest

from pipeline.adapters.bus.connection import ours, translated
from pipeline.errors import (
    BusUnavailable,
    Conflict,
    InvalidInput,
    Misconfigured,
    NotFound,
    TooLarge,
    YardError,
)

NOT_RETRYABLE = {
    nats.errors.AuthorizationError: Misconfigured,
    nats.errors.InvalidUserCredentialsError: Misconfigured,
    nats.errors.SecureConnRequiredError: Misconfigured,
    nats.errors.SecureConnWantedError: Misconfigured,
    nats.errors.SecureConnFailedError: Misconfigured,
    nats.errors.BadSubjectError: InvalidInput,
    nats.errors.BadHeaderError: InvalidInput,
    nats.js.errors.InvalidBucketNameError: InvalidInput,
    nats.js.errors.InvalidObjectNameError: InvalidInput,
    nats.js.errors.InvalidKeyError: InvalidInput,
    nats.errors.MaxPayloadError: TooLarge,
    nats.js.errors.NotFoundError: NotFound,
}


def every_foreign(root: type[Exception] = nats.errors.Error) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from every_foreign(child)


@pytest.mark.parametrize(
    "kind",
    sorted(set(every_foreign()), key=str),
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_error_of_the_client_is_mapped(kind: type[Exception]) -> None:
    expected = [ours for base, ours in NOT_RETRYABLE.items() if issubclass(kind, base)]
    assert type(ours(made(kind))) is (expected or [BusUnavailable])[0]


@pytest.mark.parametrize(
    ("foreign", "expected"),
    [
        (OSError("connection refused"), BusUnavailable),
        (TimeoutError(), BusUnavailable),
        (nats.errors.Error("nats: 'Authorization Violation'"), Misconfigured),
        (nats.errors.Error("nats: 'User Authentication Expired'"), Misconfigured),
        (nats.js.errors.APIError(code=400, err_code=10054, description="too big"), TooLarge),
        (nats.js.errors.ServerError(code=500, err_code=10057, description="no message found"),
         NotFound),
        (nats.js.errors.ServerError(code=500, err_code=10057, description="disk"), BusUnavailable),
        (nats.js.errors.APIError(code=503, err_code=10023, description="insufficient resources"),
         BusUnavailable),
    ],
)  # fmt: skip
def test_what_the_server_says_decides(foreign: Exception, expected: type[YardError]) -> None:
    with pytest.raises(expected), translated():
        raise foreign


def test_our_own_errors_and_cancellation_pass_untouched() -> None:
    for error in (Conflict("mine"), asyncio.CancelledError()):
        with pytest.raises(type(error)) as caught, translated():
            raise error
        assert caught.value is error


def made(kind: type[Exception]) -> Exception:
    """One of a kind, whatever its constructor asks for."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return kind(*(1 for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD))
