"""What Modelyard itself stands on."""

from __future__ import annotations

from pipeline.errors.base import YardError


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
