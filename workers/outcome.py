"""What became of a delivery, for those middlewares that only tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Outcome:
    name: str = "handed_back"
    """done, dropped, retried, buried, unsettled, duplicate; handed back until it is decided."""
