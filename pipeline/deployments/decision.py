"""What to do about a deployment: pure. Level-triggered, so a lost or repeated hint changes nothing.

`decide` says which replicas there should be (`Deployment.slots`) and what the status is. The
reconciler makes the containers follow: a slot without one gets one, one without a slot ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from schemas.container import Container, Desired, RestartPolicy
from schemas.deployment import KEPT_TEMPLATES, Deployment, Slot, Template
from schemas.states import ContainerStatus, DeploymentStatus

SURGE: Final = 1
"""Replicas beyond those wanted, while a template rolls out."""
CRASHES: Final = 3
"""Restarts after which a replica that was never ready counts as one that cannot be."""
FIRST_DELAY_S: Final = 10
MAX_DELAY_S: Final = 300


class Health(Enum):
    STARTING = "starting"
    WAITING = "waiting"
    """No node has room for it at the moment."""
    READY = "ready"
    FAILING = "failing"
    """It restarts, or its probe fails."""
    OVER = "over"
    """It came to an end, or was ended by somebody; it is replaced."""


@dataclass(frozen=True, slots=True)
class Replica:
    """The container of a slot, or one whose slot is gone and that has not ended yet."""

    number: int
    health: Health
    why: str | None = None
    restarts: int = 0
    leaves: str | None = None
    """Name of its node, when that is being drained: another replica takes its place elsewhere."""
    is_excused: bool = False
    """Its end says nothing about its template: somebody ended it, or its name was taken."""
    has_exited: bool = False
    """By itself, so that another start may go better."""


def replica_of(number: int, container: Container, *, leaves: str | None = None) -> Replica:
    return Replica(
        number,
        _health(container),
        container.reason,
        container.restarts,
        leaves,
        is_excused=container.desired is not Desired.RUNNING,
        has_exited=container.exit_code is not None,
    )


def _health(container: Container) -> Health:
    status = container.status
    if status in _OVER or container.desired is not Desired.RUNNING:
        return Health.OVER
    if status is ContainerStatus.UNHEALTHY and container.spec.restart is RestartPolicy.NO:
        return Health.OVER
    if status in (ContainerStatus.RESTARTING, ContainerStatus.UNHEALTHY, ContainerStatus.LOST):
        return Health.FAILING
    if status is ContainerStatus.RUNNING:
        return Health.READY if container.healthy_since else Health.STARTING
    return Health.WAITING if container.refusals else Health.STARTING


_OVER: Final = frozenset({ContainerStatus.STOPPED, ContainerStatus.FAILED, ContainerStatus.DELETED})


@dataclass(frozen=True, slots=True)
class Decision:
    """What the record should say. `event` is the kind to tell of it; None for slots alone."""

    values: Mapping[str, Any]
    status: DeploymentStatus
    reason: str | None
    event: str | None
    facts: Mapping[str, Any]


def decide(deployment: Deployment, replicas: Collection[Replica], now: datetime) -> Decision | None:
    """The next step towards what is wanted, or None when the record says what is.

    `replicas` holds one for each slot that has a container, and those that are still ending. At
    most `wanted + SURGE` exist when one is made, ending ones included; a ready one of an old
    template, or on a node that is drained, ends only when as many as are wanted are ready without
    it. `in_place` lets an old one end earlier, but none of a drained node: that makes no room.
    """
    return _Look(deployment, replicas, now).decision()


class _Look:
    """One look at a deployment and its replicas."""

    def __init__(
        self, deployment: Deployment, replicas: Collection[Replica], now: datetime
    ) -> None:
        self.deployment = deployment
        self.now = now
        numbers = {slot.number for slot in deployment.slots}
        self.seen = {each.number: each for each in replicas if each.number in numbers}
        self.ending = sum(each.number not in numbers for each in replicas)
        self.template = deployment.template
        self.values: dict[str, Any] = {}

    def decision(self) -> Decision | None:
        deployment = self.deployment
        if deployment.status is DeploymentStatus.DELETED:
            return None
        if deployment.owner and (rest := self._rest()):
            return rest
        blame = self._blame() if self._is_rolling and not deployment.owner else None
        good = self._good_template() if blame else None
        if blame and good:
            return self._back_to(good, blame)
        slots = self._slots()
        ready = sum(self._is_ready(slot) for slot in slots)
        status, reason = self._status(slots, ready, blame)
        self.values |= {"slots": [slot.model_dump() for slot in slots], "ready": ready}
        if blame:
            self.values["blame"] = blame
        # Replicas that end elsewhere while others are to move there must not be made ever faster.
        if status is _S.DEPLOYED and not self._leaving(slots):
            self.values |= {"good": self.template.hash, "failures": 0, "replace_at": None}
        return self._news(status, reason)

    @property
    def _is_rolling(self) -> bool:
        """The template has not been seen ready yet."""
        return self.deployment.wanted > 0 and self.template.hash != self.deployment.good

    def _health(self, slot: Slot) -> Health:
        found = self.seen.get(slot.number)
        return Health.STARTING if found is None else found.health

    def _is_ready(self, slot: Slot) -> bool:
        return self._health(slot) is Health.READY

    def _is_current(self, slot: Slot) -> bool:
        """One that may stay."""
        return slot.template == self.template.hash and not self._leaving([slot])

    def _leaving(self, slots: Iterable[Slot]) -> list[str]:
        """The drained nodes of these, one for each replica that is to leave."""
        found = (self.seen.get(slot.number) for slot in slots)
        return [each.leaves for each in found if each is not None and each.leaves]

    # What replicas there should be

    def _slots(self) -> list[Slot]:
        """The slots after one step."""
        wanted = self.deployment.wanted
        if self.deployment.desired is Desired.DELETED:
            # Somebody may be making their containers just now: those are awaited, to be ended.
            return [slot for slot in self.deployment.slots if slot.number not in self.seen]
        kept = [slot for slot in self.deployment.slots if self._health(slot) is not Health.OVER]
        self._count_ends(len(self.deployment.slots) - len(kept))
        current = [slot for slot in kept if self._is_current(slot)]
        old = [slot for slot in kept if not self._is_current(slot)]
        current = self._without_surplus(current, wanted)
        old = self._old_ones_needed(old, current, wanted)
        stay = sorted(old + current, key=lambda slot: slot.number)
        return self._with_new_ones(stay, wanted)

    def _count_ends(self, ended: int) -> None:
        if not ended or not self.deployment.wanted:
            return
        failures = self.deployment.failures + ended
        delay_s = min(FIRST_DELAY_S * 2 ** (min(failures, 10) - 1), MAX_DELAY_S)
        is_first = failures == 1 or self.deployment.owner  # whose starts are few
        at = self.now if is_first else self.now + timedelta(seconds=delay_s)
        self.values |= {"failures": failures, "replace_at": at}

    def _without_surplus(self, current: list[Slot], wanted: int) -> list[Slot]:
        """Those that are ready stay before others, older ones before newer ones."""
        ranked = sorted(current, key=lambda slot: (not self._is_ready(slot), slot.number))
        return sorted(ranked[:wanted], key=lambda slot: slot.number)

    def _old_ones_needed(
        self, old: Sequence[Slot], current: Sequence[Slot], wanted: int
    ) -> list[Slot]:
        """Ready ones in so far as the current ones are not ready yet; others serve nobody."""
        ready = [slot for slot in old if self._is_ready(slot)]
        missing = max(wanted - sum(map(self._is_ready, current)), 0)
        kept = ready[:missing]
        waits = any(self._health(slot) is Health.WAITING for slot in current)
        movable = [slot for slot in kept if not self._leaving([slot])]
        if self.deployment.in_place and waits and movable and not self.ending:
            kept.remove(movable[-1])
        return kept

    def _with_new_ones(self, slots: list[Slot], wanted: int) -> list[Slot]:
        """As many as are missing and as there is room for, once the delay after an end is over."""
        replace_at = self.values.get("replace_at", self.deployment.replace_at)
        if replace_at is not None and self.now < replace_at:
            return slots
        leaving = len(self.deployment.slots) - len(slots)
        room = wanted + SURGE - len(slots) - self.ending - leaving
        missing = wanted - sum(map(self._is_current, slots))
        first = self.deployment.next_number
        made = [
            Slot(number=number, template=self.template.hash)
            for number in range(first, first + max(min(room, missing), 0))
        ]
        if made:
            self.values["next_number"] = first + len(made)
        return slots + made

    # What is said about it

    def _status(
        self, slots: Sequence[Slot], ready: int, blame: str | None
    ) -> tuple[DeploymentStatus, str | None]:
        wanted = self.deployment.wanted
        if self.deployment.desired is Desired.DELETED:
            ends = self._ends()
            return (_S.DELETING, ends) if ends else (_S.DELETED, "deleted")
        if wanted == 0:
            given_up = self.deployment.blame if self.deployment.owner else None
            return (_S.FAILED, given_up) if given_up else (_S.SCALED_DOWN, self._ends())
        if ready == wanted == len(slots) and all(map(self._is_current, slots)):
            return _S.DEPLOYED, None if self._is_rolling else self.deployment.blame
        if ready == wanted and not self._is_rolling and (leaving := self._leaving(slots)):
            return _S.DEPLOYED, self._moves(leaving)
        counted = f"{ready} of {wanted} replicas ready"
        if blame:
            return _S.FAILED, f"{counted}: {blame}"
        trouble = self._trouble()
        said = f"{counted}: {trouble}" if trouble else counted
        is_worse = trouble is not None and not self._is_rolling
        return (_S.DEGRADED if is_worse else _S.DEPLOYING), said

    def _ends(self) -> str | None:
        count = len(self.deployment.slots) + self.ending
        return f"{count} replica{'s are' if count > 1 else ' is'} ending" if count else None

    def _moves(self, leaving: Sequence[str]) -> str:
        few = "1 replica is" if len(leaving) == 1 else f"{len(leaving)} replicas are"
        said = f"{few} to leave {', '.join(sorted(set(leaving)))}, which is drained"
        trouble = self._trouble()
        return f"{said}: {trouble}" if trouble else said

    def _trouble(self) -> str | None:
        """Why the first replica in trouble is."""
        for slot in self.deployment.slots:
            found = self.seen.get(slot.number)
            if found is not None and found.health in _TROUBLED:
                return f"replica {slot.number} {found.why or found.health.value}"
        return None

    # One with an owner, who asks again when he needs a replica

    def _rest(self) -> Decision | None:
        """No replica until it is called, since one that was ready ended, or none can be had."""
        found = [each for slot in self.deployment.slots if (each := self.seen.get(slot.number))]
        if not self.deployment.wanted or any(each.health is Health.READY for each in found):
            return None
        ended = [each for each in found if each.health is Health.OVER]
        if ended and self.deployment.ready:
            why = ended[0].why or ended[0].health.value
            return self._resting(_S.SCALED_DOWN, "rested", f"its replica ended: {why}")
        failed = [each for each in ended if not each.is_excused]
        is_over = self.deployment.failures + len(failed) >= CRASHES
        hopeless = [each for each in failed if is_over or not each.has_exited]
        limit = timedelta(seconds=self.deployment.rollout_timeout_s)
        if self.now - self.deployment.rollout_since >= limit:
            hopeless += [each for each in found if each.health is Health.WAITING]
        if not hopeless:
            return None
        why = f"replica {hopeless[-1].number}: {hopeless[-1].why or hopeless[-1].health.value}"
        return self._resting(_S.FAILED, "failed", why, blame=why)

    def _resting(
        self, status: DeploymentStatus, kind: str, reason: str, blame: str | None = None
    ) -> Decision:
        values = {"replicas": 0, "slots": [], "ready": 0, "failures": 0, "idle_at": None}
        return Decision(values | {"blame": blame}, status, reason, kind, {"ready": 0, "wanted": 0})

    # A template that does not become ready

    def _blame(self) -> str | None:
        """Why the newest template is given up; None while it may still become ready."""
        if self.deployment.blame:
            return self.deployment.blame
        for slot in filter(self._is_current, self.deployment.slots):
            found = self.seen.get(slot.number)
            if found is None:
                continue
            said = f"replica {slot.number}: {found.why or found.health.value}"
            if found.health is Health.OVER and not found.is_excused:
                return said
            if found.health is Health.FAILING and found.restarts >= CRASHES:
                return f"{said} (restarted {found.restarts} times)"
        limit = timedelta(seconds=self.deployment.rollout_timeout_s)
        if self.now - self.deployment.rollout_since < limit:
            return None
        trouble = self._trouble()
        return f"not ready within {limit.total_seconds():g} s" + (
            f" ({trouble})" if trouble else ""
        )

    def _good_template(self) -> Template | None:
        good = self.deployment.good
        return next((each for each in self.deployment.history if each.hash == good), None)

    def _back_to(self, good: Template, why: str) -> Decision:
        """The last good template again; replicas of it that are left stay."""
        left = self.template
        reason = f"rolled back from generation {left.generation} to {good.generation}: {why}"
        values = retemplated(self.deployment, good, self.now) | {"blame": reason}
        facts = {"from_generation": left.generation, "to_generation": good.generation}
        return Decision(values, _S.DEPLOYING, reason, "rolled-back", facts)

    def _news(self, status: DeploymentStatus, reason: str | None) -> Decision | None:
        """None when the record says all of this already."""
        now = self.deployment
        known = now.model_dump(include=set(self.values))
        if status is now.status and reason == now.reason and known == self.values:
            return None
        told = (now.status, now.reason, now.ready) != (status, reason, self.values["ready"])
        facts = {"ready": self.values["ready"], "wanted": now.wanted}
        return Decision(self.values, status, reason, _event(status) if told else None, facts)


_S = DeploymentStatus
_TROUBLED: Final = frozenset({Health.FAILING, Health.WAITING, Health.OVER})


def _event(status: DeploymentStatus) -> str:
    return status.value.lower().replace("_", "-")


def under_way(deployment: Deployment, values: Mapping[str, Any]) -> DeploymentStatus:
    """What it is until it is looked at: whoever waits must not take it for done."""
    after = deployment.model_copy(update=dict(values))
    return _S.DEPLOYING if after.wanted else _S.SCALED_DOWN


def retemplated(deployment: Deployment, template: Template, now: datetime) -> dict[str, Any]:
    """The values of a record whose replicas are to be made of `template` from now on."""
    earlier = [each for each in (deployment.template, *deployment.history) if each != template]
    good = [each for each in earlier[KEPT_TEMPLATES:] if each.hash == deployment.good]
    kept = earlier[: KEPT_TEMPLATES - len(good)] + good
    return {
        "template": template.model_dump(mode="json"),
        "history": [each.model_dump(mode="json") for each in kept],
        "rollout_since": now,
        "blame": None,
        "failures": 0,
        "replace_at": None,
    }
