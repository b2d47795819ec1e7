"""Why a container did not answer a call."""

from __future__ import annotations

from pipeline.errors.base import YardError


class CallFailed(YardError):
    """Its answer cannot be passed on: it broke off, or is not what HTTP demands."""

    code = "container_bad_answer"


class NotListening(CallFailed):
    """Nothing takes connections on its port."""

    code = "container_not_listening"


class CallTimedOut(CallFailed):
    """It took longer than the caller, or the setting, grants."""

    code = "container_timeout"
