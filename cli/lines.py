"""How far an upload is, in a few lines: for logs, where no bar can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from cli.show import human_bytes

STEP = 25
"""Percent between two lines."""


class Lines:
    """A `cli.archive_push.Watch`; `tell` gets each line."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._total = 1
        self._said = -STEP
        self._why = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def reading(self, done: int) -> None:
        """Of what comes on standard input nobody knows the end."""

    def sending(self, done: int, total: int) -> None:
        self._total = total
        self.moved(done)

    def moved(self, done: int) -> None:
        percentage = 100 * done // max(1, self._total)
        if percentage >= self._said + STEP:
            self._said = percentage // STEP * STEP
            self._tell(f"{percentage} % of {human_bytes(self._total)}")

    def waiting(self, reason: str) -> None:
        if reason and reason != self._why:
            self._tell(reason)
        self._why = reason

    def storing(self) -> None:
        self._tell("all is sent; layers, digests and manifest are proved and stored")
