"""What is free where: an index of nodes, so that one placement looks at few of them.

Nodes that take containers stand in buckets: those of one profile (what never changes of a node
while its machine stays as it is) with as many GPUs of each kind free. A bucket is sorted by what is
left of memory and cores. It is a hint: a lease is given by the store alone.
"""

from __future__ import annotations

import sys
import zlib
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Any, Final, NamedTuple, TypeAlias

from pipeline.placement.eligibility import (
    ResourceRequest,
    closings,
    is_free,
    is_silent,
    refusals,
    runs_on,
    schedulable,
    suits,
)
from pipeline.placement.planning import Choice, pick, signature, with_lease, without
from schemas.node import Gpu, Lease, Node
from schemas.states import NodeStatus

FEW: Final = 32
"""Nodes with an image that are looked at one by one; of more the best is found on the way."""
REQUESTS: Final = 512
"""Different requests of which it is remembered which profiles suit them."""

Rank: TypeAlias = tuple[int, float, str, str]
"""Memory and cores left, what decides between equals, uuid: the least is taken first."""


class _Kind(NamedTuple):
    """GPUs that requests cannot tell apart."""

    model: str
    memory_bytes: int
    compute_capability: str
    brand: str


class _Bucket(NamedTuple):
    profile: int
    free: tuple[int, ...]
    """Of each kind of the profile."""
    closed: tuple[Any, ...]
    """Why it takes nothing; empty when it does."""


@dataclass(frozen=True, slots=True)
class _Profile:
    """A node that stands for all that are made alike, and a GPU for each of its kinds."""

    node: Node
    gpus: tuple[Gpu, ...]


@dataclass(slots=True)
class _Standing:
    node: Node
    images: tuple[str, ...]
    bucket: _Bucket
    rank: Rank


class Capacity:
    """Not safe for threads. `salt` decides between nodes that are alike: with one of its own, no
    worker takes what another one is about to take; without any, names decide."""

    def __init__(self, nodes: Iterable[Node] = (), *, salt: str = "") -> None:
        self._salt = salt
        self._standing: dict[str, _Standing] = {}
        self._buckets: dict[_Bucket, list[Rank]] = {}
        self._images: dict[str, set[str]] = {}
        self._names: dict[str, str] = {}
        self._holders: dict[str, set[str]] = {}
        """Container → nodes where it holds something."""
        self._shares: Counter[str | None] = Counter()
        self._profiles: list[_Profile] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._suited: dict[tuple[Any, ...], dict[int, tuple[bool, ...] | None]] = {}
        for node in nodes:
            self.put(node)

    def __len__(self) -> int:
        return len(self._standing)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._standing

    @property
    def nodes(self) -> Iterator[Node]:
        return (each.node for each in self._standing.values())

    def get(self, uuid: str) -> Node | None:
        found = self._standing.get(uuid)
        return None if found is None else found.node

    def holders(self, container: str) -> list[Node]:
        """Where a container holds something."""
        return [self._standing[uuid].node for uuid in self._holders.get(container, ())]

    def share(self, org: str) -> int:
        """GPUs that containers of an organisation hold."""
        return self._shares[org]

    # --- following

    def put(self, node: Node) -> None:
        """As it is now. A deleted one does not exist."""
        if node.status is NodeStatus.DELETED:
            self.drop(node.uuid)
            return
        known = self._standing.get(node.uuid)
        images = tuple(map(sys.intern, node.images))
        if images:
            node = node.model_copy(update={"images": []})
        if known is None or known.images != images:
            self.drop(node.uuid)
            for digest in images:
                self._images.setdefault(digest, set()).add(node.uuid)
        else:
            self._leave(known)
            images = known.images
        self._stand(node, images)

    def drop(self, uuid: str) -> None:
        found = self._standing.pop(uuid, None)
        if found is None:
            return
        self._leave(found)
        for digest in found.images:
            self._images[digest].discard(uuid)
            if not self._images[digest]:
                del self._images[digest]

    def lease(self, uuid: str, lease: Lease) -> None:
        """This is held there from now on."""
        if (found := self._standing.get(uuid)) is not None:
            self._leave(found)
            self._stand(with_lease(found.node, lease), found.images, found.bucket.profile)

    def release(self, uuid: str, container: str) -> None:
        """A container holds nothing there any more."""
        if (found := self._standing.get(uuid)) is not None:
            self._leave(found)
            self._stand(without(found.node, container), found.images, found.bucket.profile)

    def beat(self, uuid: str, at: datetime) -> None:
        if (found := self._standing.get(uuid)) is not None:
            found.node.last_heartbeat = at

    def _stand(self, node: Node, images: tuple[str, ...], profile: int | None = None) -> None:
        bucket, rank = self._bucket_of(node, profile), self._rank_of(node)
        self._standing[node.uuid] = _Standing(node, images, bucket, rank)
        self._names[node.name] = node.uuid
        insort(self._buckets.setdefault(bucket, []), rank)
        for container, lease in node.leases.items():
            self._holders.setdefault(container, set()).add(node.uuid)
            self._shares[lease.org] += len(lease.gpus)

    def _leave(self, found: _Standing) -> None:
        node, ranks = found.node, self._buckets[found.bucket]
        del ranks[bisect_left(ranks, found.rank)]
        if not ranks:
            del self._buckets[found.bucket]
        if self._names.get(node.name) == node.uuid:
            del self._names[node.name]
        for container, lease in node.leases.items():
            self._holders[container].discard(node.uuid)
            if not self._holders[container]:
                del self._holders[container]
            self._shares[lease.org] -= len(lease.gpus)

    def _bucket_of(self, node: Node, profile: int | None) -> _Bucket:
        if profile is None:
            profile = self._profile_of(node)
        free = Counter(_kind(gpu) for gpu in schedulable(node) if is_free(gpu, node))
        counts = tuple(free[_kind(gpu)] for gpu in self._profiles[profile].gpus)
        return _Bucket(profile, counts, closings(node))

    def _profile_of(self, node: Node) -> int:
        has, had = node.inventory, node.had
        devices = sorted(schedulable(node), key=_kind)
        made = (
            (has.platform.os, has.platform.architecture, has.driver, has.cuda),
            tuple(map(_kind, devices)),
            has.engine_version is None,
            had and (had.driver, had.cuda, *sorted(map(_kind, had.gpus))),
        )
        number = self._numbers.setdefault(made, len(self._numbers))
        if number == len(self._profiles):
            kinds = {_kind(gpu): gpu for gpu in devices}
            self._profiles.append(_Profile(node, tuple(kinds.values())))
        return number

    def _rank_of(self, node: Node) -> Rank:
        return (
            node.inventory.memory_bytes - node.leased_memory_bytes,
            node.inventory.cpus - node.leased_cpus,
            f"{zlib.crc32((self._salt + node.name).encode()):08x}" if self._salt else node.name,
            node.uuid,
        )

    # --- choosing

    def groups(self) -> Iterator[list[Node]]:
        """All nodes, those together that are made alike and have as many GPUs free."""
        for ranks in self._buckets.values():
            yield [self._standing[rank[-1]].node for rank in ranks]

    def choose(
        self,
        request: ResourceRequest,
        *,
        now: datetime,
        grace_s: float,
        closed: Collection[str] = (),
    ) -> Choice | None:
        """The best node that fits: image present, then least GPUs left over, then least memory and
        cores. None when none does. Nodes in `closed` (uuids) are passed over."""

        def fits(node: Node) -> bool:
            if node.uuid in closed or is_silent(node, now, grace_s):
                return False
            return not refusals(request, node, now=now, grace_s=grace_s)

        having = self._images.get(request.digest or "", set())
        found: Node | None = None
        if request.node is not None:
            pinned = self.get(self._names.get(request.node, request.node))
            found = pinned if pinned is not None and fits(pinned) else None
        else:
            found = self._best_of(request, having, fits) or self._first(request, None, fits)
        return None if found is None else Choice(found, pick(request, found))

    def nearest(
        self, request: ResourceRequest, *, now: datetime, grace_s: float, closed: Collection[str]
    ) -> Node | None:
        """The node that has most of what is asked for, of those that could give all of it once what
        is in use there is freed. None when there are only such as are `closed`, or none at all."""
        able: list[tuple[int, _Bucket]] = []
        for bucket in self._buckets:
            flags = None if bucket.closed else self._suits(request, bucket.profile)
            if flags is not None:
                pairs = zip(bucket.free, flags, strict=True)
                able.append((sum(count for count, suited in pairs if suited), bucket))
        for _, bucket in sorted(able, key=lambda each: (-each[0], each[1].free)):
            nodes = [self._standing[rank[-1]].node for rank in self._buckets[bucket]]
            # Salted ranks would have each worker keep another one.
            nodes.sort(key=lambda node: (node.leased_memory_bytes, node.leased_cpus, node.name))
            for node in nodes:
                if node.uuid in closed or is_silent(node, now, grace_s):
                    continue
                found = refusals(request, node, now=now, grace_s=grace_s)
                if not any(reason.lasting for reason in found):
                    return node
        return None

    def _best_of(
        self, request: ResourceRequest, having: Collection[str], fits: Callable[[Node], bool]
    ) -> Node | None:
        if len(having) > FEW:
            return self._first(request, having, fits)
        standing = [self._standing[uuid] for uuid in having]
        able = [each for each in standing if fits(each.node)]
        best = min(able, key=lambda each: (sum(each.bucket.free), each.rank), default=None)
        return None if best is None else best.node

    def _first(
        self, request: ResourceRequest, having: Collection[str] | None, fits: Callable[[Node], bool]
    ) -> Node | None:
        by_free: dict[int, list[list[Rank]]] = {}
        for bucket, ranks in self._buckets.items():
            flags = None if bucket.closed else self._suits(request, bucket.profile)
            if flags is None:
                continue
            usable = sum(count for count, suited in zip(bucket.free, flags, strict=True) if suited)
            if usable >= request.gpus:
                by_free.setdefault(sum(bucket.free), []).append(ranks)
        least = (request.memory_bytes,)
        for free in sorted(by_free):
            for rank in merge(*(_from(ranks, least) for ranks in by_free[free])):
                if having is not None and rank[-1] not in having:
                    continue
                node = self._standing[rank[-1]].node
                if fits(node):
                    return node
        return None

    def _suits(self, request: ResourceRequest, profile: int) -> tuple[bool, ...] | None:
        """Which kinds of its GPUs suit; None when nothing of it can run it."""
        key = signature(request)
        if key not in self._suited and len(self._suited) >= REQUESTS:
            self._suited.clear()
        known = self._suited.setdefault(key, {})
        if profile not in known:
            node, gpus = self._profiles[profile].node, self._profiles[profile].gpus
            flags = tuple(suits(request, gpu, node) for gpu in gpus)
            known[profile] = flags if runs_on(request, node) else None
        return known[profile]


def _from(ranks: list[Rank], least: tuple[int]) -> Iterator[Rank]:
    # Nearly always the first one does: a slice would copy thousands.
    return (ranks[at] for at in range(bisect_left(ranks, least), len(ranks)))


def _kind(gpu: Gpu) -> _Kind:
    return _Kind(gpu.model, gpu.memory_bytes, gpu.compute_capability, gpu.brand or "")
