"""Whether a failing handler will be called again for the same message."""

from __future__ import annotations

from workers.envelope import LastTry

__all__ = ["LastTry"]
