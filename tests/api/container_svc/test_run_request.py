"""What a run asks for, its hash, and what it means to the core."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from api.container_svc.run_request import (
    RunRequest,
    canonical,
    container_spec,
    names_of,
    require_sound,
    spec_hash,
)
from pipeline.errors import InvalidInput
from pipeline.images.lookup import newest


def read(**fields: Any) -> RunRequest:
    return RunRequest.model_validate({"image": "a:1", **fields})


def test_the_hash_is_that_of_the_canonical_spec() -> None:
    wanted = read(names=["b", "a"])
    text = canonical(wanted)
    assert json.loads(text)["names"] == ["b", "a"]
    assert spec_hash(wanted) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "fields",
    [
        {"nodeId": "n"},
        {"ports": []},
        {"capabilities": {"gpuEnabled": False, "gpuCount": 0}},
        {"resources": {"cpu": 0}},
        {"restartPolicy": "on-failure"},
        {"registrySecret": ""},
        {"unknown": 1},
    ],
)
def test_what_says_nothing_changes_no_hash(fields: dict[str, Any]) -> None:
    assert spec_hash(read(**fields)) == spec_hash(read())


@pytest.mark.parametrize(
    "fields",
    [
        {"image": "a:2"},
        {"names": ["a"]},
        {"ports": [{"internal": 80}]},
        {"labels": [{"key": "a", "value": "b"}]},
        {"envs": [{"key": "a", "value": "b"}]},
        {"assets": [{"envVarKey": "A", "url": "http://b/c"}]},
        {"keeps": [{"path": "/a"}]},
        {"capabilities": {"gpuEnabled": True}},
        {"resources": {"memoryMB": 64}},
        {"restartPolicy": "always"},
        {"healthCheck": {"port": 80}},
        {"registrySecret": "s"},
    ],
)
def test_each_field_changes_the_hash(fields: dict[str, Any]) -> None:
    assert spec_hash(read(**fields)) != spec_hash(read())


def test_the_order_of_lists_but_names_does_not_count() -> None:
    a, b = {"key": "a", "value": "1"}, {"key": "b", "value": "2"}
    assert spec_hash(read(envs=[a, b])) == spec_hash(read(envs=[b, a]))
    assert spec_hash(read(names=["a", "b"])) != spec_hash(read(names=["b", "a"]))
    one = {"capabilities": {"gpuEnabled": True}}
    assert spec_hash(read(**one)) == spec_hash(
        read(capabilities={"gpuEnabled": True, "gpuCount": 1})
    )


def test_a_hash_of_the_caller_is_kept_as_it_is() -> None:
    assert spec_hash(read(hash="Of Mine")) == "Of Mine"


def test_without_names_the_name_follows_from_the_hash() -> None:
    assert names_of(read()) == names_of(read(nodeId="n"))
    assert names_of(read()) != names_of(read(image="a:2"))


def test_it_is_told_to_the_core() -> None:
    spec = container_spec(
        read(
            names=["a", "b"],
            ports=[{"internal": 80, "host": 81, "protocol": "udp"}],
            capabilities={"gpuEnabled": True, "gpuCount": 2},
            resources={"cpu": 0.5, "memoryMB": 64},
            keeps=[{"path": "/d", "readOnly": True}],
            assets=[{"envVarKey": "A", "url": "http://b/c", "sha256": "0" * 64}],
            healthCheck={"port": 80, "retries": 7},
            restartPolicy="always",
        ),
        image="uuid",
        node="node",
    )
    assert (spec.name, spec.engine_name, spec.aliases) == ("a", "a", ["b"])
    assert (spec.gpus, spec.node, spec.publish_exposed) == (2, "node", False)
    assert (spec.resources.cpus, spec.resources.memory_bytes) == (0.5, 64 * 2**20)
    assert spec.health is not None
    assert spec.health.retries == 7
    assert container_spec(read(), image="uuid", node=None).gpus == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": "a:$cudaVersion"}, "image"),
        ({"envs": [{"key": "A"}, {"key": "A"}]}, "envs"),
        ({"envs": [{"key": ""}]}, "envs"),
        ({"labels": [{"key": "A"}, {"key": "A"}]}, "labels"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        require_sound(read(**fields))
    assert refused.value.facts["field"] == field


@pytest.mark.parametrize(
    ("tags", "most", "found"),
    [
        (["12.2-base", "12.10-base", "12.9-base"], "12.10", "12.10"),
        (["12.2.0-base", "12.4.1-base", "12.8.0-base"], "12.4", "12.4.1"),
        (["11.8.0-base", "13.0.0-base"], "12.4", "11.8.0"),
        (["12.2-devel", "latest", "12-base"], "12.4", None),
    ],
)
def test_the_newest_version_that_a_driver_runs_is_chosen(
    tags: list[str], most: str, found: str | None
) -> None:
    assert newest(tags, "$cudaVersion-base", "$cudaVersion", most) == found
