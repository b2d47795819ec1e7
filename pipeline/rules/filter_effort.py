"""Bounds the work that one caller's expression may cause here."""

from __future__ import annotations

from typing import Final

from pipeline.errors import InvalidInput

ALLOWED: Final = 1_000_000
"""Comparisons, or steps of a regular expression: about a second."""


class Effort:
    def __init__(self, allowed: int = ALLOWED) -> None:
        self._left = allowed

    def spend(self, units: int = 1) -> None:
        """Raises InvalidInput when nothing is left."""
        self._left -= units
        if self._left < 0:
            raise InvalidInput(
                "The expression takes too long on this document: make it simpler or narrower."
            )
