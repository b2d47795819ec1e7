"""Which nodes have fallen silent, as one observer sees it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta


class MissedHeartbeats:
    """Remembers when each heartbeat was first seen, by the observer's own clock.

    Clocks of nodes are compared with nothing but themselves. An observer that could not look for
    longer than `blind_s` has seen no silence: it begins anew.
    """

    def __init__(self, *, grace_s: float, blind_s: float) -> None:
        self._grace = timedelta(seconds=grace_s)
        self._blind = timedelta(seconds=blind_s)
        self._heard: dict[str, tuple[datetime, datetime]] = {}
        """Node → its newest heartbeat, and when we saw that first."""
        self._looked_at: datetime | None = None

    def silent(self, heartbeats: Mapping[str, datetime], now: datetime) -> list[str]:
        """Those nodes, of which these are the newest heartbeats, that stood still for the grace."""
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at <= self._blind:
            self.forget()
        before, self._heard = self._heard, {}
        found = []
        for node, newest in heartbeats.items():
            heartbeat, since = before.get(node, (None, now))
            if heartbeat != newest:
                since = now
            self._heard[node] = newest, since
            if now - since >= self._grace:
                found.append(node)
        return found

    def looked(self, now: datetime) -> None:
        """The look that began with `silent` went well and ends now."""
        self._looked_at = now

    def forget(self) -> None:
        self._heard.clear()
