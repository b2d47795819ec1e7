"""§9: what is published about a version's image."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.models.jobs.trials import LoadTests
from pipeline.models.runtime.starts import StartProgress
from schemas.image import Delivery
from schemas.model import LoadTest, ModelVersion, Phase
from schemas.states import ContainerStatus
from tests.connected.models.conftest import Models
from tests.connected.models.test_archives import ARCHIVE, SlowSender
from tests.support.engines.node_rig import ORG, node_rig
from tests.support.events import stored_events
from tests.support.models.models_door import Door, Version
from tests.support.records import AT, container
from tests.support.systems.system import System
from tests.support.waiting import eventually


async def published(system: System, made: Version) -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of every event about the image of a version, in order."""
    found = []
    async with (
        Bus.open(system.settings["NATS_URL"], name="test") as bus,
        aclosing(stored_events(bus, "default")) as events,
    ):
        async for event in events:
            subject = topology.parse_event(event.subject)
            data = json.loads(event.data)
            if subject.resource == "image" and data.get("identifier") == made.identifier:
                found.append((subject.kind, data))
    return found


async def until(system: System, made: Version, kind: str) -> list[tuple[str, dict[str, Any]]]:
    latest: list[tuple[str, dict[str, Any]]] = []

    async def is_told() -> bool:
        nonlocal latest
        latest = await published(system, made)
        return kind in [each for each, _ in latest]

    await eventually(is_told)
    return latest


async def test_an_upload_and_a_load_are_told_step_by_step(
    door: Door, models: Models, models_system: System
) -> None:
    made = await door.create("x")
    await made.delivered(models(STATUS_DELAY="1"))
    await made.load()
    told = await until(models_system, made, "load.completed")
    kinds = [kind for kind, _ in told]
    progressed = [data for kind, data in told if kind == "load.progressed"]
    assert [kind for kind in kinds if kind != "load.progressed"] == [
        "upload.started",
        "upload.completed",
        "load.started",
        "container.stopped",
        "load.completed",
    ]
    for _, data in told:
        assert (data["identifier"], data["version"]) == (made.identifier, "1.0.0")
        assert data["containerImage"]["status"] == data["status"]
    assert told[1][1]["containerImage"]["percentage"] == 100
    assert told[-1][1]["containerImage"] == await made.get("container-image")
    percents = [data["containerImage"]["loadPercentage"] for data in progressed]
    assert percents == sorted(set(percents))
    assert {data["containerImage"]["step"] for data in progressed} <= {1, 2}
    revisions = [data["revision"] for _, data in told if data]
    assert revisions == sorted(revisions)


async def test_how_far_a_load_is_is_told_no_more_often_than_the_setting_says(store: Store) -> None:
    async with node_rig(store, progress_interval_s=600) as rig:
        named = {"model_name": "classifier", "version": "1.0.0"}
        image = await rig.image(delivery=Delivery(identifier="classifier", **named))
        load = LoadTest(id="one", phase=Phase.RUNNING, image=image.uuid)
        named["model"] = "classifier"
        version = ModelVersion(**rig.records.initial(ORG), **named, image=image.uuid, load=load)
        unused: Any = None
        loads = LoadTests(rig.records, unused, unused, rig.settings)
        run = await loads._run(await rig.records.insert(version, []))
        for waited in (0.1, 0.5, 0.9):
            shown = StartProgress(container(status=ContainerStatus.RUNNING, started_at=AT), waited)
            await loads._report(run, shown)
    assert (await store.get(ModelVersion, version.uuid, org=ORG)).load.percentage == 95
    told = [each for each in rig.sent.messages if each.subject.endswith("load.progressed")]
    assert len(told) == 1


async def test_the_bytes_of_an_archive_are_told_once_per_percent(
    door: Door, models_system: System
) -> None:
    made, sender = await door.create("x"), SlowSender(ARCHIVE, pieces=400)
    sender.allow(400)
    answer = await made.call("POST", "container-image", content=sender, headers=sender.length)
    assert answer.status_code == 201
    told = await until(models_system, made, "upload.completed")
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "upload.started"
    assert set(kinds[1:-1]) <= {"upload.progressed"}
    shown = [data["containerImage"] for kind, data in told if kind == "upload.progressed"]
    percents = [each["percentage"] for each in shown]
    assert percents == sorted(set(percents))
    assert all(0 < each <= 99 for each in percents)
    assert {each["status"] for each in shown} <= {"uploading"}
    assert told[-1][1]["containerImage"]["percentage"] == 100


async def test_failures_are_told(
    door: Door, models: Models, models_system: System, registry_host: str
) -> None:
    absent = await door.create("x")
    await absent.link(f"{registry_host}/no/such:1", username="joe", password="hunter2-secret")
    told = await until(models_system, absent, "upload.failed")
    assert [kind for kind, _ in told] == ["upload.started", "upload.failed"]
    assert told[-1][1]["containerImage"]["status"] == "failed"
    assert "hunter2" not in json.dumps(told)
    sick = await door.create("x")
    await sick.delivered(models(STATUS_TYPE="text/plain"))
    await sick.load()
    told = await until(models_system, sick, "load.failed")
    assert told[-1][1]["containerImage"]["status"] == "failed"
    assert "text/plain" in told[-1][1]["containerImage"]["technicalInformation"]
