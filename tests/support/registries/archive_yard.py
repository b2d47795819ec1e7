"""Archives that are pushed into a registry of its own, kept as images, and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from pipeline.adapters.registry.push import RegistryPush
from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.adapters.store.store import Store
from pipeline.images.ingest.ingest import Ingest, Wish
from pipeline.images.ingest.service import Deliveries
from pipeline.images.ownership import OwnRegistry
from pipeline.images.removal import ImageRemoval
from pipeline.images.service import Images
from pipeline.own_registry.collection import RegistryCollector
from pipeline.own_registry.fence import RegistryFence
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from pipeline.stack.collection import SupervisedRegistry
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes.piece import Supervisor
from schemas.access import Principal
from schemas.image import Image, ImageSource
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import TinyImage
from tests.support.engines.node_rig import Clock, Sent
from tests.support.registries.registry_files import RegistryFiles
from tests.support.secrets import ADA
from tests.support.secrets import settings as secret_settings


class ArchiveYard:
    """Everything that writes into the registry or takes out of it, in one process."""

    def __init__(self, store: Store, outbox: Outbox, ingest: Ingest, registry: RegistryPiece):
        self.clock, self.registry, self.store = Clock(), registry, store
        self.files = RegistryFiles(registry.host, registry.folder)
        records = Records(store, outbox, self.clock)
        settings = Settings(registry=registry.host)
        own = OwnRegistry(store, RegistryTokens(registry.host, ""))
        self.images = Images(records, Secrets(records, secret_settings()), own)
        self.fence = RegistryFence(store, "default", self.clock)
        self.deliveries = Deliveries(records, ingest, self.fence, settings)
        self.removal = ImageRemoval(records, ingest.pushes, self.fence)
        self.supervisor = Supervisor([[registry]], report=lambda _: None)
        self.reports: list[str] = []
        self.collector = RegistryCollector(
            SupervisedRegistry(registry, self.supervisor),
            self.fence,
            every=timedelta(hours=1),
            report=self.reports.append,
        )

    async def push(self, image: TinyImage, name: str, caller: Principal = ADA) -> Image:
        async def stream() -> AsyncIterator[bytes]:
            yield docker_archive(image, "any:1")

        wish = Wish(name=name)
        begun = await self.deliveries.begin(caller, wish, source=ImageSource.ARCHIVE, total=None)
        return (await self.deliveries.receive(begun, stream(), wish, length=None))[0]

    async def delete(self, image: Image, caller: Principal = ADA) -> None:
        await self.images.delete(caller, image.uuid)
        await self.removal.sweep()

    def holds(self, image: Image) -> bool:
        assert image.digest is not None
        answer = self.files.manifest(image.parts.repository, image.digest)
        assert answer.status_code in (200, 404), answer.text
        return answer.status_code == 200


@asynccontextmanager
async def archive_yard(store: Store, registry: RegistryPiece) -> AsyncIterator[ArchiveYard]:
    pushes = RegistryPush(RegistryTokens(registry.host, ""))
    with Ingest.open(pushes, Settings(registry=registry.host)) as ingest:
        async with Outbox(store, Sent()) as outbox:
            yard = ArchiveYard(store, outbox, ingest, registry)
            await yard.supervisor.start()
            try:
                yield yard
            finally:
                await pushes.close()
                await yard.supervisor.stop()
