"""The volumes of one node: mounted in containers, and removed once their end was asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.agent.reconciler import EngineReconciler
from pipeline.containers.engine_plan import ORG, VOLUME, volume_name
from pipeline.containers.volumes import Volumes
from pipeline.errors import EngineError, EngineUnavailable, LostRace
from pipeline.ports import Mount
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import event
from schemas.container import Container, Volume
from schemas.states import VolumeStatus

log = logging.getLogger(__name__)


class NodeVolumes:
    """Each call may be repeated: what is made or removed already stays so."""

    def __init__(self, reconciler: EngineReconciler, records: Records) -> None:
        self._engine = reconciler.engine
        self._node = reconciler.node
        self._records = records
        self._volumes = Volumes(records)

    async def claim(self, container: Container) -> list[Volume]:
        """What it keeps, in the order of its spec; new ones are of this node. Idempotent."""
        wanted = container.spec.volumes
        return [await self._volumes.claim(container, each.path) for each in wanted]

    async def give(self, container: Container, path: str) -> Volume:
        """As `Volumes.claim`."""
        return await self._volumes.claim(container, path)

    def elsewhere(self, volumes: Sequence[Volume]) -> str | None:
        """Why it cannot run here: somebody made one of them on another node. None when it can."""
        away = next((each for each in volumes if each.node != self._node.uuid), None)
        return None if away is None else f"its volume {away.path} is on {away.node_name}"

    async def mounts(self, container: Container, volumes: Sequence[Volume]) -> list[Mount]:
        """Claimed ones, there on the engine. Idempotent. Raises EngineErrors, ForeignContainer."""
        found = []
        for wanted, volume in zip(container.spec.volumes, volumes, strict=True):
            name = volume_name(volume.uuid)
            labels = {**self._node.labels, ORG: volume.org, VOLUME: volume.uuid}
            await self._engine.create_volume(name, labels)
            found.append(Mount(name, wanted.path, read_only=wanted.read_only))
        return found

    async def sweep(self) -> None:
        """Remove those whose end was asked for, but for what a container has still. Idempotent.

        Raises EngineUnavailable, StoreUnavailable.
        """
        ending = {"node": self._node.uuid, "status": VolumeStatus.DELETING.value}
        for volume in await self._records.store.find(Volume, org=EVERY_ORG, where=ending, sort=()):
            try:
                await self._engine.remove_volume(volume_name(volume.uuid))
                done = Change({}, VolumeStatus.DELETED, "deleted", [event("deleted")])
                await self._records.commit(volume, done, actor=f"node:{self._node.uuid}")
            except EngineUnavailable:
                raise
            except EngineError as error:
                log.warning("volume %s of %s stays for now: %s", volume.path, volume.name, error)
            except LostRace:
                log.info("volume %s of %s was removed already", volume.path, volume.name)
