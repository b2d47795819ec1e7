"""The unmodified `modzy-sdk` from its package index deploys models."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.connected.models.conftest import Models
from tests.support.models.models_door import Door
from tests.support.models.modzy_deploy import deploy
from tests.support.registries.locked_registry import PASSWORD, USER

pytestmark = pytest.mark.usefixtures("no_containers_stay")

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


async def active(door: Door, said: dict[str, Any]) -> dict[str, Any]:
    """The version that a client deployed, as the server has it now."""
    assert "error" not in said, said["message"]
    made = json.loads(said["answer"]["model_data"])
    answer = await door.call("GET", f"/models/{made['identifier']}/versions/{made['version']}")
    version: dict[str, Any] = answer.json()
    assert version["status"] == "active"
    assert version["containerImage"]["status"] == "loaded"
    return version


async def test_a_model_is_deployed_whether_the_address_is_the_root_or_the_api(
    root: str, api_key: str, door: Door, well: str, sample: str
) -> None:
    wanted = {
        "container_image": well,
        "model_name": "classifier",
        "model_version": "0.1.0",
        "sample_input_file": sample,
    }
    addresses = [root, f"{root}/", f"{root}/api", f"{root}/api/"]
    for said in await asyncio.gather(*(deploy(each, api_key, **wanted) for each in addresses)):
        version = await active(door, said)
        assert said["base_url"].rstrip("/") == f"{root}/api"
        where = f"{root}/models/{version['identifier']}/0.1.0"
        assert said["answer"]["container_url"] == where
        assert version["runStatus"]["result"]["results.json"] == {"read": 'input={"a": 1};'}
        assert json.loads(version["sampleInput"])["model"]["version"] == "0.1.0"
        shown = json.loads(version["sampleOutput"])["results"]["<input-id>"]
        assert shown["status"] == "SUCCESSFUL"
        assert shown["results.json"] == version["runStatus"]["result"]["results.json"]


async def test_everything_that_may_be_said_of_a_model_arrives(
    root: str, api_key: str, door: Door, well: str, sample: str, tmp_path: Path
) -> None:
    picture = tmp_path / "card.png"
    picture.write_bytes(PNG)
    inputs = [{"name": "input.json", "acceptedMediaTypes": "application/json"}]
    outputs = [{"name": "results.json", "mediaType": "application/json", "description": "labels"}]
    said = await deploy(
        root,
        api_key,
        container_image=well,
        model_name="described",
        model_version="1.0.0",
        sample_input_file=sample,
        run_timeout="30",
        status_timeout="20",
        short_description="tells cats from dogs",
        tags=["pets"],
        cpu_count=1,
        memory=0.5,
        long_description="long",
        technical_details="technical",
        performance_summary="fast",
        performance_metrics=[{"label": "accuracy", "category": "test"}],
        input_details=inputs,
        output_details=outputs,
        model_picture=str(picture),
    )
    version = await active(door, said)
    assert version["timeout"] == {"run": 30_000, "status": 20_000}
    assert version["requirement"]["requirementId"] == 1
    assert [each["name"] for each in version["inputs"]] == ["input.json"]
    assert version["outputs"][0]["description"] == "labels"
    assert version["statistics"] == [{"label": "accuracy", "category": "test"}]
    told = [version[name] for name in ("longDescription", "technicalDetails", "performanceSummary")]
    assert told == ["long", "technical", "fast"]
    model = (await door.call("GET", f"/models/{version['identifier']}")).json()
    assert (model["description"], model["tags"]) == ("tells cats from dogs", ["pets"])
    assert model["image"] == {"description": "model card image"}
    assert model["latestActiveVersion"] == "1.0.0"


async def test_an_image_behind_a_password_is_deployed_with_it_and_not_without(
    root: str, api_key: str, door: Door, locked: str, sample: str
) -> None:
    wanted = {
        "container_image": locked,
        "model_name": "private",
        "model_version": "1.0.0",
        "sample_input_file": sample,
    }
    credentials = {"user": USER, "pass": PASSWORD}
    allowed, refused = await asyncio.gather(
        deploy(root, api_key, **wanted, credentials=credentials), deploy(root, api_key, **wanted)
    )
    version = await active(door, allowed)
    assert PASSWORD not in json.dumps([allowed, version])
    assert refused["error"] == "ValueError"
    assert "credentials" in refused["message"]


async def test_a_second_version_of_a_model_is_deployed_once(
    root: str, api_key: str, door: Door, well: str, sample: str
) -> None:
    wanted = {"container_image": well, "model_name": "grown", "sample_input_file": sample}
    first = await active(
        door, await deploy(root, api_key, **wanted, model_version="1.0.0", architecture="arm64")
    )
    wanted["model_id"] = first["identifier"]
    second = await active(door, await deploy(root, api_key, **wanted, model_version="1.1.0"))
    assert (second["identifier"], second["version"]) == (first["identifier"], "1.1.0")
    model = (await door.call("GET", f"/models/{first['identifier']}")).json()
    assert (model["versions"], model["latestActiveVersion"]) == (["1.0.0", "1.1.0"], "1.1.0")
    again = await deploy(root, api_key, **wanted, model_version="1.1.0")
    assert again["error"] == "ConflictError"
    assert again["message"] == (
        f"The model {first['identifier']} has a version 1.1.0 already: choose another one."
    )


async def test_an_image_for_arm_is_deployed_where_a_node_can_run_it(
    root: str, api_key: str, door: Door, models: Models, well: str
) -> None:
    """The client sends neither a test input nor inputs and outputs in that case."""
    wanted = {"model_name": "edge", "model_version": "1.0.0", "architecture": "arm64"}
    native, foreign = await asyncio.gather(
        deploy(root, api_key, **wanted, container_image=well),
        deploy(root, api_key, **wanted, container_image=models(platform="linux/arm64")),
    )
    version = await active(door, native)
    assert version["requirement"]["requirementId"] == -99
    assert version["inputs"][0]["name"] == "input"
    assert foreign["error"] == "ValueError"
    assert "The image is for linux/arm64, and the nodes are linux/amd64." in foreign["message"]


FAILURES = [
    ({"STATUS_TYPE": "text/plain"}, "answered with the content type text/plain"),
    ({"EXIT_CODE": "3"}, "exited each time: exit code 3"),
    ({"RUN_CODE": "500", "RUN_BODY": "no tensor"}, "POST /run answered 500: no tensor"),
]


async def test_the_client_shows_why_a_model_fails(
    root: str, api_key: str, door: Door, models: Models, sample: str
) -> None:
    said = await asyncio.gather(
        *(
            deploy(
                root,
                api_key,
                container_image=models(**env),
                model_name="sick",
                model_version="1.0.0",
                sample_input_file=sample,
                status_timeout=20,
            )
            for env, _ in FAILURES
        )
    )
    for (_, why), each in zip(FAILURES, said, strict=True):
        assert each["error"] == "ValueError"
        assert why in each["message"]
    found = (await door.call("GET", "/models", params={"name": "sick"})).json()
    assert [model["isActive"] for model in found] == [False] * len(FAILURES)


async def test_a_wrong_key_or_reference_is_told_at_once(root: str, api_key: str) -> None:
    wanted = {"container_image": "Not A Reference", "model_name": "x", "model_version": "1.0.0"}
    stranger, malformed = await asyncio.gather(
        deploy(root, "no-such-key", **wanted), deploy(root, api_key, **wanted)
    )
    assert stranger["error"] == "ValueError"
    assert "api_key should be a valid key" in stranger["message"]
    assert malformed["error"] == "UnprocessableEntityError"
