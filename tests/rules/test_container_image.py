"""The rows of the table of §4, one test for each."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.rules import references
from pipeline.rules.container_image import describe
from schemas.image import Delivery, Finding, Image, ImageSource, Progress, ReferenceParts, Severity
from schemas.model import Fault, LoadTest, Phase
from schemas.states import ImageStatus as S
from tests.support import records

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
    shown = describe(image, test)
    assert shown["status"] == status
    assert shown["uploadStatus"] == shown["stepName"] == name
    assert shown["step"] == step
    assert shown["percentage"] == shown["uploadPercentage"] == upload
    assert shown["loadPercentage"] == loaded
    assert shown["loadStatus"] == f"{step}: {name} ({loaded}%)"


def test_a_failed_archive_is_failed_although_nothing_of_it_is_kept() -> None:
    finding = Finding(code="not_a_tar", severity=Severity.ERROR, message="It is a picture.")
    image = delivered(S.DELETED, 12, "archive", reason="It is a picture.", findings=[finding])
    shown = describe(image, LoadTest())
    assert (shown["status"], shown["percentage"]) == ("failed", 12)
    assert shown["technicalInformation"] == "not_a_tar: It is a picture."


def test_the_fault_of_a_load_is_told() -> None:
    fault = Fault(code="crash_loop", message="It exits.", technical="exit 3")
    shown = describe(delivered(S.READY, 100), load(Phase.FAILED, 2, 70, fault=fault))
    assert shown["technicalInformation"] == "exit 3"


def test_while_the_container_of_a_load_is_being_removed_no_failure_is_told() -> None:
    fault = Fault(code="status_error", message="It is ill.", technical="503")
    shown = describe(delivered(S.READY, 100), load(Phase.RUNNING, 2, 70, fault=fault))
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
    shown = describe(delivered(S.READY, 100, parts=parts), LoadTest())
    names = ("registryHost", "imagePrefix", "repositoryNamespace", "repositoryName")
    assert tuple(shown[name] for name in names) == place
    assert shown["containerImageSize"] == 7


def test_an_archive_has_a_size_and_no_place() -> None:
    shown = describe(delivered(S.UPLOADING, 40, "archive"), LoadTest())
    names = ("registryHost", "imagePrefix", "repositoryNamespace", "repositoryName")
    assert all(shown[name] is None for name in names)
    assert shown["containerImageSize"] == 400
