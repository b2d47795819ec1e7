"""Nodes: the machines of the installation, as everybody may see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline.access.roles import require
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.errors import Conflict
from pipeline.records.kernel import Change, Decide, Records, living
from pipeline.records.messages import event
from pipeline.records.queries import Page, find_living, get_living, page
from schemas.access import Permission, Principal
from schemas.node import GROUP_LABEL, Drain, Node
from schemas.states import NodeStatus


class Nodes:
    """Nodes serve the whole installation: every organisation sees them, none owns them.

    Only the installation's own may change them. A node is named by its uuid or by its name.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._store = records.store

    async def list(
        self,
        caller: Principal,
        *,
        limit: int = 50,
        cursor: str | None = None,
        status: str | None = None,
        name: str | None = None,
    ) -> Page[Node]:
        """Newest first. Deleted ones appear only when `status` asks for them."""
        where = living(NodeStatus.DELETED, status, name=name)
        return await page(self._store, Node, org=EVERY_ORG, where=where, limit=limit, cursor=cursor)

    async def find(self, caller: Principal, wanted: str) -> Node:
        """As `find_living`."""
        return await find_living(self._store, Node, wanted, org=EVERY_ORG)

    async def among(self, groups: Sequence[str]) -> Sequence[Node]:
        """Those that `groups` mean (`Node.is_in`), or all; none that is lost or deleted."""
        gone = (NodeStatus.DELETED.value, NodeStatus.LOST.value)
        where: dict[str, Any] = {"status": {"$nin": gone}}
        if groups:
            label = f"labels.{GROUP_LABEL}"
            where["$or"] = [{"_id": {"$in": list(groups)}}, {label: {"$in": list(groups)}}]
        return await self._store.find(Node, org=EVERY_ORG, where=where, sort=())

    async def all(self) -> Sequence[Node]:
        """Those that are not deleted."""
        return await self._store.find(
            Node, org=EVERY_ORG, where=living(NodeStatus.DELETED), sort=()
        )

    async def get(self, caller: Principal, uuid: str) -> Node:
        """As `get_living`."""
        return await get_living(self._store, Node, uuid, org=EVERY_ORG)

    async def cordon(self, caller: Principal, wanted: str, *, cordoned: bool = True) -> Node:
        """Place nothing new on it, or again, which ends a drain; what is there goes on. Idempotent.

        Raises NotFound, PermissionDenied.
        """

        def decide(node: Node, at: datetime) -> Change | None:
            if node.cordoned is cordoned:
                return None
            if cordoned:
                return Change({"cordoned": True}, send=[event("cordoned")])
            return _opened(node, "uncordoned")

        return await self._amend(caller, wanted, decide)

    async def drain(self, caller: Principal, wanted: str) -> Node:
        """Place nothing new on it, and have replicas of deployments move to others. Idempotent.

        What else runs there stays: `Node.drain` says what is left. Raises NotFound,
        PermissionDenied.
        """

        def decide(node: Node, at: datetime) -> Change | None:
            if node.drain is not None:
                return None
            drain = Drain(since=at, by=caller.id)
            return Change({"cordoned": True, "drain": drain.model_dump()}, send=[event("draining")])

        return await self._amend(caller, wanted, decide)

    async def resume(self, caller: Principal, wanted: str) -> Node:
        """End a drain: containers are placed on it again. What has moved stays away. Idempotent.

        Raises NotFound, PermissionDenied.
        """

        def decide(node: Node, at: datetime) -> Change | None:
            return _opened(node, "resumed") if node.drain is not None else None

        return await self._amend(caller, wanted, decide)

    async def delete(self, caller: Principal, wanted: str) -> Node:
        """Give up a machine that is LOST; what ran there is placed anew. Idempotent by uuid.

        Should its agent beat again, the node joins anew. Raises NotFound, PermissionDenied, and
        Conflict while its agent beats.
        """

        def decide(node: Node, at: datetime) -> Change | None:
            if node.status is NodeStatus.DELETED:
                return None
            if node.status is not NodeStatus.LOST:
                raise Conflict(
                    f"The node {node.name} is {node.status}: stop its agent, and delete it once it"
                    " is LOST. To place nothing new on it, cordon it."
                )
            reason = f"deleted by {caller.id}"
            return Change({}, NodeStatus.DELETED, reason, [event("deleted")])

        return await self._amend(caller, wanted, decide)

    async def _amend(self, caller: Principal, wanted: str, decide: Decide[Node]) -> Node:
        # The second is what the token of a node lacks: a host must not put away another one.
        require(caller, Permission.NODE_WRITE)
        require(caller, Permission.CONTAINER_STOP)
        gone = {"_id": wanted, "status": NodeStatus.DELETED.value}
        node = await self._store.find_one(Node, org=EVERY_ORG, where=gone)
        node = node or await self.find(caller, wanted)
        return await self._records.amend(node, decide, actor=caller.id)


def _opened(node: Node, kind: str) -> Change:
    return Change({"cordoned": False, "drain": None}, send=[event(kind)])
