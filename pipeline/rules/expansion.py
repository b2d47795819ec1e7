"""How far an archive may grow while it is opened."""

from __future__ import annotations

from typing import Final

from pipeline.errors import ArchiveBomb

RATIO_MAX: Final = 100
RATIO_FROM_BYTES: Final = 256 * 1024 * 1024
"""Below this many opened bytes any ratio is fine: zeros compress well."""


class Expansion:
    """Counts what came in and what it opened to. Raises ArchiveBomb.

    Layers count opened, whether it was the archive that was compressed or they themselves.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.received = 0
        self.opened = 0

    def arrived(self, count: int) -> None:
        self.received += count

    def grew(self, count: int) -> None:
        """`count` may be negative: compressed bytes of a layer give way to what they open to."""
        self.opened += count
        if self.opened > self._max_bytes:
            raise ArchiveBomb(f"The archive expands to more than {self._max_bytes} bytes.")
        if self.opened > RATIO_FROM_BYTES and self.opened > RATIO_MAX * self.received:
            raise ArchiveBomb(
                f"The archive expands to more than {RATIO_MAX} times the bytes that were sent."
            )
