"""The parts of the registry directory, joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pipeline.core import records
from pipeline.core.registries import Registries
from pipeline.core.registry_catalogue import RegistryCatalogue
from pipeline.core.registry_checks import RegistryChecks
from pipeline.core.registry_probes import RegistryProbe
from pipeline.core.registry_sweeps import RegistrySweeps
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.adapters.registry import RegistryClient
    from pipeline.adapters.store import Store
    from pipeline.adapters.store_search import Search
    from pipeline.core.outbox import Outbox
    from pipeline.core.secrets import Secrets


@dataclass(frozen=True, slots=True)
class RegistryServices:
    """What the API and the workers use of it. Opened by `pipeline.services`."""

    entries: Registries
    checks: RegistryChecks
    sweeps: RegistrySweeps
    catalogue: RegistryCatalogue

    @classmethod
    def build(
        cls,
        store: Store,
        search: Search,
        outbox: Outbox,
        secrets: Secrets,
        client: RegistryClient,
        settings: Settings,
        *,
        clock: records.Clock,
        jitter: Callable[[], float],
    ) -> Self:
        """`jitter` draws from [0, 1)."""
        entries = Registries(store, search, outbox, secrets, settings, clock)
        probe = RegistryProbe(secrets, client, clock)
        checks = RegistryChecks(store, outbox, probe, settings, clock=clock, jitter=jitter)
        return cls(
            entries,
            checks,
            RegistrySweeps(store, checks, clock),
            RegistryCatalogue(entries, client, probe),
        )
