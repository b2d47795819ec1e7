"""A memory that cannot grow."""

from __future__ import annotations

from pipeline.rules.bounded import Bounded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_least_recently_used_goes_first() -> None:
    memory: Bounded[str, int] = Bounded(2, clock=Clock())
    memory["a"], memory["b"] = 1, 2
    assert memory.get("a") == 1
    memory["c"] = 3
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == (1, None, 3)


def test_items_go_after_their_time() -> None:
    clock = Clock()
    memory: Bounded[str, int] = Bounded(9, clock=clock, keep_s=10)
    memory["a"] = 1
    memory.put("b", 2, keep_s=5)
    memory.put("c", 3, keep_s=0)
    assert memory.get("c") is None
    clock.now = 5
    assert (memory.get("a"), memory.get("b")) == (1, None)
    clock.now = 10
    assert memory.get("a") is None
    assert len(memory) == 0


def test_weights_are_counted_and_given_back() -> None:
    memory: Bounded[str, int] = Bounded(10, clock=Clock())
    memory.put("a", 1, weight=6)
    memory.put("b", 2, weight=4)
    memory.put("a", 3, weight=6)
    assert len(memory) == 2
    memory.put("c", 4, weight=5)
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == (None, None, 4)
    memory.forget("c")
    memory.put("d", 5, weight=10)
    assert memory.get("d") == 5


def test_what_is_too_heavy_is_not_kept() -> None:
    memory: Bounded[str, int] = Bounded(10, clock=Clock())
    memory.put("a", 1, weight=5)
    memory.put("b", 2, weight=11)
    assert (memory.get("a"), memory.get("b")) == (1, None)


def test_forgetting_what_is_not_there_is_fine() -> None:
    Bounded[str, int](1, clock=Clock()).forget("a")
