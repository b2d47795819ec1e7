"""Nodes as clients of the container service name them."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Final

from fastapi import Query

from pipeline import concurrency
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import EngineUnavailable, ForeignContainer, YardError
from schemas.access import Principal
from schemas.node import Node
from schemas.states import NodeStatus

log = logging.getLogger(__name__)

PREFIX: Final = "/container-svc"
NodeId = Annotated[str, Query(description="Only on this node, by uuid or name.")]
LOOK_S: Final = 5.0
"""Within which engines say whether they know a name."""


async def node_of(
    services: Services, caller: Principal, wanted: str, *, must_answer: bool = False
) -> Node | None:
    """None where any will do. Raises NotFound, and EngineUnavailable for one that is lost."""
    if not wanted:
        return None
    node = await services.placement.nodes.find(caller, wanted)
    if must_answer and node.status is not NodeStatus.READY:
        why = f": {node.reason}" if node.reason else ""
        raise EngineUnavailable(f"The node {node.name} is {node.status}{why}")
    return node


async def known_nodes(services: Services) -> list[Node]:
    """All that are not deleted, by name."""
    nodes = await services.placement.nodes.all()
    return sorted(nodes, key=lambda node: (node.name, node.uuid))


async def refuse_foreign(services: Services, node: Node | None, name: str) -> None:
    """Raises ForeignContainer when an engine has a container called so. What does not answer in
    time knows none."""
    nodes = await known_nodes(services) if node is None else [node]

    async def is_held(each: Node) -> bool:
        try:
            async with asyncio.timeout(LOOK_S):
                return await services.containers.names.is_held(each.uuid, name)
        except (YardError, TimeoutError) as error:
            log.info("node %s does not say whether it has %s: %s", each.name, name, error)
            return False

    asked = [is_held(each) for each in nodes if each.status is NodeStatus.READY]
    if any(await concurrency.gather_or_cancel(*asked)):
        raise ForeignContainer(f"The container {name} is somebody else's: it is left alone.")
