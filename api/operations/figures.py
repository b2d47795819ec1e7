"""Figures of the whole system for Prometheus. Every server tells the same: take one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.monitoring.service import Figures, NodeFigures

_OF_A_NODE: tuple[tuple[str, str, Callable[[NodeFigures], float]], ...] = (
    ("gpus", "GPUs that the node has.", lambda node: node.gpus),
    ("gpus_allocated", "GPUs that containers hold.", lambda node: node.gpus_allocated),
    ("gpus_unhealthy", "GPUs that nothing is placed on.", lambda node: node.gpus_unhealthy),
    (
        "gpus_busy",
        "GPUs' worth of time that containers kept their GPUs busy, as measured last.",
        lambda node: node.gpus_busy,
    ),
    ("memory_bytes", "Memory of the node.", lambda node: node.memory_bytes),
    (
        "memory_allocated_bytes",
        "Memory that containers hold.",
        lambda node: node.memory_allocated_bytes,
    ),
    ("cpus", "CPUs of the node.", lambda node: node.cpus),
    ("cpus_allocated", "CPUs that containers hold.", lambda node: node.cpus_allocated),
    ("cordoned", "1 while nothing new is placed on the node.", lambda node: node.cordoned),
)


class SystemFigures(Collector):
    """Tells what was shown last; nothing while store or broker are away."""

    def __init__(self) -> None:
        self._figures: Figures | None = None

    def show(self, figures: Figures | None) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        if figures is None:
            return
        yield from _queues(figures)
        yield GaugeMetricFamily(
            "modelyard_dead_letters", "Messages that were given up and are kept.",
            figures.dead_letters,
        )  # fmt: skip
        yield from _nodes(figures.nodes)
        yield _family(
            "modelyard_records",
            "Records that are not deleted.",
            ("resource", "status"),
            (
                ((resource, status), count)
                for resource, counts in figures.records.items()
                for status, count in sorted(counts.items())
            ),
        )


def _queues(figures: Figures) -> Iterator[Metric]:
    queues = figures.queues
    yield _family(
        "modelyard_queue_messages",
        "Messages of a stage: waiting for a worker, or in progress at one.",
        ("stage", "state"),
        (
            ((each.stage, state), count)
            for each in queues
            for state, count in (("waiting", each.waiting), ("in_progress", each.in_progress))
        ),
    )
    yield _family(
        "modelyard_queue_oldest_seconds",
        "Age of the oldest message of a stage that is not done; 0 without any.",
        ("stage",),
        (((each.stage,), each.oldest_s) for each in queues),
    )


def _nodes(nodes: Sequence[NodeFigures]) -> Iterator[Metric]:
    for name, meaning, value in _OF_A_NODE:
        yield _family(
            f"modelyard_node_{name}",
            meaning,
            ("node",),
            (((node.name,), value(node)) for node in nodes),
        )
    yield _family(
        "modelyard_node_status",
        "1 for the status that the node has.",
        ("node", "status"),
        (((node.name, node.status), 1) for node in nodes),
    )


def _family(
    name: str, meaning: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, sample in samples:
        family.add_metric(list(values), float(sample))
    return family
