"""The part of the composition root that takes archives in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipeline.adapters.registry_push import RegistryPush
from pipeline.adapters.store import Store
from pipeline.adapters.upload_files import UploadFiles
from pipeline.core import records
from pipeline.core.deliveries import Deliveries
from pipeline.core.ingest import Ingest
from pipeline.core.outbox import Outbox
from pipeline.core.upload_ingest import UploadIngest
from pipeline.core.uploads import ModelArchives, Uploads
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Uploading:
    """What doors need to take archives in."""

    ingest: Ingest
    deliveries: Deliveries
    uploads: Uploads
    upload_ingest: UploadIngest

    @classmethod
    def build(
        cls,
        store: Store,
        outbox: Outbox,
        ingest: Ingest,
        models: ModelArchives,
        settings: Settings,
        clock: records.Clock,
    ) -> Uploading:
        files = UploadFiles(settings.state / "uploads")
        deliveries = Deliveries(store, outbox, ingest, settings, clock)
        uploads = Uploads(store, files, deliveries, models, settings, clock)
        return cls(
            ingest=ingest,
            deliveries=deliveries,
            uploads=uploads,
            upload_ingest=UploadIngest(store, files, uploads, deliveries, clock),
        )


@asynccontextmanager
async def open_ingest(settings: Settings) -> AsyncIterator[Ingest]:
    """Connects to nothing yet. Closes once no archive is left half cleared away."""
    registry = RegistryPush(settings.registry, plain_hosts=settings.insecure_hosts)
    try:
        with Ingest.open(registry, settings) as ingest:
            yield ingest
    finally:
        await registry.close()
