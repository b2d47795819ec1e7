"""A deployment under load, as time goes by: what autoscaling makes of it, look by look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Final

from pipeline.deployments.autoscaling import Scaling, Seen, Wish, remembered, scale
from schemas.deployment import AutoscalePolicy, Deployment
from schemas.states import DeploymentStatus
from tests.support.records import AT, deployment

EVERY_S: Final = 5
Load = Callable[[float, Deployment], Seen]
"""What is seen so many seconds after the beginning."""


class UnderLoad:
    """Replicas are ready `start_s` after they are wanted, and gone at once when they are not."""

    def __init__(
        self, policy: AutoscalePolicy, load: Load, *, start_s: float = 20, **values: object
    ) -> None:
        given: dict[str, object] = {"min_replicas": 1, "max_replicas": 10, "replicas": 1}
        given |= {"ready": 1, "status": DeploymentStatus.DEPLOYED} | values
        self.record = deployment(autoscale=policy, **given)
        self.load = load
        self.wishes: Sequence[Wish] = ()
        self.clock_s = 0.0
        self.counts: list[tuple[float, int]] = [(0, self.record.replicas)]
        self.looks: list[Scaling] = []
        self._start_s = start_s

    def run(self, seconds: float, *, forget: bool = False) -> UnderLoad:
        """`forget`: by another process, which remembers nothing."""
        if forget:
            self.wishes = ()
        until = self.clock_s + seconds
        while self.clock_s < until:
            self._look()
            self.clock_s += EVERY_S
        return self

    @property
    def changes(self) -> list[tuple[float, int]]:
        """When there were so many from then on."""
        return self.counts[1:]

    @property
    def turns(self) -> int:
        """How often the direction changed."""
        moves = [after - before for (_, before), (_, after) in pairwise(self.counts)]
        return sum((one > 0) is not (other > 0) for one, other in pairwise(moves))

    def _look(self) -> None:
        now = AT + timedelta(seconds=self.clock_s)
        seen = self.load(self.clock_s, self._with_ready())
        scaling = scale(self._with_ready(), seen, self.wishes, now)
        assert scaling is not None
        self.looks.append(scaling)
        self.wishes = scaling.wishes
        if scaling.replicas != self.record.replicas:
            scalings = remembered(self.record, scaling, now)
            changed = {"replicas": scaling.replicas, "scalings": scalings}
            self.record = self.record.model_copy(update=changed)
            self.counts.append((self.clock_s, scaling.replicas))

    def _with_ready(self) -> Deployment:
        since = self.clock_s - self._start_s
        recent = [count for at, count in self.counts if at > since]
        before = [count for at, count in self.counts if at <= since]
        ready = min([*recent, *before[-1:]])
        return self.record.model_copy(update={"ready": ready})
