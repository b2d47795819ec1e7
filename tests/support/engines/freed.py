"""Leases are given back right after the state that ends them is written, not with it."""

from __future__ import annotations

from tests.support.engines.node_rig import NodeRig
from tests.support.waiting import eventually


async def nothing_is_leased(rig: NodeRig) -> None:
    async def freed() -> bool:
        return not (await rig.node()).leases

    await eventually(freed)
