"""Everything about models, joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core import records
from pipeline.core.containers import Containers
from pipeline.core.model_deliveries import ModelDeliveries
from pipeline.core.model_files import ModelFiles
from pipeline.core.model_versions import ModelVersions
from pipeline.core.model_writes import ModelWrites
from pipeline.core.models import Models
from pipeline.core.secrets import Secrets
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox


@dataclass(frozen=True, slots=True)
class ModelServices:
    """Built once per process; contacts nobody by being built."""

    models: Models
    versions: ModelVersions
    files: ModelFiles
    deliveries: ModelDeliveries

    @classmethod
    def build(
        cls,
        store: Store,
        outbox: Outbox,
        secrets: Secrets,
        containers: Containers,
        settings: Settings,
        clock: records.Clock,
    ) -> ModelServices:
        writes = ModelWrites(store, outbox, clock)
        versions = ModelVersions(store, outbox, writes, clock)
        return cls(
            models=Models(store, outbox, versions, clock),
            versions=versions,
            files=ModelFiles(store, clock),
            deliveries=ModelDeliveries(store, outbox, writes, secrets, containers, settings, clock),
        )
