"""The worker as a process that cannot work, and what it tells Prometheus."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from pipeline.errors import Misconfigured
from pipeline.settings import Settings
from workers import process
from workers.process import new_registry, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers"],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_a_refused_metrics_port_is_one_clear_line(taken_port: int) -> None:
    ended = run(MODELYARD_METRICS_PORT=str(taken_port))
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert json.loads(line)["code"] == "misconfigured"
    assert f"MODELYARD_METRICS_PORT: 127.0.0.1:{taken_port}" in json.loads(line)["message"]


def test_an_address_that_is_none_is_one_clear_line_without_credentials() -> None:
    ended = run(MODELYARD_NATS_URL="nats://user:hunter2@:port")
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "MODELYARD_NATS_URL" in json.loads(line)["message"]
    assert "hunter2" not in ended.stderr


def test_what_ends_one_of_several_tasks_is_one_clear_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "configure_logging", lambda _level: None)

    async def refuse() -> None:
        raise Misconfigured("Another machine is the node gpu-1 already.")

    async def work(_settings: Settings, _registry: CollectorRegistry) -> None:
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            outer.create_task(asyncio.Event().wait())
            inner.create_task(refuse())

    assert process.run(work, service="worker") == 1
    [record] = [one for one in caplog.records if one.name == "workers.process"]
    assert record.getMessage() == "cannot work: Another machine is the node gpu-1 already."


def test_scrapes_are_answered() -> None:
    registry = new_registry()
    Counter("yard_things", "Things.", registry=registry).inc(3)
    with (
        serving(registry, port=0, host="127.0.0.1") as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer,
    ):
        text = answer.read().decode()
    assert "yard_things_total 3.0" in text
    assert "process_resident_memory_bytes" in text
