"""An agent's node record: who it is, what it has, that it is alive."""

from __future__ import annotations

import asyncio
import logging
import uuid as uuids
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pipeline.adapters.store import bulk
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.agent.machine import Devices
from pipeline.errors import EngineError, GpusUnreadable, LostRace, Misconfigured, StoreUnavailable
from pipeline.ports import Engine, EngineInfo, GpuReading
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.image import Platform
from schemas.node import Inventory, Node
from schemas.states import NodeStatus

log = logging.getLogger(__name__)

LEAST_LOOK_S = 5.0
"""An engine that takes longer to say what it has is given up for this heartbeat, so that the node
is seen to be alive: a slow engine must not look like a machine that is gone."""

GONE = frozenset({NodeStatus.LOST, NodeStatus.DELETED})
_NEW: Final[dict[str, Any]] = {"cordoned": False, "drain": None, "had": None}
"""What is known of a machine that was given up does not count when it joins again."""

_NODES = uuids.UUID("0c1a2f6e-0f0a-4d43-93a4-0f2b8f1f5a77")


def node_id(installation: str, name: str) -> str:
    """The same machine keeps its identity over restarts and reinstallations."""
    return str(uuids.uuid5(_NODES, f"{installation}\n{name}"))


@dataclass(frozen=True, slots=True)
class _Machine:
    """What is known about the machine at one moment."""

    status: NodeStatus
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def inventory(self) -> Inventory | None:
        """None where engine or GPUs did not say what they have."""
        found = self.facts.get("inventory")
        return None if found is None else Inventory.model_validate(found)


class Registration:
    """Made anew with every agent; the record it writes outlives them all."""

    def __init__(
        self,
        records: Records,
        engine: Engine,
        devices: Devices,
        secrets: Secrets,
        settings: Settings,
        *,
        uuid: str,
        name: str,
    ) -> None:
        """Raises Misconfigured for node labels that are not pairs."""
        self._records = records
        self._store = records.store
        self._engine = engine
        self._devices = devices
        self._secrets = secrets
        self._org = settings.org
        self._uuid = uuid
        self._name = name
        self._clock = records.clock
        self._given: dict[str, Any] = {
            "agent_started_at": records.clock(),
            "address": settings.node_address,
            "labels": _labels(settings.node_labels),
        }
        self._grace_s = settings.node_grace_s
        self._look_s = max(LEAST_LOOK_S, settings.node_grace_s / 2)
        self._key_every_s = settings.reconcile_interval_s
        self._key_due_at = 0.0
        self._key_fault: str | None = None
        self._written: tuple[Node, dict[str, Any]] | None = None
        """As this agent left the record last, and of what."""
        self._image_changes = 1
        self._reported_changes = 0

    def images_changed(self) -> None:
        """The next heartbeat reports anew which images the engine has."""
        self._image_changes += 1

    async def beat(self, *, reconciled: bool) -> Node:
        """Write a heartbeat with the inventory as it is now. Idempotent.

        Until `reconciled` the node does not become READY, so that nothing is placed on a machine
        whose containers are not understood yet. A node that was LOST has to reconcile anew, since
        its containers may run elsewhere by now.

        Raises Misconfigured when another machine beats under the same name.
        """
        changes = self._image_changes
        seen = await self._look()
        if reconciled and (unchanged := await self._beat_lightly(seen)) is not None:
            return unchanged
        node = await self._find()
        if node is not None:
            self._require_own(node, seen)
        was_lost = node is not None and node.status in GONE
        if seen.status is NodeStatus.READY and (was_lost or not reconciled):
            comparing = "the agent is comparing its containers"
            seen = replace(seen, status=NodeStatus.NOT_READY, reason=comparing)
        node = await self._write(node or await self._register(seen), seen)
        self._written = (node, seen.facts)
        if "images" in seen.facts:
            self._reported_changes = changes
        return node

    async def _beat_lightly(self, seen: _Machine) -> Node | None:
        """Tell nothing but the time while all is as this agent wrote it last; else None.

        There may be thousands of nodes, and the store reads and compares the whole otherwise.
        """
        if self._written is None or seen.status is not NodeStatus.READY:
            return None
        node, facts = self._written
        known = {name: fact for name, fact in facts.items() if name != "images"}
        if (node.status, node.reason) != (seen.status, seen.reason) or known != seen.facts:
            return None
        at = self._clock()
        told = await bulk.touch(
            self._store,
            Node,
            self._uuid,
            guard={
                "status": node.status.value,
                "agent_started_at": node.agent_started_at,
                "had": None,
            },
            values={"last_heartbeat": at},
            fields=["leases"],
        )
        if told is None or _unleased(seen, told["leases"]) != node.ports_in_use:
            return None
        return node.model_copy(update={"last_heartbeat": at})

    async def require_own(self) -> None:
        """Raises Misconfigured when another machine beats under this name.

        Each of two would take the containers of the other for lost. Says nothing while the store
        or the engine does not answer: then the heartbeats find out.
        """
        try:
            seen = await self._look()
            node = await self._find()
        except StoreUnavailable as error:
            log.warning("whether the node's name is taken is not known yet: %s", error)
            return
        if node is not None:
            self._require_own(node, seen)

    async def _find(self) -> Node | None:
        return await self._store.find_by_id(Node, self._uuid, org=EVERY_ORG)

    def _require_own(self, node: Node, seen: _Machine) -> None:
        mine = seen.facts.get("inventory", {}).get("engine_id")
        theirs = node.inventory.engine_id
        if mine and theirs and mine != theirs:
            silent_s = abs((self._clock() - node.last_heartbeat).total_seconds())
            if silent_s < self._grace_s:
                raise Misconfigured(
                    f"Another machine is the node {self._name} already: give each node a name of"
                    f" its own (MODELYARD_NODE_NAME). Should it have been replaced, start again in"
                    f" {self._grace_s:g} s."
                )

    async def _look(self) -> _Machine:
        """It beats also when engine or GPUs do not answer."""
        try:
            async with asyncio.timeout(self._look_s):
                facts = await self._facts()
                fault = await self._fault_of_key()
                return _Machine(NodeStatus.NOT_READY if fault else NodeStatus.READY, fault, facts)
        except (EngineError, GpusUnreadable) as error:
            return _Machine(NodeStatus.NOT_READY, error.message)
        except TimeoutError:
            slow = f"the engine did not say within {self._look_s:g} s what it has"
            return _Machine(NodeStatus.NOT_READY, slow)

    async def _fault_of_key(self) -> str | None:
        """Why nothing that needs a secret could be pulled here; looked at now and then."""
        now = asyncio.get_running_loop().time()
        if now >= self._key_due_at:
            try:
                await self._secrets.require_opened()
                self._key_fault = None
            except Misconfigured as error:
                self._key_fault = f"the installation's secrets do not open here: {error.message}"
            self._key_due_at = now + self._key_every_s
        return self._key_fault

    async def _facts(self) -> dict[str, Any]:
        info = await self._engine.info()
        inventory = _inventory(info, await self._devices.read())
        in_use = sorted(await self._devices.ports.in_use())
        facts: dict[str, Any] = {"inventory": inventory.model_dump(), "ports_in_use": in_use}
        if self._reported_changes < self._image_changes:
            facts["images"] = sorted(await self._engine.image_digests())
        return facts

    async def _register(self, seen: _Machine) -> Node:
        at = self._clock()
        node = Node(
            **self._records.initial(self._org, self._uuid, at=at),
            status=seen.status,
            reason=seen.reason,
            name=self._name,
            inventory=seen.facts.get("inventory") or _unknown(),
            last_heartbeat=at,
            **self._given,
        )
        return await self._records.insert_once(
            node, [event("registered")], actor=f"node:{self._uuid}"
        )

    async def _write(self, node: Node, seen: _Machine) -> Node:
        values = seen.facts | self._given | {"last_heartbeat": self._clock()}
        if seen.inventory is not None:
            had = node.remembered(seen.inventory)
            values["had"] = None if had is None else had.model_dump()
            # Those that are leased stand in the leases, and are free with them.
            leases = {name: lease.model_dump() for name, lease in node.leases.items()}
            values["ports_in_use"] = _unleased(seen, leases)
        if (node.status, node.reason) == (seen.status, seen.reason):
            same, update = {"status": seen.status.value}, {"$set": values}
            beaten = await self._store.update(
                Node, node.uuid, org=EVERY_ORG, guard=same, update=update
            )
            return beaten or await self.beat(reconciled=seen.status is NodeStatus.READY)
        kind = seen.status.lower().replace("_", "-")
        if node.status is NodeStatus.DELETED:
            kind, values = "registered", values | _NEW
        change = Change(values, seen.status, seen.reason, [event(kind)])
        try:
            return await self._records.commit(node, change, actor=f"node:{self._uuid}")
        except LostRace:
            log.info("the node record changed during the heartbeat; the next one repeats it")
            return node


def _unleased(seen: _Machine, leases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Host ports that somebody else listens on."""
    leased = {port for lease in leases.values() for port in lease.get("host_ports", ())}
    return [port for port in seen.facts["ports_in_use"] if port not in leased]


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
