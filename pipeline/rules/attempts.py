"""Slows repeated failures: so many attempts per key and minute, and no more."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Final

from pipeline.errors import TooManyRequests

WINDOW: Final = timedelta(minutes=1)


class Attempts:
    """A sliding window per key, in this process. Remembers at most `keys` keys, the newest ones."""

    def __init__(self, most: int, *, keys: int = 10_000) -> None:
        self._most = most
        self._keys = keys
        self._taken: OrderedDict[Hashable, deque[datetime]] = OrderedDict()

    def take(self, key: Hashable, at: datetime) -> None:
        """Count one before it is made, so that attempts side by side cannot pass the limit.

        Raises TooManyRequests with `retry_after_s`; such an attempt is not counted.
        """
        taken = self._taken.setdefault(key, deque())
        self._taken.move_to_end(key)
        while taken and not at - WINDOW < taken[0] <= at:
            taken.popleft()
        if len(taken) >= self._most:
            wait_s = max(1, math.ceil((taken[0] + WINDOW - at).total_seconds()))
            raise TooManyRequests(
                f"Too many failed attempts: try again in {wait_s} s.", retry_after_s=wait_s
            )
        taken.append(at)
        while len(self._taken) > self._keys:
            self._taken.popitem(last=False)

    def forgive(self, key: Hashable) -> None:
        """It succeeded: what came before does not count any more."""
        self._taken.pop(key, None)
