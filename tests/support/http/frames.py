"""Server-Sent Events as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame. `data` is None for comments and frames that only carry an id."""

    event: str
    id: str | None
    data: Any

    @property
    def sequence(self) -> int:
        assert self.id is not None
        return int(self.id.rpartition("-")[2])


def parse(text: bytes | str) -> list[Seen]:
    """Every whole frame, strictly: each must end with an empty line."""
    text = text.decode() if isinstance(text, bytes) else text
    assert text.endswith("\n\n") or not text, "frames are sent whole"
    return [_frame(block.split("\n")) for block in text.split("\n\n") if block]


def events(frames: Iterable[Seen]) -> list[Seen]:
    """Those that say that something happened."""
    return [frame for frame in frames if frame.event == "message" and frame.data is not None]


def _frame(lines: list[str]) -> Seen:
    fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
    data = json.loads(fields["data"]) if "data" in fields else None
    return Seen(fields.get("event", "message"), fields.get("id"), data)
