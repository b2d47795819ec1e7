"""An agent's node record: who it is, what it has, that it is alive."""

from __future__ import annotations

import asyncio
import logging
import uuid as uuids
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.devices import Devices
from pipeline.errors import (
    AlreadyExists,
    EngineError,
    GpusUnreadable,
    LostRace,
    Misconfigured,
    StoreUnavailable,
)
from pipeline.ports import Engine, EngineInfo, GpuReading
from pipeline.settings import Settings
from schemas.image import Platform
from schemas.node import Inventory, Node
from schemas.states import NodeStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

LEAST_LOOK_S = 5.0
"""An engine that takes longer to say what it has is given up for this heartbeat, so that the node
is seen to be alive: a slow engine must not look like a machine that is gone."""

_NODES = uuids.UUID("0c1a2f6e-0f0a-4d43-93a4-0f2b8f1f5a77")


def node_id(installation: str, name: str) -> str:
    """The same machine keeps its identity over restarts and reinstallations."""
    return str(uuids.uuid5(_NODES, f"{installation}\n{name}"))


class Registration:
    """Made anew with every agent; the record it writes outlives them all."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        engine: Engine,
        devices: Devices,
        settings: Settings,
        *,
        uuid: str,
        name: str,
        clock: records.Clock,
    ) -> None:
        """Raises Misconfigured for node labels that are not pairs."""
        self._store = store
        self._outbox = outbox
        self._engine = engine
        self._devices = devices
        self._org = settings.org_id
        self._uuid = uuid
        self._name = name
        self._address = settings.node_address
        self._labels = _labels(settings.node_labels)
        self._clock = clock
        self._started_at = clock()
        self._grace_s = settings.node_grace_s
        self._look_s = max(LEAST_LOOK_S, settings.node_grace_s / 2)
        self._image_changes = 1
        self._told_changes = 0

    def images_changed(self) -> None:
        """The next heartbeat tells anew which images the engine has."""
        self._image_changes += 1

    async def beat(self, *, reconciled: bool) -> Node:
        """Write a heartbeat with the inventory as it is now. Idempotent.

        Until `reconciled` the node does not become READY, so that nothing is placed on a machine
        whose containers are not understood yet. A node that was LOST has to reconcile anew, since
        its containers may run elsewhere by now.

        Raises Misconfigured when another machine beats under the same name.
        """
        changes = self._image_changes
        status, reason, facts = await self._look()
        node = await self._store.find_one(Node, org=EVERY_ORG, where={"_id": self._uuid})
        if node is not None:
            self._require_own(node, facts)
        was_lost = node is not None and node.status is NodeStatus.LOST
        if status is NodeStatus.READY and (was_lost or not reconciled):
            status, reason = NodeStatus.NOT_READY, "the agent is comparing its containers"
        if node is None:
            node = await self._register(status, reason, facts)
        node = await self._write(node, status, reason, facts)
        if "images" in facts:
            self._told_changes = changes
        return node

    async def require_own(self) -> None:
        """Raises Misconfigured when another machine beats under this name.

        Each of two would take the containers of the other for lost. Says nothing while the store
        or the engine does not answer: then the heartbeats find out.
        """
        try:
            _, _, facts = await self._look()
            node = await self._store.find_one(Node, org=EVERY_ORG, where={"_id": self._uuid})
        except StoreUnavailable as error:
            log.warning("whether the node's name is taken is not known yet: %s", error)
            return
        if node is not None:
            self._require_own(node, facts)

    def _require_own(self, node: Node, facts: Mapping[str, Any]) -> None:
        mine = facts.get("inventory", {}).get("engine_id")
        theirs = node.inventory.engine_id
        if mine and theirs and mine != theirs:
            silent_s = abs((self._clock() - node.last_heartbeat).total_seconds())
            if silent_s < self._grace_s:
                raise Misconfigured(
                    f"Another machine is the node {self._name} already: give each node a name of"
                    f" its own (MODELYARD_NODE_NAME). Should it have been replaced, start again in"
                    f" {self._grace_s:g} s."
                )

    async def _look(self) -> tuple[NodeStatus, str | None, dict[str, Any]]:
        """What is known about the machine. It beats also when engine or GPUs do not answer."""
        try:
            async with asyncio.timeout(self._look_s):
                return NodeStatus.READY, None, await self._facts()
        except (EngineError, GpusUnreadable) as error:
            return NodeStatus.NOT_READY, error.message, {}
        except TimeoutError:
            slow = f"the engine did not say within {self._look_s:g} s what it has"
            return NodeStatus.NOT_READY, slow, {}

    async def _facts(self) -> dict[str, Any]:
        info = await self._engine.info()
        inventory = _inventory(info, await self._devices.read())
        facts: dict[str, Any] = {"inventory": inventory.model_dump()}
        if self._told_changes < self._image_changes:
            facts["images"] = sorted(await self._engine.image_digests())
        return facts

    async def _register(
        self, status: NodeStatus, reason: str | None, facts: dict[str, Any]
    ) -> Node:
        at = self._clock()
        node = Node(
            uuid=self._uuid,
            org=self._org,
            created_at=at,
            updated_at=at,
            status_since=at,
            status=status,
            reason=reason,
            name=self._name,
            address=self._address,
            labels=self._labels,
            inventory=facts.get("inventory") or _unknown(),
            last_heartbeat=at,
            agent_started_at=self._started_at,
        )
        node.outbox = [self._announce(node, "registered", at, 1, status, reason)]
        try:
            node = await self._store.insert(node)
        except AlreadyExists:
            return await self._store.get(Node, self._uuid, org=EVERY_ORG)
        await self._outbox.send(node)
        return node

    async def _write(
        self, node: Node, status: NodeStatus, reason: str | None, facts: dict[str, Any]
    ) -> Node:
        at = self._clock()
        values: dict[str, Any] = facts | {
            "last_heartbeat": at,
            "agent_started_at": self._started_at,
            "address": self._address,
            "labels": self._labels,
        }
        if node.status is status:
            beaten = await self._store.update(
                Node,
                node.uuid,
                org=EVERY_ORG,
                guard={"status": status.value},
                update={"$set": values},
            )
            return beaten or await self.beat(reconciled=status is NodeStatus.READY)
        return await self._move(node, status, reason, values, at)

    async def _move(
        self,
        node: Node,
        status: NodeStatus,
        reason: str | None,
        values: dict[str, Any],
        at: datetime,
    ) -> Node:
        kind = status.lower().replace("_", "-")
        message = self._announce(node, kind, at, node.revision + 1, status, reason)
        try:
            node = await self._store.change(
                node, values, at=at, status=status, reason=reason, messages=[message]
            )
        except LostRace:
            log.info("the node record changed during the heartbeat; the next one repeats it")
            return node
        await self._outbox.send(node)
        return node

    def _announce(
        self,
        node: Node,
        kind: str,
        at: datetime,
        revision: int,
        status: NodeStatus,
        reason: str | None,
    ) -> Any:
        return records.event(
            node,
            kind,
            at=at,
            actor=f"node:{node.uuid}",
            revision=revision,
            name=node.name,
            status=status,
            reason=reason,
        )


def _inventory(info: EngineInfo, gpus: GpuReading) -> Inventory:
    return Inventory(
        engine_version=info.version,
        api_version=info.api_version,
        engine_id=info.id,
        platform=info.platform,
        cpus=info.cpus,
        memory_bytes=info.memory_bytes,
        gpus=list(gpus.gpus),
        driver=gpus.driver,
        cuda=gpus.cuda,
        simulated=gpus.simulated,
    )


def _unknown() -> Inventory:
    """Of a machine whose engine has never answered: nothing can be placed there."""
    return Inventory(platform=Platform(architecture="unknown"), cpus=0, memory_bytes=0)


def _labels(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if any(not found or not key.strip() for key, found, _ in pairs):
        raise Misconfigured(
            "MODELYARD_NODE_LABELS must be key=value pairs separated by commas, for instance"
            " zone=a,gpu=h100."
        )
    return {key.strip(): value.strip() for key, _, value in pairs}
