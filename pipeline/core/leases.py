"""GPUs, memory and cores that containers hold on nodes: given once, freed once.

A lease is a part of the node record and carries the fencing number of the launch that it is for.
Each operation is one guarded update of that record, so that whatever runs at the same time, a GPU
has one holder. Ids are compared as values everywhere and never become parts of a path, so they may
hold any character but NUL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.adapters.store import EVERY_ORG, Store
from schemas.node import Lease, Node
from schemas.states import NodeStatus

_CORE_DUST = 1e-6
"""Sums of fractions of cores are not exact."""


class Leases:
    """Each call is one atomic update of a node's record; other writes of it do not collide."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def acquire(
        self,
        node: Node,
        *,
        container: str,
        fence: int,
        gpus: Sequence[str] = (),
        memory_bytes: int = 0,
        cpus: float = 0,
    ) -> bool:
        """All of it or nothing; False when somebody else was first or the node is not READY.

        Repeating it is True again and changes nothing. Asking for anything else (another fence,
        other GPUs) is False until the lease that is there is released or transferred.
        """
        lease = Lease(
            container=container, fence=fence, gpus=list(gpus), memory_bytes=memory_bytes, cpus=cpus
        )
        taken = await self._store.update(
            Node,
            node.uuid,
            org=EVERY_ORG,
            guard=_room_for(lease, _parents(node, gpus)),
            update=[_taking(lease), _TOTALS],
        )
        return taken is not None or await self._holds(node.uuid, lease)

    async def release(self, container: str, fence: int, *, node: str | None = None) -> bool:
        """Free what exactly this launch holds; True for the one call that freed it.

        An old fence frees nothing of a newer launch. Without `node` (a uuid) it is looked for.
        """
        return await self._rewrite(container, fence, _giving_back(container), node)

    async def transfer(
        self, container: str, fence: int, to_fence: int, *, node: str | None = None
    ) -> bool:
        """Hand a lease to a newer launch on the same node. False when `fence` does not hold it.

        Repeating it is True again. Raises ValueError when `to_fence` is not newer.
        """
        if to_fence <= fence:
            raise ValueError(f"fence {to_fence} is not newer than {fence}")
        handed = await self._rewrite(container, fence, _handing_to(container, to_fence), node)
        return handed or bool(await self._holders(container, to_fence, node))

    async def _holds(self, node: str, wanted: Lease) -> bool:
        found = await self._store.find_one(Node, org=EVERY_ORG, where={"_id": node})
        return found is not None and found.leases.get(wanted.container) == wanted

    async def _rewrite(
        self, container: str, fence: int, stage: dict[str, Any], node: str | None
    ) -> bool:
        done = False
        for uuid in [node] if node else await self._holders(container, fence, None):
            changed = await self._store.update(
                Node,
                uuid,
                org=EVERY_ORG,
                guard=_held_by(container, fence),
                update=[stage, _TOTALS],
            )
            done = done or changed is not None
        return done

    async def _holders(self, container: str, fence: int, node: str | None) -> list[str]:
        where = _held_by(container, fence) | ({"_id": node} if node else {})
        found = await self._store.find(Node, org=EVERY_ORG, where=where, sort=())
        return [each.uuid for each in found]


def _parents(node: Node, gpus: Sequence[str]) -> list[str]:
    """The physical GPUs of MIG instances: who holds one whole holds its instances."""
    return [gpu.parent for gpu in node.inventory.gpus if gpu.parent and gpu.uuid in gpus]


def _held_by(container: str, fence: int) -> dict[str, Any]:
    return {"$expr": {"$eq": [_part("fence", of=_lease(container)), fence]}}


def _room_for(lease: Lease, parents: Sequence[str]) -> dict[str, Any]:
    """The node is READY, has these GPUs in order and free, and the rest fits."""
    in_order = [
        {"inventory.gpus": {"$elemMatch": {"uuid": gpu, "healthy": True}}} for gpu in lease.gpus
    ]
    taken = {"$setIntersection": [_keys("$held"), _literal([*lease.gpus, *parents])]}
    return {
        "status": NodeStatus.READY.value,
        "inventory.gpus.parent": {"$nin": lease.gpus},
        "$and": [
            *in_order,
            {"$expr": {"$eq": [taken, []]}},
            {"$expr": {"$eq": [{"$type": _lease(lease.container)}, "missing"]}},
            _fits("leased_memory_bytes", lease.memory_bytes, "$inventory.memory_bytes"),
            _fits("leased_cpus", lease.cpus - _CORE_DUST, "$inventory.cpus"),
        ],
    }


def _fits(leased: str, more: float, capacity: str) -> dict[str, Any]:
    # Who asks for nothing (0 is unlimited) is never refused for it.
    return {"$expr": {"$lte": [{"$add": [f"${leased}", more]}, capacity]}} if more > 0 else {}


def _taking(lease: Lease) -> dict[str, Any]:
    held = dict.fromkeys(lease.gpus, lease.container)
    leases = {lease.container: lease.model_dump()}
    return {
        "$set": {
            "held": {"$mergeObjects": ["$held", _literal(held)]},
            "leases": {"$mergeObjects": ["$leases", _literal(leases)]},
        }
    }


def _giving_back(container: str) -> dict[str, Any]:
    return {
        "$set": {
            "held": _without("$held", "v", container),
            "leases": _without("$leases", "k", container),
        }
    }


def _handing_to(container: str, fence: int) -> dict[str, Any]:
    renewed = {"$mergeObjects": [_lease(container), {"fence": fence}]}
    entry = {"$arrayToObject": [[{"k": _literal(container), "v": renewed}]]}
    return {"$set": {"leases": {"$mergeObjects": ["$leases", entry]}}}


def _lease(container: str) -> dict[str, Any]:
    return _part(container, of="$leases")


def _part(name: str, *, of: Any) -> dict[str, Any]:
    return {"$getField": {"field": _literal(name), "input": of}}


def _keys(of: str) -> dict[str, Any]:
    return {"$map": {"input": {"$objectToArray": of}, "in": "$$this.k"}}


def _without(field: str, side: str, value: str) -> dict[str, Any]:
    """An object less the entries whose key (`k`) or value (`v`) this is."""
    kept = {"$ne": [f"$$this.{side}", _literal(value)]}
    return {"$arrayToObject": {"$filter": {"input": {"$objectToArray": field}, "cond": kept}}}


def _sum(part: str) -> dict[str, Any]:
    leases = {"$objectToArray": "$leases"}
    return {"$sum": {"$map": {"input": leases, "in": f"$$this.v.{part}"}}}


def _literal(value: Any) -> dict[str, Any]:
    # Otherwise a text that begins with $ would be read as an expression.
    return {"$literal": value}


# Added up anew each time: fractions of cores that come and go would leave dust behind.
_TOTALS = {"$set": {"leased_memory_bytes": _sum("memory_bytes"), "leased_cpus": _sum("cpus")}}
