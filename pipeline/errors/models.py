"""Why a model does not prove itself. `facts["technical"]` holds what helps to see the cause."""

from __future__ import annotations

from pipeline.errors.base import YardError
from pipeline.errors.requests import LostRace


class ModelRefused(YardError):
    """The model, or what it asks for, has to change before it can be used."""

    code = "model_refused"


class StatusContentType(ModelRefused):
    """`GET /status` answers 200 with something that is not declared as JSON."""

    code = "status_content_type"


class StatusNotJson(ModelRefused):
    """`GET /status` answers 200 and its body is not a JSON object."""

    code = "status_not_json"


class StatusError(ModelRefused):
    """`GET /status` answered, but never with 200."""

    code = "status_error"


class NeverListened(ModelRefused):
    """Nothing answered on the port that the container was told."""

    code = "never_listened"


class CrashLoop(ModelRefused):
    """The container was started again and again and exited each time."""

    code = "crash_loop"


class LaunchFailed(ModelRefused):
    """The container could not be brought up at all."""

    code = "launch_failed"


class RunFailed(ModelRefused):
    """The model did not answer `POST /run`, or not with 2xx."""

    code = "run_failed"


class RunTimedOut(ModelRefused):
    """The model took longer for `POST /run` than its version allows."""

    code = "run_timeout"


class GpuUnavailable(ModelRefused):
    """No node has a GPU."""

    code = "gpu_unavailable"


class PlatformUnavailable(ModelRefused):
    """No node has a platform that the image is for."""

    code = "platform_unavailable"


class InsufficientResources(ModelRefused):
    """No node has, or had in time, what the requirement asks for."""

    code = "insufficient_resources"


class Superseded(LostRace):
    """A load test or trial run is over or void: another image was delivered meanwhile."""

    code = "superseded"
