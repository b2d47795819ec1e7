"""The one error tree.

Each class carries `code` (stable snake_case, shown to callers) and `retryable` (may the same work
succeed later without anybody changing anything?). Errors are translated in three places only:
adapters turn foreign exceptions into these, `api.problems` turns these into HTTP, and the worker
middleware turns these into ack, delayed nack or dead letter.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors.base import (
    YardError,
)
from pipeline.errors.calls import (
    CallFailed,
    CallTimedOut,
    NotListening,
)
from pipeline.errors.engines import (
    ContainerMissing,
    CreateFailed,
    DiskFull,
    EngineError,
    EngineUnavailable,
    ForeignContainer,
    GpusUnreadable,
    ImageMissing,
    PathMissing,
    PortTaken,
    PullDenied,
    PullFailed,
    PullImpossible,
    StartFailed,
)
from pipeline.errors.images import (
    ArchiveBomb,
    DigestMismatch,
    ImageAmbiguous,
    ImageIncomplete,
    ImageRejected,
    NotATar,
    TarDuplicateEntry,
    TarTruncated,
    TarUnsafeEntry,
    TarUnsafePath,
    WrongPlatform,
)
from pipeline.errors.models import (
    CrashLoop,
    GpuUnavailable,
    InsufficientResources,
    LaunchFailed,
    ModelRefused,
    NeverListened,
    PlatformUnavailable,
    RunFailed,
    RunTimedOut,
    StatusContentType,
    StatusError,
    StatusNotJson,
    Superseded,
)
from pipeline.errors.placement import (
    CannotPlace,
    NoCapacity,
)
from pipeline.errors.registries import (
    AddressRefused,
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
)
from pipeline.errors.requests import (
    AlreadyExists,
    ChecksumMismatch,
    Conflict,
    Fenced,
    Gone,
    IllegalTransition,
    InvalidInput,
    InvalidReference,
    KeyReused,
    LostRace,
    MalformedRequest,
    NotFound,
    NotReady,
    PermissionDenied,
    StaleRevision,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
)
from pipeline.errors.system import (
    BusUnavailable,
    Misconfigured,
    Overloaded,
    PoisonMessage,
    StoreUnavailable,
    Timeout,
)

__all__ = [
    "AddressRefused",
    "AlreadyExists",
    "ArchiveBomb",
    "BusUnavailable",
    "CallFailed",
    "CallTimedOut",
    "CannotPlace",
    "ChecksumMismatch",
    "Conflict",
    "ContainerMissing",
    "CrashLoop",
    "CreateFailed",
    "DigestMismatch",
    "DiskFull",
    "EngineError",
    "EngineUnavailable",
    "Fenced",
    "ForeignContainer",
    "Gone",
    "GpuUnavailable",
    "GpusUnreadable",
    "IllegalTransition",
    "ImageAmbiguous",
    "ImageIncomplete",
    "ImageMissing",
    "ImageRejected",
    "InsufficientResources",
    "InvalidInput",
    "InvalidReference",
    "KeyReused",
    "LaunchFailed",
    "LostRace",
    "MalformedRequest",
    "ManifestNotFound",
    "Misconfigured",
    "ModelRefused",
    "NeverListened",
    "NoCapacity",
    "NotATar",
    "NotFound",
    "NotListening",
    "NotReady",
    "Overloaded",
    "PathMissing",
    "PermissionDenied",
    "PlatformUnavailable",
    "PoisonMessage",
    "PortTaken",
    "PullDenied",
    "PullFailed",
    "PullImpossible",
    "RegistryDenied",
    "RegistryError",
    "RegistryProtocolError",
    "RegistryUnavailable",
    "RunFailed",
    "RunTimedOut",
    "StaleRevision",
    "StartFailed",
    "StatusContentType",
    "StatusError",
    "StatusNotJson",
    "StoreUnavailable",
    "Superseded",
    "TarDuplicateEntry",
    "TarTruncated",
    "TarUnsafeEntry",
    "TarUnsafePath",
    "Timeout",
    "TooLarge",
    "TooManyRequests",
    "Unauthenticated",
    "WrongPlatform",
    "YardError",
    "every_error",
]


def every_error(root: type[YardError] = YardError) -> Iterator[type[YardError]]:
    """The whole tree, root first: what the completeness tests walk."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
