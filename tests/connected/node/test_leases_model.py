"""Leases against a model, in every order that hypothesis thinks of."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.nodes.leases import Leases
from schemas.node import Lease, Node
from tests.support.records import gpu, inventory, node

T = TypeVar("T")

GPUS = ["g.0", "$g1", "g2"]
CPUS = 4
containers = st.sampled_from(["a", "b.$", "c"])
fences = st.integers(1, 4)
wishes = st.tuples(
    st.lists(st.sampled_from(GPUS), unique=True), st.integers(0, 3), st.integers(0, 3)
)


class LeaseMachine(RuleBasedStateMachine):
    """The model: container → its lease. One node, so that everybody is in everybody's way."""

    runner: ClassVar[asyncio.Runner]
    store: ClassVar[Store]

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(self.store)
        self.model: dict[str, Lease] = {}
        machine = inventory(*(gpu(each) for each in GPUS), cpus=CPUS, memory_bytes=CPUS)
        self.node = self._run(self.store.insert(node(uuid.uuid4().hex, inventory=machine)))

    def teardown(self) -> None:
        self._run(self.store.delete(Node, self.node.uuid, org=EVERY_ORG))

    @rule(container=containers, fence=fences, wish=wishes)
    def acquire(self, container: str, fence: int, wish: tuple[list[str], int, int]) -> None:
        assert self._run(self._ask(container, fence, wish)) is self._grant(container, fence, wish)

    @rule(orders=st.lists(st.tuples(containers, fences, wishes), min_size=2, max_size=5))
    def acquire_at_once(self, orders: list[tuple[str, int, tuple[list[str], int, int]]]) -> None:
        """Whichever order they came through in, it is one that the model allows."""

        async def all_of_them() -> list[bool]:
            return await asyncio.gather(*(self._ask(*order) for order in orders))

        answers = self._run(all_of_them())
        for order in [o for o, granted in zip(orders, answers, strict=True) if granted]:
            assert self._grant(*order)
        # Nobody was refused what is still free now that the others have theirs.
        for order in [o for o, granted in zip(orders, answers, strict=True) if not granted]:
            assert not self._grant(*order)

    @rule(container=containers, fence=fences, times=st.integers(1, 3))
    def release(self, container: str, fence: int, times: int) -> None:
        async def at_once() -> list[bool]:
            return await asyncio.gather(
                *(self.leases.release(container, fence) for _ in range(times))
            )

        held = container in self.model and self.model[container].fence == fence
        assert sum(self._run(at_once())) == held
        if held:
            del self.model[container]

    @invariant()
    def the_node_is_what_the_model_says(self) -> None:
        found = self._run(self.store.get(Node, self.node.uuid, org=EVERY_ORG))
        assert found.leases == self.model
        assert found.held == {gpu: name for name, lease in self.model.items() for gpu in lease.gpus}
        assert found.leased_cpus == sum(lease.cpus for lease in self.model.values()) <= CPUS
        assert found.leased_memory_bytes == sum(lease.memory_bytes for lease in self.model.values())

    async def _ask(self, container: str, fence: int, wish: tuple[list[str], int, int]) -> bool:
        gpus, memory, cpus = wish
        return await self.leases.acquire(
            self.node, container=container, fence=fence, gpus=gpus, memory_bytes=memory, cpus=cpus
        )

    def _grant(self, container: str, fence: int, wish: tuple[list[str], int, int]) -> bool:
        gpus, memory, cpus = wish
        wanted = Lease(container=container, fence=fence, gpus=gpus, memory_bytes=memory, cpus=cpus)
        if container in self.model:
            return self.model[container] == wanted
        others = self.model.values()
        fits = (
            not set(gpus) & {each for lease in others for each in lease.gpus}
            and (not memory or memory + sum(lease.memory_bytes for lease in others) <= CPUS)
            and (not cpus or cpus + sum(lease.cpus for lease in others) <= CPUS)
        )
        if fits:
            self.model = {**self.model, container: wanted}
        return fits

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


def test_leases_do_what_the_model_does(mongo_url: str) -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = Store.open(mongo_url, f"test-{uuid.uuid4().hex}")
        LeaseMachine.runner = runner
        LeaseMachine.store = runner.run(opened.__aenter__())
        runner.run(LeaseMachine.store.prepare())
        try:
            run_state_machine_as_test(
                LeaseMachine,
                settings=settings(
                    max_examples=25,
                    stateful_step_count=20,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
