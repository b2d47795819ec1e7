"""How what waits is summed up by stage."""

from __future__ import annotations

from pipeline.adapters.bus.backlog import Backlog
from pipeline.monitoring.service import Queue, queues_of

UUID = "0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0"
OTHER = "1b8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0"


def test_stages_are_told_one_by_one_and_nodes_and_webhooks_together() -> None:
    found = queues_of(
        [
            Backlog("image-validate", 3, 1, 10),
            Backlog("node-drain", 1, 0, 2),
            Backlog(f"node-{UUID}", 4, 1, 7.5),
            Backlog(f"node-{OTHER}", 2, 0, 30),
            Backlog("webhook-delivery-deliver", 5, 0, 1),
            Backlog(f"webhook-{UUID}-0", 1, 1, 3),
        ]
    )
    assert found == [
        Queue("image-validate", 3, 1, 10),
        Queue("node", 6, 1, 30),
        Queue("node-drain", 1, 0, 2),
        Queue("webhook", 1, 1, 3),
        Queue("webhook-delivery-deliver", 5, 0, 1),
    ]
