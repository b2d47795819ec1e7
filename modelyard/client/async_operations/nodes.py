"""Operations: nodes.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from modelyard.client.asynchronous import AsyncSender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.types.nodes import Node, NodeStatus


class AsyncNodes(AsyncSender):
    """Nodes."""

    def list_nodes(
        self, *, limit: int | None = None, status: NodeStatus | None = None, name: str | None = None
    ) -> AsyncIterator[Node]:
        """The machines of the installation, with their GPUs and which of them are in use."""
        return self._pages(
            Call("GET", "/yard/v1/nodes", query={"status": status, "name": name}), limit
        )

    async def find_node(self, *, called: str) -> Node:
        """The machine of this uuid, or beginning of one, or name."""
        found: Node = await self._json(Call("GET", "/yard/v1/nodes/find", query={"called": called}))
        return found

    async def get_node(self, uuid: str) -> Node:
        """One machine: its engine, platform, capacity, GPUs and last heartbeat."""
        found: Node = await self._json(Call("GET", "/yard/v1/nodes/{}", (uuid,)))
        return found

    async def delete_node(self, uuid: str) -> Node:
        """Give up a machine that is LOST: it is listed no more, and what waited for it is placed
        anew."""
        found: Node = await self._json(Call("DELETE", "/yard/v1/nodes/{}", (uuid,)))
        return found

    async def cordon_node(self, uuid: str) -> Node:
        """Place nothing new on a machine; what is there goes on. A repeat does nothing."""
        found: Node = await self._json(Call("POST", "/yard/v1/nodes/{}/cordon", (uuid,)))
        return found

    async def uncordon_node(self, uuid: str) -> Node:
        """Place containers on a machine again, which ends a drain. A repeat does nothing."""
        found: Node = await self._json(Call("POST", "/yard/v1/nodes/{}/uncordon", (uuid,)))
        return found

    async def drain_node(self, uuid: str) -> Node:
        """Empty a machine: nothing new is placed there, and replicas of deployments move to
        others."""
        found: Node = await self._json(Call("POST", "/yard/v1/nodes/{}/drain", (uuid,)))
        return found

    async def resume_node(self, uuid: str) -> Node:
        """End the drain of a machine: containers are placed there again. A repeat does nothing."""
        found: Node = await self._json(Call("POST", "/yard/v1/nodes/{}/resume", (uuid,)))
        return found
