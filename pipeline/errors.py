"""The one error tree.

Each class carries `code` (stable snake_case, shown to callers) and `retryable` (may the same work
succeed later without anybody changing anything?). Errors are translated in three places only:
adapters turn foreign exceptions into these, `api.problems` turns these into HTTP, and the worker
middleware turns these into ack, delayed nack or dead letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class YardError(Exception):
    """Base of everything that Modelyard raises on purpose.

    The message is one sentence for the caller that says what to do. It never holds credentials.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        """Further members for machines, for instance `field`, `retry_after_s`."""


# --- the caller can mend it -------------------------------------------------------------------


class InvalidInput(YardError):
    code = "invalid_input"


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


# --- placement --------------------------------------------------------------------------------


class CannotPlace(YardError):
    """No node can ever take it as it is. `facts["nodes"]`: node name → reasons."""

    code = "cannot_place"


class NoCapacity(CannotPlace):
    """Some node could take it, but everything that fits is in use."""

    code = "no_capacity"
    retryable = True


# --- the image --------------------------------------------------------------------------------


class ImageRejected(YardError):
    """The image was looked at and cannot be used. `facts["findings"]` lists all reasons."""

    code = "image_rejected"


class DigestMismatch(ImageRejected):
    code = "digest_mismatch"


class NotATar(ImageRejected):
    code = "not_a_tar"


class TarTruncated(ImageRejected):
    """It ends early, or its compression is broken."""

    code = "tar_truncated"


class TarUnsafePath(ImageRejected):
    """An absolute path, `..`, or a link that leaves the archive."""

    code = "tar_unsafe_path"


class TarUnsafeEntry(ImageRejected):
    """A device, a FIFO, or another kind that no image archive holds."""

    code = "tar_unsafe_entry"


class TarDuplicateEntry(ImageRejected):
    code = "tar_duplicate_entry"


class ImageIncomplete(ImageRejected):
    """No manifest, or something that it names is missing or unreadable."""

    code = "image_incomplete"


class ImageAmbiguous(ImageRejected):
    """Several images and no choice. `facts["tags"]` lists them."""

    code = "image_ambiguous"


class ArchiveBomb(ImageRejected):
    code = "archive_bomb"


class WrongPlatform(ImageRejected):
    code = "wrong_platform"


# --- registries -------------------------------------------------------------------------------


class RegistryError(YardError):
    code = "registry_error"


class RegistryDenied(RegistryError):
    """401 or 403: the image may be private or absent; never read as absent."""

    code = "registry_denied"


class ManifestNotFound(RegistryError):
    code = "manifest_not_found"


class RegistryProtocolError(RegistryError):
    """It answered, but not as an OCI registry does."""

    code = "registry_protocol_error"


class RegistryUnavailable(RegistryError):
    """No answer, a timeout, 5xx, or 429 (`facts["retry_after_s"]`)."""

    code = "registry_unavailable"
    retryable = True


class AddressRefused(YardError):
    """The address guard refused to contact it."""

    code = "address_refused"


# --- the engine -------------------------------------------------------------------------------


class EngineError(YardError):
    code = "engine_error"


class EngineUnavailable(EngineError):
    code = "engine_unavailable"
    retryable = True


class PullFailed(EngineError):
    """`facts["reason"]` is `stalled`, or `failed` with the engine's words in `engine`."""

    code = "pull_failed"
    retryable = True


class PullImpossible(PullFailed):
    """No retry can help: `facts["reason"]` is `not_found`, `platform` or `invalid`."""

    code = "pull_impossible"
    retryable = False


class PullDenied(EngineError):
    code = "pull_denied"


class DiskFull(EngineError):
    code = "disk_full"
    retryable = True


class PortTaken(EngineError):
    code = "port_taken"


class ForeignContainer(EngineError):
    """The name is held by a container that Modelyard did not create. It is never touched."""

    code = "foreign_container"


class ContainerMissing(EngineError):
    code = "container_missing"


class ImageMissing(EngineError):
    """The engine was asked to create a container from an image that it does not have."""

    code = "image_missing"


class PathMissing(EngineError):
    """The container has no such file or folder."""

    code = "path_missing"


class CreateFailed(EngineError):
    """The engine refused to create the container as it was described."""

    code = "create_failed"


class StartFailed(EngineError):
    """The engine created the container and could not start it."""

    code = "start_failed"


class GpusUnreadable(YardError):
    """There is an NVIDIA driver, and it does not answer as it should."""

    code = "gpus_unreadable"
    retryable = True


# --- what we stand on -------------------------------------------------------------------------


class StoreUnavailable(YardError):
    code = "store_unavailable"
    retryable = True


class BusUnavailable(YardError):
    code = "bus_unavailable"
    retryable = True


class Overloaded(YardError):
    code = "overloaded"
    retryable = True


class Timeout(YardError):
    """We stopped waiting; the work goes on. `facts["operation"]` names it."""

    code = "timeout"
    retryable = True


class Misconfigured(YardError):
    """A setting is missing or wrong, or a port is taken. The message names the setting."""

    code = "misconfigured"


class PoisonMessage(YardError):
    """A message that no retry can make readable."""

    code = "poison_message"


def every_error(root: type[YardError] = YardError) -> Iterator[type[YardError]]:
    """The whole tree, root first: what the completeness tests walk."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
