"""The fields of `/models/client/model-repos/`: what is wrong with them is told together."""

from __future__ import annotations

from typing import Any

from tests.support.registries.registry_door import Door

REPOS = "/models/client/model-repos/"
UNKNOWN = "4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d"
LONG = "x" * 256
RIGHT = {"name": "n", "runtime_gpus": 0, "docker_tag": "1", "registry_path": "a/b"}
RIGHT |= {"source_secret": UNKNOWN}
REQUIRED = "This field is required."
NULL = "This field may not be null."
BLANK = "This field may not be blank."
TOO_LONG = "Ensure this field has no more than 255 characters."
NO_STRING = "Not a valid string."
NO_UUID = "Must be a valid UUID."
LEAST = "Ensure this value is greater than or equal to 0."
ALL = {each: [REQUIRED] for each in ("name", "registry_path", "docker_tag", "source_secret")}
WRONG: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, ALL | {"runtime_gpus": [NULL]}),
    (dict.fromkeys(RIGHT), {name: [NULL] for name in RIGHT}),
    (RIGHT | {"name": " ", "docker_tag": ""}, {"name": [BLANK], "docker_tag": [BLANK]}),
    (
        RIGHT | {"name": LONG, "registry_path": LONG},
        {"name": [TOO_LONG], "registry_path": [TOO_LONG]},
    ),
    (RIGHT | {"name": 7, "docker_tag": []}, {"name": [NO_STRING], "docker_tag": [NO_STRING]}),
    (RIGHT | {"runtime_gpus": -1}, {"runtime_gpus": [LEAST]}),
    *(
        (RIGHT | {"runtime_gpus": each}, {"runtime_gpus": ["A valid integer is required."]})
        for each in (True, 1.5, "x", [])
    ),
    *(
        (RIGHT | {"source_secret": each}, {"source_secret": [NO_UUID]})
        for each in (7, "", "9731422f-b437-4aa5-b33b-0398s3126e4e")
    ),
    (RIGHT, {"source_secret": [f'Invalid pk "{UNKNOWN}" - object does not exist.']}),
    (RIGHT | {"source_type": "vault"}, {"source_type": ['"vault" is not a valid choice.']}),
]
CLEAR: dict[str, list[Any]] = {
    "name": ["a\u0007b"],
    "runtime_gpus": [1025],
    "registry_path": ["https://a.b/c", "a/b:1", "a:1", "a/b@sha256:00", "A/B", "/a", "a//b"],
    "docker_tag": ["-x", "a b", "x" * 129, "a/b"],
    "env": [[], {"": "x"}, {"a=b": "x"}, {"a": None}, {"a": {}}],
    "ports": [[], {"grpc": {"port": 1}}, {"http": {}}, {"http": {"port": 0}}],
    "healthcheck": ["/", {"path": "x"}, {"port": "x"}, {"periodSeconds": 0}],
    "metrics_path": ["x"],
    "deployment_custom_configuration": [7],
}


async def test_all_wrong_fields_are_told_together(door: Door) -> None:
    for sent, detail in WRONG:
        answer = await door.http.post(REPOS, json=sent)
        assert (answer.status_code, answer.json()) == (400, {"detail": detail}), sent
    for name, values in CLEAR.items():
        for value in values:
            answer = await door.http.post(REPOS, json=RIGHT | {name: value})
            assert (answer.status_code, list(answer.json()["detail"])) == (400, [name]), value
    assert (await door.http.get(REPOS)).json() == []
