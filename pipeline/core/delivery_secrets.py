"""Credentials of delivered images are forgotten when nobody has a use for them any more."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.model_containers import acting_for
from pipeline.core.model_writes import Change, ModelWrites
from pipeline.errors import LostRace, NotFound
from schemas.container import Container
from schemas.image import Image
from schemas.model import ModelVersion
from schemas.states import ContainerStatus, ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.secrets import Secrets

log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 50
OVER: Final = (ImageStatus.FAILED.value, ImageStatus.DELETED.value)


class DeliverySecrets:
    """Nodes pull with them, so they stay while their image counts or a container has it."""

    def __init__(
        self, store: Store, secrets: Secrets, writes: ModelWrites, clock: records.Clock
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._writes = writes
        self._clock = clock

    async def sweep(self) -> None:
        """Forget those of deliveries that failed or were superseded. Safe in several workers."""
        failed = {"secret": {"$gt": ""}, "delivery": {"$ne": None}, "status": {"$in": list(OVER)}}
        for image in await self._store.find(
            Image, org=EVERY_ORG, where=failed, sort=[], limit=SWEPT_AT_ONCE
        ):
            await self._forget(image)
        for version in await self._store.find(
            ModelVersion,
            org=EVERY_ORG,
            where={"superseded.0": {"$exists": True}},
            sort=[],
            limit=SWEPT_AT_ONCE,
        ):
            await self._settle(version)

    async def _settle(self, version: ModelVersion) -> None:
        done = {uuid for uuid in version.superseded if await self._is_over(version.org, uuid)}

        def decide(now: ModelVersion, _at: datetime) -> Change | None:
            left = [uuid for uuid in now.superseded if uuid not in done]
            return Change({"superseded": left}) if left != now.superseded else None

        if done:
            await self._writes.amend(version, decide)

    async def _is_over(self, org: str, uuid: str) -> bool:
        """Whether nothing is left to forget of the image; forgets what can be forgotten."""
        try:
            image = await self._store.get(Image, uuid, org=org)
        except NotFound:
            return True
        if image.secret is None:
            return True
        living = {"image": uuid, "status": {"$ne": ContainerStatus.DELETED.value}}
        if await self._store.count(Container, org=org, where=living):
            return False
        return await self._forget(image)

    async def _forget(self, image: Image) -> bool:
        """The secret goes first: who is killed in between finds the image again."""
        assert image.secret is not None, "only images with credentials are looked at"
        await self._secrets.discard(acting_for(image.org, None), image.secret)
        try:
            await self._store.change(image, {"secret": None}, at=self._clock())
        except LostRace:
            return False  # the next sweep
        log.info("the credentials of image %s are forgotten", image.uuid)
        return True
