"""The one place where errors of the NATS client become ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from pipeline.errors import (
    BusUnavailable,
    InvalidInput,
    Misconfigured,
    NotFound,
    TooLarge,
    YardError,
)

FOREIGN = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""Everything that a call of the client raises when the broker, or the way to it, is at fault."""

_REFUSED = (
    nats.errors.AuthorizationError,
    nats.errors.InvalidUserCredentialsError,
    nats.errors.SecureConnFailedError,
    nats.errors.SecureConnRequiredError,
    nats.errors.SecureConnWantedError,
)
_MALFORMED = (
    nats.errors.BadHeaderError,
    nats.errors.BadSubjectError,
    nats.js.errors.InvalidBucketNameError,
    nats.js.errors.InvalidObjectNameError,
    nats.js.errors.InvalidKeyError,
)
_MESSAGE_TOO_LARGE = 10054
"""JetStream error code of a message above the limit of its stream."""
_DELETE_FAILED = 10057


@contextmanager
def translated() -> Iterator[None]:
    """Raise ours for theirs. Cancellation and our own errors pass untouched."""
    try:
        yield
    except FOREIGN as error:
        raise ours(error) from error


def ours(error: BaseException) -> YardError:
    if isinstance(error, _REFUSED) or says_refused(error):
        return Misconfigured(f"NATS refused us ({error}): check the user in MODELYARD_NATS_URL.")
    if isinstance(error, nats.errors.MaxPayloadError) or _api_code(error) == _MESSAGE_TOO_LARGE:
        return TooLarge("The message is larger than the broker accepts.")
    if isinstance(error, _MALFORMED):
        return InvalidInput(f"The message cannot be sent: {error}.")
    if isinstance(error, nats.js.errors.NotFoundError) or _says_message_gone(error):
        return NotFound(f"The broker does not have it ({_describe(error)}).")
    return BusUnavailable(f"NATS cannot do it now ({_describe(error)}): try again.")


def says_refused(error: BaseException) -> bool:
    """The client reports a refused login as a plain error that holds the server's words."""
    text = str(error).lower()
    return "authorization violation" in text or "authentication" in text


def _api_code(error: BaseException) -> int | None:
    # Some kinds of APIError leave it out.
    return getattr(error, "err_code", None)


def _says_message_gone(error: BaseException) -> bool:
    return _api_code(error) == _DELETE_FAILED and "no message found" in str(error)


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
