"""What this process counts, in the form of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.telemetry import COUNTED, counts


class Counts(Collector):
    """Everything of `telemetry.COUNTED`. A count begins at its first time."""

    def collect(self) -> Iterator[Metric]:
        for what in COUNTED:
            family = CounterMetricFamily(what.name, what.meaning, labels=what.labels)
            for labels, value in sorted(counts(what).items()):
                family.add_metric(list(labels), value)
            yield family
