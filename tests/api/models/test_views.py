"""What callers see of images, one test for each row of the table, and of trial runs."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from api.models import views
from api.models.views import event_facts, image_object
from pipeline.images import delivery_events
from pipeline.oci import references
from schemas.base import Fault, Progress
from schemas.image import Delivery, Finding, Image, ImageSource, ReferenceParts, Severity
from schemas.model import LoadTest, ModelOutput, Phase, TrialRun
from schemas.states import ImageStatus as S
from tests.support import records
from tests.support.records import AT

UPLOADING = "Uploading container image"
LOADING = "Loading model 'x'"
CHECKING = "Checking status endpoint"


def delivered(status: S, upload: int = 0, source: str = "reference", **values: Any) -> Image:
    delivery = Delivery(identifier="abcdefghij", model_name="x", version="1.0.0")
    progress = Progress(done_bytes=upload * 10, percentage=upload)
    return records.image(
        uuid="image",
        status=status,
        source=ImageSource(source),
        upload=progress,
        delivery=delivery,
        size_bytes=7,
        **values,
    )


def load(phase: Phase, step: int, percentage: int, **values: Any) -> LoadTest:
    return LoadTest(image="image", phase=phase, step=step, percentage=percentage, **values)


ROWS = [
    ("accepted", delivered(S.PENDING), LoadTest(), "uploading", UPLOADING, 0, 0, 0),
    ("receiving", delivered(S.UPLOADING, 40), LoadTest(), "uploading", UPLOADING, 0, 40, 0),
    ("verified", delivered(S.READY, 100), LoadTest(), "uploaded", UPLOADING, 0, 100, 0),
    (
        "going to the node",
        delivered(S.READY, 100),
        load(Phase.RUNNING, 1, 50),
        "loading", LOADING, 1, 100, 50,
    ),
    (
        "started",
        delivered(S.READY, 100),
        load(Phase.RUNNING, 2, 66),
        "loading", CHECKING, 2, 100, 66,
    ),
    (
        "accepted status",
        delivered(S.READY, 100),
        load(Phase.SUCCEEDED, 2, 100),
        "loaded", CHECKING, 2, 100, 100,
    ),
    ("failed upload", delivered(S.FAILED, 30), LoadTest(), "failed", UPLOADING, 0, 30, 0),
    (
        "failed load",
        delivered(S.READY, 100),
        load(Phase.FAILED, 1, 40),
        "failed", LOADING, 1, 100, 40,
    ),
    (
        "load of an older image",
        delivered(S.PENDING),
        LoadTest(image="older", phase=Phase.SUCCEEDED, step=2, percentage=100),
        "uploading", UPLOADING, 0, 0, 0,
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_moment_of_a_delivery_is_described(row: tuple[Any, ...]) -> None:
    _, image, test, status, name, step, upload, loaded = row
    shown = image_object(image, test)
    assert shown["status"] == status
    assert shown["uploadStatus"] == shown["stepName"] == name
    assert shown["step"] == step
    assert shown["percentage"] == shown["uploadPercentage"] == upload
    assert shown["loadPercentage"] == loaded
    assert shown["loadStatus"] == f"{step}: {name} ({loaded}%)"


def test_a_failed_archive_is_failed_although_nothing_of_it_is_kept() -> None:
    finding = Finding(code="not_a_tar", severity=Severity.ERROR, message="It is a picture.")
    image = delivered(S.DELETED, 12, "archive", reason="It is a picture.", findings=[finding])
    shown = image_object(image, LoadTest())
    assert (shown["status"], shown["percentage"]) == ("failed", 12)
    assert shown["technicalInformation"] == "not_a_tar: It is a picture."


def test_the_fault_of_a_load_is_told() -> None:
    fault = Fault(code="crash_loop", message="It exits.", technical="exit 3")
    shown = image_object(delivered(S.READY, 100), load(Phase.FAILED, 2, 70, fault=fault))
    assert shown["technicalInformation"] == "exit 3"


def test_while_the_container_of_a_load_is_being_removed_no_failure_is_told() -> None:
    fault = Fault(code="status_error", message="It is ill.", technical="503")
    shown = image_object(delivered(S.READY, 100), load(Phase.RUNNING, 2, 70, fault=fault))
    assert (shown["status"], shown["technicalInformation"]) == ("loading", None)


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        (
            "ecr.example/models/location/classifier:0.2.0",
            ("ecr.example", "models/location", "models", "classifier"),
        ),
        ("ecr.example:5000/classifier:1", ("ecr.example:5000", "", "", "classifier")),
        ("team/model", ("registry-1.docker.io", "team", "team", "model")),
    ],
)
def test_the_place_of_a_link_is_split(reference: str, place: tuple[str, ...]) -> None:
    parts = ReferenceParts(**references.parse(reference).asdict())
    shown = image_object(delivered(S.READY, 100, parts=parts), LoadTest())
    names = ("registryHost", "imagePrefix", "repositoryNamespace", "repositoryName")
    assert tuple(shown[name] for name in names) == place
    assert shown["containerImageSize"] == 7


def test_an_archive_has_a_size_and_no_place() -> None:
    shown = image_object(delivered(S.UPLOADING, 40, "archive"), LoadTest())
    names = ("registryHost", "imagePrefix", "repositoryNamespace", "repositoryName")
    assert all(shown[name] is None for name in names)
    assert shown["containerImageSize"] == 400


def test_the_view_that_workers_load_brings_no_web_framework() -> None:
    program = (
        "import sys; from pipeline.bootstrap.control_plane import EVENT_VIEWS;"
        "from pipeline.records import messages;"
        "[messages.register_view(*one) for one in EVENT_VIEWS.items()];"
        "print({'fastapi', 'starlette'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.decode().strip() == "set()"


def test_events_tell_the_facts_of_the_core_and_what_the_door_shows() -> None:
    image = delivered(S.READY, 100)
    told = delivery_events.upload("completed")(image, records.AT, "somebody").data
    assert (told["id"], told["identifier"], told["version"]) == ("image", "abcdefghij", "1.0.0")
    shown = event_facts(image, LoadTest())
    assert shown == {"status": "uploaded", "containerImage": image_object(image, LoadTest())}


STARTED = {"phase": Phase.RUNNING, "started_at": AT, "input_size": 7}


@pytest.mark.parametrize(("step", "percentage"), [(0, 0), (1, 25), (2, 50), (3, 75)])
def test_each_step_is_a_quarter(step: int, percentage: int) -> None:
    shown = views.run_process(TrialRun(**STARTED, step=step), {})
    assert shown["percentage"] == percentage
    assert (shown["step"], shown["stepName"]) == (step, views.RUN_STEPS[step])
    assert shown["result"] is None


def test_before_a_run_there_is_no_result() -> None:
    assert views.run_process(TrialRun(), {})["result"] is None


def test_a_run_that_succeeded_shows_its_outputs_and_times() -> None:
    ended = {"phase": Phase.SUCCEEDED, "ended_at": AT + timedelta(milliseconds=1500)}
    run = TrialRun(**{**STARTED, **ended}, engine="node-a", elapsed_ms=1200)
    shown = views.run_process(run, {"results.json": {"label": "cat"}})
    assert (shown["step"], shown["percentage"]) == (4, 100)
    result = shown["result"]
    assert result["results.json"] == {"label": "cat"}
    assert (result["status"], result["error"], result["technicalInformation"]) == (
        "SUCCESSFUL",
        None,
        None,
    )
    assert (result["engine"], result["inputSize"], result["elapsedTime"]) == ("node-a", 7, 1200)
    assert result["endTime"].endswith("+00:00")
    assert result["startTime"] < result["endTime"] == result["updateTime"]


def test_a_run_that_failed_says_why_and_is_at_its_end_wherever_it_stopped() -> None:
    fault = Fault(code="run_failed", message="No tensor.", technical="line 7")
    run = TrialRun(phase=Phase.FAILED, step=2, fault=fault, started_at=AT)
    shown = views.run_process(run, {})
    assert (shown["percentage"], shown["stepName"]) == (100, "Completed")
    result = shown["result"]
    assert (result["status"], result["error"]) == ("FAILED", "No tensor.")
    assert result["technicalInformation"] == "line 7"
    assert result["results.json"] is None
    assert result["endTime"] is None


def test_a_declared_output_that_was_not_given_is_null() -> None:
    run = TrialRun(phase=Phase.FAILED, started_at=AT)
    declared = [ModelOutput(name="labels.json"), ModelOutput(name="notes.txt")]
    result = views.run_process(run, {"notes.txt": "a"}, declared)["result"]
    names = ("labels.json", "notes.txt", "results.json")
    assert [result[name] for name in names] == [None, "a", None]


def test_an_output_cannot_pass_for_a_part_of_the_result() -> None:
    run = TrialRun(phase=Phase.SUCCEEDED, started_at=AT)
    result = views.run_process(run, {"status": "FAILED"})["result"]
    assert result["status"] == "SUCCESSFUL"
