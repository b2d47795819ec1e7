"""A memory that cannot grow: the least recently used goes first, and everything after a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Holds items of `most` weight together, 1 each unless told.

    `keep_s` counts from the last write; `clock` is monotonic, in seconds.
    """

    def __init__(
        self, most: int, *, clock: Callable[[], float], keep_s: float = float("inf")
    ) -> None:
        self._most = most
        self._clock = clock
        self._keep_s = keep_s
        self._weight = 0
        self._items: OrderedDict[K, tuple[float, int, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        item = self._items.get(key)
        if item is None:
            return None
        if item[0] <= self._clock():
            self.forget(key)
            return None
        self._items.move_to_end(key)
        return item[2]

    def put(self, key: K, value: V, *, keep_s: float | None = None, weight: int = 1) -> None:
        """`keep_s` of this item alone, when it differs. What is too heavy is not kept."""
        self.forget(key)
        if weight > self._most:
            return
        until = self._clock() + (self._keep_s if keep_s is None else keep_s)
        self._items[key] = (until, weight, value)
        self._weight += weight
        while self._weight > self._most:
            _, (_, dropped, _) = self._items.popitem(last=False)
            self._weight -= dropped

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def forget(self, key: K) -> None:
        """No-op when it is not there."""
        item = self._items.pop(key, None)
        if item is not None:
            self._weight -= item[1]

    def __len__(self) -> int:
        return len(self._items)
