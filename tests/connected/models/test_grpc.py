"""§7, second step: models that speak gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from tests.connected.models.test_load import loaded
from tests.connected.models.test_run import finished, ready
from tests.support.archives.image_delivery import push
from tests.support.archives.images import MEDIA_TYPES, TinyImage
from tests.support.models.grpc_model_image import LABELS, grpc_model_image
from tests.support.models.model_images import model_image
from tests.support.models.models_door import Door
from tests.support.systems.system import System

pytestmark = pytest.mark.usefixtures("no_containers_stay")

Push = Callable[..., str]
"""Puts an image into the registry, its manifest annotated if need be; returns its reference."""


@pytest.fixture(scope="session")
def pushed(registry_host: str) -> Push:
    def push_one(image: TinyImage, annotations: dict[str, str] | None = None) -> str:
        tag = image.digest[7:19]
        push(image, registry_host, "models/grpc", tag)
        if annotations:
            manifest = json.loads(image.manifest()) | {"annotations": annotations}
            tag = f"{tag}-annotated"
            where = f"http://{registry_host}/v2/models/grpc/manifests/{tag}"
            kind = {"Content-Type": MEDIA_TYPES["oci"]["manifest"]}
            httpx.put(where, content=json.dumps(manifest), headers=kind).raise_for_status()
        return f"{registry_host}/models/grpc:{tag}"

    return push_one


async def test_a_model_is_loaded_tried_and_called(
    door: Door, pushed: Push, models_system: System
) -> None:
    made = await ready(door, pushed(grpc_model_image()), inputs=[{"name": "my input"}])
    assert (await made.get("container-image"))["status"] == "loaded"
    await made.call("POST", "run-process")
    result = (await finished(made))["result"]
    assert (result["status"], result["error"]) == ("SUCCESSFUL", None)
    assert result["results.json"] == {"read": 'my input={"a": 1};'}
    called = await made.call("POST", "run", json={"b": 2})
    assert called.status_code == 200, called.text
    assert (called.json()["statusCode"], called.json()["output"]) == (
        200,
        {"read": 'my input={"b":2};'},
    )
    (seen,) = await models_system.engine_containers()
    assert [(port.internal, port.address) for port in seen.ports] == [(45000, "127.0.0.1")]
    assert (await made.call("POST", "shutdown")).json() == {"running": False}


async def test_an_annotation_says_so_too_and_a_run_that_fails_is_told_why(
    door: Door, pushed: Push
) -> None:
    image = grpc_model_image(labels={}, RUN_FAILS="no tensor")
    made = await ready(door, pushed(image, LABELS))
    await made.call("POST", "run-process")
    result = (await finished(made))["result"]
    assert (result["status"], result["results.json"]) == ("FAILED", None)
    assert result["error"] == "gRPC /ModzyModel/Run answered 500: no tensor"


STATUS = "gRPC /ModzyModel/Status"
SICK: list[tuple[Callable[[], TinyImage], float, str, str, str]] = [
    (
        lambda: grpc_model_image(STATUS_RAW="well"),
        30,
        "status_not_json",
        STATUS,
        "this is no message of ModzyModel",
    ),
    (
        lambda: grpc_model_image(STATUS_CODE="500"),
        9,
        "status_error",
        f"{STATUS} answered 500",
        "Model Failed to Initialize.",
    ),
    (
        lambda: model_image(labels=LABELS),
        1.5,
        "never_listened",
        "port 45000",
        "it does not speak gRPC",
    ),
]


@pytest.mark.parametrize(
    ("image", "within_s", "code", "says", "detail"), SICK, ids=[row[2] for row in SICK]
)
async def test_a_model_that_is_not_well_is_told_why(
    door: Door,
    pushed: Push,
    image: Callable[[], TinyImage],
    within_s: float,
    code: str,
    says: str,
    detail: str,
) -> None:
    made = await loaded(door, pushed(image()), timeout={"status": int(within_s * 1000)})
    answer = await made.load()
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, code), body
    assert says in body["message"]
    assert detail in body["technicalInformation"]
