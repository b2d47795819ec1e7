"""The one error tree: `code` is shown to callers, `retryable` says that it may work out later.

Translated by adapters (inward), `api.http.problem_details` and the middleware of workers alone.
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
    code = "timeout"
    retryable = True
    """We stopped waiting; the work goes on. `facts["operation"]` names it."""


class Misconfigured(YardError):
    code = "misconfigured"
    """A setting is missing or wrong, or a port is taken. The message names the setting."""


class PoisonMessage(YardError):
    code = "poison_message"
    """A message that no retry can make readable."""


class InvalidInput(YardError):
    code = "invalid_input"


class MalformedRequest(InvalidInput):
    code = "malformed_request"
    """A header cannot be read at all."""


class ChecksumMismatch(InvalidInput):
    code = "checksum_mismatch"
    """The bytes are not those that the sender meant."""


class InvalidReference(InvalidInput):
    code = "invalid_reference"


class KeyReused(InvalidInput):
    code = "idempotency_key_reused"
    """An Idempotency-Key, or a message id, came again with another request."""


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
    code = "not_ready"
    retryable = True
    """It is still being made ready: the same request may succeed in a moment."""


class NoReplica(NotReady):
    code = "no_replica"
    """A deployment has none that could be called, and got none in time."""


class AlreadyExists(Conflict):
    code = "already_exists"


class IllegalTransition(Conflict):
    code = "illegal_transition"
    """The record is in a state from which the asked move does not exist."""


class QuotaExceeded(Conflict):
    code = "quota_exceeded"
    """The organisation has as much as it may. `facts`: `quota`, `used`, `limit`."""


class LostRace(Conflict):
    code = "lost_race"
    """Somebody else wrote the record first. Stages log and drop it; callers reload and decide."""


class StaleRevision(Conflict):
    code = "stale_revision"
    """If-Match named an older revision."""


class TooLarge(YardError):
    code = "too_large"


class TooManyRequests(YardError):
    code = "too_many_requests"
    retryable = True


class Fenced(Conflict):
    code = "fenced"
    """The order carries a fencing number older than the newest one seen."""


class RegistryError(YardError):
    code = "registry_error"


class RegistryDenied(RegistryError):
    code = "registry_denied"
    """401 or 403: the image may be private or absent; never read as absent."""


class ManifestNotFound(RegistryError):
    code = "manifest_not_found"


class RegistryProtocolError(RegistryError):
    code = "registry_protocol_error"
    """It answered, but not as an OCI registry does."""


class RegistryUnavailable(RegistryError):
    code = "registry_unavailable"
    retryable = True
    """No answer, a timeout, 5xx, or 429 (`facts["retry_after_s"]`)."""


class Unreachable(YardError):
    code = "unreachable"
    retryable = True
    """No answer, a timeout or 5xx of something that is no registry: a model, a health endpoint."""


class AddressRefused(YardError):
    code = "address_refused"
    """The address guard refused to contact it."""


class ImageRejected(YardError):
    code = "image_rejected"
    """The image was looked at and cannot be used. `facts["findings"]` lists all reasons."""


class DigestMismatch(ImageRejected):
    code = "digest_mismatch"


class NotATar(ImageRejected):
    code = "not_a_tar"


class TarTruncated(ImageRejected):
    code = "tar_truncated"
    """It ends early, or its compression is broken."""


class TarUnsafePath(ImageRejected):
    code = "tar_unsafe_path"
    """An absolute path, `..`, or a link that leaves the archive."""


class TarUnsafeEntry(ImageRejected):
    code = "tar_unsafe_entry"
    """A device, a FIFO, or another kind that no image archive holds."""


class TarDuplicateEntry(ImageRejected):
    code = "tar_duplicate_entry"


class ImageIncomplete(ImageRejected):
    code = "image_incomplete"
    """No manifest, or something that it names is missing or unreadable."""


class ImageAmbiguous(ImageRejected):
    code = "image_ambiguous"
    """Several images and no choice. `facts["tags"]` lists them."""


class ArchiveBomb(ImageRejected):
    code = "archive_bomb"


class WrongPlatform(ImageRejected):
    code = "wrong_platform"


class CannotPlace(YardError):
    code = "cannot_place"
    """No node can ever take it as it is. `facts["nodes"]`: node name → reasons."""


class NoCapacity(CannotPlace):
    code = "no_capacity"
    retryable = True
    """Some node could take it, but everything that fits is in use."""


class EngineError(YardError):
    code = "engine_error"


class EngineUnavailable(EngineError):
    code = "engine_unavailable"
    retryable = True


class PullFailed(EngineError):
    code = "pull_failed"
    retryable = True
    """`facts["reason"]` is `stalled`, or `failed` with the engine's words in `engine`."""


class PullImpossible(PullFailed):
    code = "pull_impossible"
    retryable = False
    """No retry can help: `facts["reason"]` is `not_found`, `platform` or `invalid`."""


class PullDenied(EngineError):
    code = "pull_denied"


class DiskFull(EngineError):
    code = "disk_full"
    retryable = True


class PortTaken(EngineError):
    code = "port_taken"


class ForeignContainer(EngineError):
    code = "foreign_container"
    """The name is held by a container that Modelyard did not create. It is never touched."""


class ContainerMissing(EngineError):
    code = "container_missing"


class ImageMissing(EngineError):
    code = "image_missing"
    """The engine was asked to create a container from an image that it does not have."""


class PathMissing(EngineError):
    code = "path_missing"
    """The container has no such file or folder."""


class CreateFailed(EngineError):
    code = "create_failed"
    """The engine refused to create the container as it was described."""


class BuildFailed(EngineError):
    code = "build_failed"
    """The Dockerfile, its context or where that comes from has to change."""


class StartFailed(EngineError):
    code = "start_failed"
    """The engine created the container and could not start it."""


class GpusUnreadable(YardError):
    code = "gpus_unreadable"
    retryable = True
    """There is an NVIDIA driver, and it does not answer as it should."""


class CallFailed(YardError):
    code = "container_bad_answer"
    """Its answer cannot be passed on: it broke off, or is not what HTTP demands."""


class NotListening(CallFailed):
    code = "container_not_listening"


class CallTimedOut(CallFailed):
    code = "container_timeout"
    """It took longer than the caller, or the setting, grants."""


class ModelRefused(YardError):
    code = "model_refused"
    """The model, or what it asks for, has to change before it can be used."""


class StatusContentType(ModelRefused):
    code = "status_content_type"
    """`GET /status` answers 200 with something that is not declared as JSON."""


class StatusNotJson(ModelRefused):
    code = "status_not_json"
    """`GET /status` answers 200 and its body is not a JSON object."""


class StatusError(ModelRefused):
    code = "status_error"
    """`GET /status` answered, but never with 200."""


class NeverListened(ModelRefused):
    code = "never_listened"
    """Nothing answered on the port that the container was told."""


class CrashLoop(ModelRefused):
    code = "crash_loop"


class LaunchFailed(ModelRefused):
    code = "launch_failed"


class RunFailed(ModelRefused):
    code = "run_failed"
    """The model did not answer `POST /run`, or not with 2xx."""


class RunTimedOut(ModelRefused):
    code = "run_timeout"
    """The model took longer for `POST /run` than its version allows."""


class GpuUnavailable(ModelRefused):
    code = "gpu_unavailable"


class PlatformUnavailable(ModelRefused):
    code = "platform_unavailable"


class InsufficientResources(ModelRefused):
    code = "insufficient_resources"
    """No node has, or had in time, what the requirement asks for."""


class Superseded(LostRace):
    code = "superseded"
    """A load test or trial run is over or void: another image was delivered meanwhile."""


def every_error(root: type[YardError] = YardError) -> Iterator[type[YardError]]:
    """The whole tree, root first: what the completeness tests walk."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
