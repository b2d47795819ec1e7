"""How far a load test is: its step, and whole percent that only rise."""

from __future__ import annotations

from schemas.container import Container
from schemas.states import ContainerStatus

LOADING, CHECKING = 1, 2
FIRST, CREATED, STARTED, LAST = 33, 65, 66, 99


def progress(container: Container | None, waited: float | None) -> tuple[int, int]:
    """Step and percentage. `waited` is the share of the timeout that is over, once it is asked."""
    if waited is not None:
        share = min(max(waited, 0), 1)
        return CHECKING, STARTED + int(share * (LAST - STARTED))
    if container is None:
        return LOADING, FIRST
    if container.status is ContainerStatus.PULLING:
        pulled = container.progress.percentage
        return LOADING, FIRST + pulled * (CREATED - FIRST) // 100
    is_there = container.status is ContainerStatus.CREATED or container.started_at is not None
    return LOADING, CREATED if is_there else FIRST
