"""What a container engine says or fails to say."""

from __future__ import annotations

from pipeline.errors.base import YardError


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
