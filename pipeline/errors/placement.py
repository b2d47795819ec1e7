"""What placement says."""

from __future__ import annotations

from pipeline.errors.base import YardError


class CannotPlace(YardError):
    """No node can ever take it as it is. `facts["nodes"]`: node name → reasons."""

    code = "cannot_place"


class NoCapacity(CannotPlace):
    """Some node could take it, but everything that fits is in use."""

    code = "no_capacity"
    retryable = True
