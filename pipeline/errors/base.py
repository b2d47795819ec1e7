"""The root of the tree."""

from __future__ import annotations

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
