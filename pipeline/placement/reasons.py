"""Why no node takes a container: node by node, or summed up where there are many."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pipeline.errors import CannotPlace, NoCapacity
from pipeline.placement.capacity import Capacity
from pipeline.placement.eligibility import (
    Reason,
    ResourceRequest,
    has_port_taken,
    is_silent,
    refusals,
)
from pipeline.placement.planning import Choice
from schemas.node import Node

log = logging.getLogger(__name__)

FEW: Final = 20
"""So many nodes are told of one by one."""
EXAMPLES: Final = 3
"""Nodes that are named for each kind of reason, where there are more."""
UNKNOWN: Final = "it was not offered, and nothing speaks against it: it is tried again"
KEPT: Final = "it is kept for a container that has waited longer"


def plan(
    request: ResourceRequest, nodes: Iterable[Node], now: datetime, *, grace_s: float = 20
) -> Choice:
    """The best of these nodes; between equal ones the name decides. Raises what `refusal` makes."""
    capacity = Capacity(nodes)
    choice = capacity.choose(request, now=now, grace_s=grace_s)
    if choice is None:
        raise refusal(request, capacity.groups(), now=now, grace_s=grace_s)
    return choice


@dataclass(slots=True)
class _Found:
    is_complete: bool
    """Every node is named."""
    is_passing: bool = False
    """There is a node of which waiting may give it what it needs."""
    nodes: dict[str, list[Reason]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def named(self, code: str) -> int:
        return sum(any(code == each.code for each in reasons) for reasons in self.nodes.values())


def refusal(
    request: ResourceRequest,
    groups: Iterable[Sequence[Node]],
    *,
    now: datetime,
    grace_s: float,
    kept: Collection[str] = (),
) -> CannotPlace:
    """NoCapacity when waiting may help (something that would fit is in use or away, or no node has
    joined) and CannotPlace when it cannot.

    `groups` are all nodes, those together that are made alike and have as much free; `kept` are
    uuids of those that others have waited for. `facts["nodes"]` has every reason of every node when
    they are few; else of a few for each kind, and `facts["kinds"]` counts the nodes of each kind. A
    node can what it could do with all the GPUs that it is known to have had.
    """
    every = [list(group) for group in groups]
    total = sum(map(len, every))
    if total <= FEW:
        every = [[node] for group in every for node in group]
    else:
        every = [part for group in every for part in _parts(request, group, now, grace_s, kept)]
    found = _Found(is_complete=total <= FEW)
    for group in every:
        _look(found, request, group, now, grace_s, kept)
    nodes = {name: [reason.facts() for reason in each] for name, each in found.nodes.items()}
    facts: dict[str, Any] = {"nodes": nodes}
    if total > FEW:
        facts |= {"kinds": dict(found.counts), "total": total}
    if not total:
        return NoCapacity("No node has joined yet: it is placed when one has.", **facts)
    if found.is_passing:
        return NoCapacity(
            "Every node that could run it is in use or away: it is placed when one is free.",
            **facts,
        )
    return CannotPlace("No node can run it: change what it asks for or add a node.", **facts)


def told(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the record says: details by node; where nodes are many, by kind, with its examples."""
    nodes: Mapping[str, Sequence[Mapping[str, Any]]] = facts.get("nodes", {})
    if "kinds" not in facts:
        return {name: [reason["detail"] for reason in each] for name, each in nodes.items()}
    return {
        f"{count} of {facts['total']} nodes ({code})": [
            f"{name}: {reason['detail']}"
            for name, each in sorted(nodes.items())
            for reason in each
            if reason["code"] == code
        ][:EXAMPLES]
        for code, count in sorted(facts["kinds"].items())
    }


def is_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the second of two that were `told` has nothing new to say: where nodes are counted,
    another number is nothing new."""
    return set(map(_kind, before)) == set(map(_kind, after)) and (
        before == after or all(_kind(name) != name for name in after)
    )


def _kind(name: str) -> str:
    counted, _, code = name.partition(" nodes (")
    return code or counted


def _parts(
    request: ResourceRequest,
    group: Sequence[Node],
    now: datetime,
    grace_s: float,
    kept: Collection[str],
) -> Iterable[list[Node]]:
    """Those together that refuse it for the same reasons."""
    parts: dict[tuple[bool, ...], list[Node]] = defaultdict(list)
    for node in group:
        parts[_flags(request, node, now, grace_s, kept)].append(node)
    return parts.values()


def _flags(
    request: ResourceRequest, node: Node, now: datetime, grace_s: float, kept: Collection[str]
) -> tuple[bool, ...]:
    """What decides between nodes that are made alike and have as many GPUs free."""
    has = node.inventory
    return (
        is_silent(node, now, grace_s),
        node.uuid in kept,
        request.node in (None, node.uuid, node.name),
        node.is_in(request.node_groups),
        len(has.gpus) >= request.gpus,
        *_flags_of_resources(request, node),
        all(node.labels.get(key) == value for key, value in request.node_labels.items()),
        bool(request.host_ports) and has_port_taken(request, node),
    )


def _flags_of_resources(request: ResourceRequest, node: Node) -> Iterable[bool]:
    if request.memory_bytes:
        yield request.memory_bytes > node.inventory.memory_bytes
        yield request.memory_bytes > node.inventory.memory_bytes - node.leased_memory_bytes
    if request.cpus:
        yield request.cpus > node.inventory.cpus
        yield request.cpus > node.inventory.cpus - node.leased_cpus


def _look(
    found: _Found,
    request: ResourceRequest,
    group: Sequence[Node],
    now: datetime,
    grace_s: float,
    kept: Collection[str],
) -> None:
    """Asks the first few of a group: the first stands for the others, too."""
    for number, node in enumerate(group[:EXAMPLES]):
        reasons = refusals(request, node, now=now, grace_s=grace_s)
        if not reasons:
            reasons = [_unsaid(node, kept)]
        if number == 0:
            known = reasons
            if node.had is not None:
                known = refusals(request, node.complete(), now=now, grace_s=grace_s)
            found.is_passing = found.is_passing or _pass(reasons) or _pass(known)
            for code in {reason.code for reason in reasons}:
                found.counts[code] += len(group)
        if any(found.named(reason.code) < EXAMPLES for reason in reasons) or found.is_complete:
            found.nodes[node.name] = reasons


def _unsaid(node: Node, kept: Collection[str]) -> Reason:
    """Why one that nothing speaks against was not taken."""
    if node.uuid in kept:
        return Reason("kept", KEPT, None, None, lasting=False)
    # Index and checks disagree: that must not cost those that are planned with this one.
    log.error("node %s (%s) was not offered and refuses nothing", node.name, node.uuid)
    return Reason("unknown", UNKNOWN, None, None, lasting=False)


def _pass(reasons: Sequence[Reason]) -> bool:
    """Waiting may help."""
    return not any(reason.lasting for reason in reasons)
