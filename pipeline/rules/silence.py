"""Which nodes have fallen silent, as one observer sees it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from schemas.node import Node


class Silence:
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

    def silent(self, nodes: Iterable[Node], now: datetime) -> list[Node]:
        """Those of `nodes`, as they are now, whose heartbeat has stood still for the grace."""
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at <= self._blind:
            self.forget()
        before, self._heard = self._heard, {}
        found = []
        for node in nodes:
            heartbeat, since = before.get(node.uuid, (None, now))
            if heartbeat != node.last_heartbeat:
                since = now
            self._heard[node.uuid] = node.last_heartbeat, since
            if now - since >= self._grace:
                found.append(node)
        return found

    def looked(self, now: datetime) -> None:
        """The look that began with `silent` went well and ends now."""
        self._looked_at = now

    def forget(self) -> None:
        self._heard.clear()
