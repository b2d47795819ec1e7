"""How far an upload is, in whole percent."""

from __future__ import annotations

from typing import Final

MOST_BEFORE_PROVED: Final = 99
"""All bytes may be here: 100 says that the image is stored and proved."""


def percentage(received: int, total: int | None) -> int:
    """0 to 99. With an unknown total it stays 0."""
    if not total:
        return 0
    return min(MOST_BEFORE_PROVED, received * 100 // total)
