"""Names of metrics, alert rules and the dashboard, as Prometheus' own tool reads them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from api.operations.monitoring import Metrics
from pipeline import telemetry
from pipeline.events.hub import EventHub
from pipeline.gateway.figures import Figures as Calls
from pipeline.gateway.measuring import Measuring
from pipeline.gateway.service import Gateway
from pipeline.monitoring.service import Figures, NodeFigures, Queue
from schemas.registries.registry import RegistrySpace
from tests.support.event_log import FakeEventLog
from tests.support.records import AT, ORG
from tests.support.sources import ROOT
from workers import gateway
from workers.middleware import DeliveryMetrics
from workers.process import new_registry

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
BY_PROMETHEUS = frozenset({"up"})
_NAME = re.compile(r"\b(up|(?:modelyard|process)_[a-z0-9_]+)\b")


def promtool(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def of_a_server() -> CollectorRegistry:
    metrics = Metrics()

    async def follow() -> None:
        async with EventHub.open(FakeEventLog(), buffer_frames=16) as hub:
            metrics.follow(hub)

    asyncio.run(follow())
    metrics.seconds.labels("GET", "/yard/v1/images", 200).observe(0.1)
    metrics.system.show(
        Figures(
            queues=[Queue("image-validate", 1, 1, 1.0)],
            dead_letters=1,
            nodes=[NodeFigures("n1", "READY", False, 8, 3, 1, 1.5, 2**40, 2**30, 64, 12.5)],
            records={"container": {"RUNNING": 5}},
        )
    )
    space = {"uuid": "own", "org": ORG, "created_at": AT, "updated_at": AT, "used_bytes": 1}
    metrics.show(RegistrySpace.model_validate(space))
    return metrics.registry


def of_a_worker() -> CollectorRegistry:
    registry = new_registry()
    told = DeliveryMetrics(registry)
    told.deliveries.labels("image-validate", "done").inc()
    told.seconds.labels("image-validate").observe(1)
    told.waited.labels("image-validate").observe(1)
    told.running.labels("image-validate").inc()
    return registry


def of_a_gateway() -> CollectorRegistry:
    registry = new_registry()
    called = Calls(1, 0, 9, 3, {"2xx": 8, "5xx": 1})
    measuring = cast(Measuring, SimpleNamespace(latest={"clf": called}))
    running = SimpleNamespace(deployments=1, replicas=1, reloads=1, unresolved=[])
    gateway.measure(cast(Gateway, running), measuring, registry)
    return registry


PROCESSES = {"server": of_a_server, "worker": of_a_worker, "gateway": of_a_gateway}


@pytest.fixture(autouse=True)
def counted() -> None:
    telemetry.count(telemetry.EVENTS, "container", "placed")
    telemetry.count(telemetry.TRANSFERRED, "pull", by=10)


@pytest.mark.parametrize("process", PROCESSES)
def test_metrics_are_named_and_described_as_prometheus_wants_it(process: str) -> None:
    told = generate_latest(PROCESSES[process]()).decode()
    assert promtool("check", "metrics", given=told) == ""


def test_the_rules_are_sound_and_fire_when_they_should() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ALERTS.with_name("alerts_test.yaml")))
    config = str(ALERTS.with_name("prometheus.yaml"))
    promtool("check", "config", "--syntax-only", config)


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tested = ALERTS.with_name("alerts_test.yaml").read_text()
    for rule in rules():
        assert f"alertname: {rule['alert']}\n        exp_alerts:" in tested, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}


def test_rules_and_dashboard_ask_for_what_is_told() -> None:
    known = {name for make in PROCESSES.values() for name in names(make())} | BY_PROMETHEUS
    asked = [*(rule["expr"] for rule in rules()), *(expr for _, expr in targets())]
    used = {name for expr in asked for name in _NAME.findall(expr)}
    assert used <= known, used - known
    assert len(used) > 25


def test_the_dashboard_is_one_that_grafana_can_load() -> None:
    found = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in found["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in found["panels"]]
    assert all(each["x"] + each["w"] <= 24 for each in places)
    covered = [
        (x, y)
        for each in places
        for x in range(each["x"], each["x"] + each["w"])
        for y in range(each["y"], each["y"] + each["h"])
    ]
    assert len(covered) == len(set(covered)), "panels lie on each other"


def test_expressions_of_the_dashboard_are_sound(tmp_path: Any) -> None:
    """As rules, since the tool checks only those."""
    recorded = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, (_, expr) in enumerate(targets())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(file))


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def targets() -> Iterator[tuple[str, str]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def names(registry: CollectorRegistry) -> set[str]:
    """Of all samples."""
    text = generate_latest(registry).decode()
    return {
        line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if line[0] != "#"
    }
