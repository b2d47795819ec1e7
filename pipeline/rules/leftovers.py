"""Which leases nobody will give back any more, because whoever should have has died."""

from __future__ import annotations

from datetime import datetime

from pipeline.rules.observation import OVER
from schemas.container import Container
from schemas.node import Lease
from schemas.states import ContainerStatus as Status


def is_left_over(lease: Lease, node: str, record: Container | None, *, before: datetime) -> bool:
    """May this lease on `node` (a uuid) be freed?

    `record` is the container's, read after the lease was. A record that changed at or after
    `before` is left alone: whoever changed it may be about to free or to use the lease.
    """
    if record is None:
        return True
    if record.updated_at >= before or lease.fence > record.fence:
        return False
    if record.status in OVER or lease.fence < record.fence:
        return True
    # A container that waits to be placed drops its own leftovers with the next attempt.
    return record.status is not Status.REQUESTED and record.node != node
