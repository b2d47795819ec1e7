"""What the caller can mend."""

from __future__ import annotations

from pipeline.errors.base import YardError


class InvalidInput(YardError):
    code = "invalid_input"


class MalformedRequest(InvalidInput):
    """A header cannot be read at all."""

    code = "malformed_request"


class ChecksumMismatch(InvalidInput):
    """The bytes are not those that the sender meant."""

    code = "checksum_mismatch"


class InvalidReference(InvalidInput):
    code = "invalid_reference"


class KeyReused(InvalidInput):
    """An Idempotency-Key, or a message id, came again with another request."""

    code = "idempotency_key_reused"


class Unauthenticated(YardError):
    code = "unauthenticated"


class PermissionDenied(YardError):
    code = "permission_denied"


class NotFound(YardError):
    code = "not_found"


class Gone(YardError):
    code = "gone"


class Conflict(YardError):
    code = "conflict"


class NotReady(YardError):
    """It is still being made ready: the same request may succeed in a moment."""

    code = "not_ready"
    retryable = True


class AlreadyExists(Conflict):
    code = "already_exists"


class IllegalTransition(Conflict):
    """The record is in a state from which the asked move does not exist."""

    code = "illegal_transition"


class LostRace(Conflict):
    """Somebody else wrote the record first. Stages log and drop it; callers reload and decide."""

    code = "lost_race"


class StaleRevision(Conflict):
    """If-Match named an older revision."""

    code = "stale_revision"


class TooLarge(YardError):
    code = "too_large"


class TooManyRequests(YardError):
    code = "too_many_requests"
    retryable = True


class Fenced(Conflict):
    """The order carries a fencing number older than the newest one seen."""

    code = "fenced"
