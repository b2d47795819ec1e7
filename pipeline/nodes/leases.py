"""GPUs, memory and cores that containers hold on nodes: given once, freed once.

A lease is a part of the node record and carries the fencing number of the launch that it is for.
Each operation is one guarded update of that record, so that whatever runs at the same time, a GPU
has one holder. Ids are compared as values everywhere and never become parts of a path, so they may
hold any character but NUL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.adapters.store import bulk
from pipeline.adapters.store.store import EVERY_ORG, Store
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
        host_ports: Sequence[str] = (),
    ) -> bool:
        """All of it or nothing; False when somebody else was first or the node takes nothing.

        Repeating it is True again and changes nothing. Asking for anything else (another fence,
        other GPUs) is False until the lease that is there is released.
        """
        lease = Lease(
            container=container,
            fence=fence,
            gpus=list(gpus),
            memory_bytes=memory_bytes,
            cpus=cpus,
            host_ports=list(host_ports),
        )
        taken = await self._store.update(
            Node,
            node.uuid,
            org=EVERY_ORG,
            guard=_room_for([lease], _parents(node, gpus)),
            update=_taking([lease]),
        )
        return taken is not None or await self._holds(node.uuid, lease)

    async def acquire_all(self, wanted: Sequence[tuple[Node, Sequence[Lease]]]) -> set[str]:
        """Of each node all leases that are wanted of it, or none; uuids of those that gave them.

        Each lease names its attempt, by which what was taken here is told from what others took.
        """
        writes = [
            bulk.Write(node.uuid, _room_for(leases, _parents(node, _gpus(leases))), _taking(leases))
            for node, leases in wanted
        ]
        if await bulk.update_all(self._store, Node, writes):
            return {node.uuid for node, _ in wanted}
        where = {"_id": {"$in": [node.uuid for node, _ in wanted]}}
        found = await bulk.read_fields(self._store, Node, ["leases"], org=EVERY_ORG, where=where)
        leased = {each["_id"]: each["leases"] for each in found}
        return {
            node.uuid
            for node, leases in wanted
            if all(_is_there(lease, leased.get(node.uuid, {})) for lease in leases)
        }

    async def release(
        self, container: str, fence: int, *, node: str | None = None, attempt: str | None = None
    ) -> bool:
        """Free what exactly this launch holds; True for the one call that freed it.

        An old fence frees nothing of a newer launch, nor an `attempt` anything of another one.
        Without `node` (a uuid) it is looked for.
        """
        held = _held_by(container, fence, attempt)
        if node is None:
            found = await self._store.find(Node, org=EVERY_ORG, where=held, sort=())
            nodes = [each.uuid for each in found]
        else:
            nodes = [node]
        freed = [
            await self._store.update(
                Node, uuid, org=EVERY_ORG, guard=held, update=[_giving_back(container), _TOTALS]
            )
            for uuid in nodes
        ]
        return any(each is not None for each in freed)

    async def hand_over(self, node: str, old: str, lease: Lease) -> bool:
        """The container of this lease, which holds something there, holds it instead, and `old`
        nothing any more. Idempotent; False when the container holds nothing, or for a newer launch.
        """
        held = _held_by(lease.container, lease.fence, None)
        update = [_giving_back(old), _giving_back(lease.container), *_taking([lease])]
        taken = await self._store.update(Node, node, org=EVERY_ORG, guard=held, update=update)
        return taken is not None

    async def _holds(self, node: str, wanted: Lease) -> bool:
        found = await self._store.find_by_id(Node, node, org=EVERY_ORG)
        return found is not None and found.leases.get(wanted.container) == wanted


def _parents(node: Node, gpus: Sequence[str]) -> list[str]:
    """The physical GPUs of MIG instances: who holds one whole holds its instances."""
    return [gpu.parent for gpu in node.inventory.gpus if gpu.parent and gpu.uuid in gpus]


def _gpus(leases: Sequence[Lease]) -> list[str]:
    return [gpu for lease in leases for gpu in lease.gpus]


def _is_there(lease: Lease, leases: Mapping[str, Mapping[str, Any]]) -> bool:
    found = leases.get(lease.container, {})
    return (found.get("fence"), found.get("attempt")) == (lease.fence, lease.attempt)


def _held_by(container: str, fence: int, attempt: str | None) -> dict[str, Any]:
    same = [{"$eq": [_part("fence", of=_lease(container)), fence]}]
    if attempt is not None:
        same.append({"$eq": [_part("attempt", of=_lease(container)), _literal(attempt)]})
    return {"$expr": {"$and": same}}


def _room_for(leases: Sequence[Lease], parents: Sequence[str]) -> dict[str, Any]:
    """The node is open, has these GPUs in order and free, and the rest fits."""
    gpus = _gpus(leases)
    in_order = [{"inventory.gpus": {"$elemMatch": {"uuid": gpu, "healthy": True}}} for gpu in gpus]
    taken = {"$setIntersection": [_keys("$held"), _literal([*gpus, *parents])]}
    containers = [lease.container for lease in leases]
    known = {"$setIntersection": [_keys("$leases"), _literal(containers)]}
    return {
        "status": NodeStatus.READY.value,
        "cordoned": {"$ne": True},
        "inventory.gpus.parent": {"$nin": gpus},
        "$and": [
            *in_order,
            {"$expr": {"$eq": [taken, []]}},
            _free([port for lease in leases for port in lease.host_ports]),
            {"$expr": {"$eq": [known, []]}},
            _fits(
                "leased_memory_bytes",
                sum(lease.memory_bytes for lease in leases),
                "$inventory.memory_bytes",
            ),
            _fits(
                "leased_cpus", sum(lease.cpus for lease in leases) - _CORE_DUST, "$inventory.cpus"
            ),
        ],
    }


def _free(host_ports: Sequence[str]) -> dict[str, Any]:
    if not host_ports:
        return {}
    of_each = {"$map": {"input": {"$objectToArray": "$leases"}, "in": "$$this.v.host_ports"}}
    # An earlier version wrote leases without.
    known = {"$filter": {"input": of_each, "cond": {"$isArray": "$$this"}}}
    taken = {"$reduce": {"input": known, "initialValue": [], "in": _joined}}
    is_free = {"$eq": [{"$setIntersection": [taken, _literal(list(host_ports))]}, []]}
    return {"$expr": is_free, "ports_in_use": {"$nin": list(host_ports)}}


_joined = {"$concatArrays": ["$$value", "$$this"]}


def _fits(leased: str, more: float, capacity: str) -> dict[str, Any]:
    # Who asks for nothing (0 is unlimited) is never refused for it.
    return {"$expr": {"$lte": [{"$add": [f"${leased}", more]}, capacity]}} if more > 0 else {}


def _taking(leases: Sequence[Lease]) -> list[dict[str, Any]]:
    held = {gpu: lease.container for lease in leases for gpu in lease.gpus}
    taken = {lease.container: lease.model_dump() for lease in leases}
    joined = {
        "held": {"$mergeObjects": ["$held", _literal(held)]},
        "leases": {"$mergeObjects": ["$leases", _literal(taken)]},
    }
    return [{"$set": joined}, _TOTALS]


def _giving_back(container: str) -> dict[str, Any]:
    return {
        "$set": {
            "held": _without("$held", "v", container),
            "leases": _without("$leases", "k", container),
        }
    }


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
