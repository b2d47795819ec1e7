"""Joins the catalogue, which says what images require, and placement, which asks for that."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.adapters.store.search import Search
from pipeline.catalog.gates import Gates
from pipeline.catalog.rows import CatalogRows
from pipeline.catalog.service import Catalog
from pipeline.catalog.validation import EntryValidation
from pipeline.images.service import Images
from pipeline.nodes.leases import Leases
from pipeline.nodes.service import Nodes
from pipeline.placement.node_checks import NodeChecks
from pipeline.placement.node_view import NodeView
from pipeline.placement.service import Placement
from pipeline.placement.sweeps import LostNodes, StaleLeases, WaitingContainers
from pipeline.records.kernel import Records
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class CatalogServices:
    service: Catalog
    rows: CatalogRows
    gates: Gates
    validation: EntryValidation


@dataclass(frozen=True, slots=True)
class PlacementServices:
    service: Placement
    view: NodeView
    nodes: Nodes
    checks: NodeChecks
    lost_nodes: LostNodes
    stale_leases: StaleLeases
    waiting: WaitingContainers


def catalog(
    records: Records,
    search: Search,
    gates: Gates,
    images: Images,
    secrets: Secrets,
    settings: Settings,
) -> CatalogServices:
    """Contacts nobody by being built."""
    service = Catalog(records, search, gates.rows, settings)
    validation = EntryValidation(
        records, service, images, secrets, stuck_after_s=settings.stuck_after_s
    )
    return CatalogServices(service, gates.rows, gates, validation)


def placement(
    records: Records, leases: Leases, gates: Gates, settings: Settings
) -> PlacementServices:
    """Contacts nobody by being built."""
    grace_s, every_s = settings.node_grace_s, settings.sweep_interval_s
    view = NodeView(records.store, grace_s=grace_s, clock=records.clock)
    return PlacementServices(
        Placement(
            records,
            leases,
            view,
            gates,
            node_grace_s=grace_s,
            patience_s=settings.placement_patience_s,
        ),
        view,
        Nodes(records),
        NodeChecks(records, gates, grace_s=grace_s),
        LostNodes(records, leases, grace_s=grace_s, sweep_interval_s=every_s),
        StaleLeases(records, leases, age_s=settings.stuck_after_s),
        WaitingContainers(records, view),
    )
