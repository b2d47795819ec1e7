"""The fields of `/deployments/…`: what is wrong with them is told together."""

from __future__ import annotations

from typing import Any

from tests.support.registries.deployment_door import DEPLOYMENTS, PRIVATE, UNKNOWN
from tests.support.registries.registry_door import Door

RIGHT: dict[str, Any] = {
    "model_repo": UNKNOWN,
    "name": "mine",
    "gpu_id": "cpu",
    "min_pod_replicas": 1,
    "max_pod_replicas": 1,
}
BYOC = {name: value for name, value in RIGHT.items() if name != "gpu_id"} | {
    "nodegroups": [UNKNOWN]
}
REQUIRED, NULL = "This field is required.", "This field may not be null."
LEAST = "Ensure this value is greater than or equal to {}."
NO_GROUPS = {"nodegroups": "List of node groups to be deployed on is expected"}
CPU = {"non_field_errors": ["CPU request and limit must be greater than 0"]}
TARGET = {"metric": "cpu", "target": 50}
WINDOW = {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": 1}
RULE = {"targets": [TARGET]}
EXACT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (PRIVATE, {}, {name: [REQUIRED] for name in RIGHT}),
    (PRIVATE, dict.fromkeys(RIGHT), {name: [NULL] for name in RIGHT}),
    (DEPLOYMENTS, {}, {name: [REQUIRED] for name in RIGHT if name != "gpu_id"} | NO_GROUPS),
    (DEPLOYMENTS, BYOC | {"nodegroups": []}, NO_GROUPS),
    (DEPLOYMENTS, BYOC | {"nodegroups": "x"}, NO_GROUPS),
    (DEPLOYMENTS, BYOC | {"nodegroups": ["x"]}, {"nodegroups": ["Must be a valid UUID."]}),
    (DEPLOYMENTS, BYOC | {"cpu_limit": 0}, CPU),
    (DEPLOYMENTS, BYOC | {"cpu_request": -1, "cpu_limit": 0}, CPU),
    (PRIVATE, RIGHT | {"min_pod_replicas": -1}, {"min_pod_replicas": [LEAST.format(0)]}),
    (PRIVATE, RIGHT | {"max_pod_replicas": 0}, {"max_pod_replicas": [LEAST.format(1)]}),
    (PRIVATE, RIGHT | {"model_repo": "x"}, {"model_repo": ["Must be a valid UUID."]}),
    (PRIVATE, RIGHT | {"max_pod_replicas": 2}, {"autoscale_config": [REQUIRED]}),
    (PRIVATE, RIGHT, {"model_repo": [f'Invalid pk "{UNKNOWN}" - object does not exist.']}),
]
CLEAR: list[tuple[str, dict[str, list[Any]]]] = [
    (
        PRIVATE,
        {
            "name": ["ab", "x" * 256, "a\nb", 7],
            "gpu_id": ["", 7],
            "min_pod_replicas": [True, 1.5, "1"],
            "max_pod_replicas": [1001],
            "env_variables": [[], {"a=b": "x"}, {"a": None}],
            "ports": [{"grpc": {"port": 1}}, {"http": {"port": "x"}}],
            "healthcheck": [{"path": "x"}, {"initialDelaySeconds": -1}],
            "async_deployment_type": ["SOON", 7],
            "fast_scaleup": ["yes"],
            "deployment_tag": ["", 7],
            "autoscale_config": [
                "x",
                {"targets": []},
                {"cronScaling": [WINDOW]},
                *(
                    {"targets": [TARGET | wrong]}
                    for wrong in (
                        {"metric": "load"},
                        {"metric": []},
                        {"metric": {}},
                        {"target": "x"},
                        {"target": True},
                        {"target": 0},
                        {"percentile": 95},
                        {"metric": "latency", "percentile": 99},
                        {"metric": "queue_length"},
                    )
                ),
                RULE | {"cooldown_period": -1},
                RULE | {"cronScaling": {}},
                RULE | {"cronScaling": [WINDOW | {"timezone": "Nowhere"}]},
                RULE | {"cronScaling": [WINDOW | {"start": "x"}]},
                RULE | {"cronScaling": [WINDOW | {"desiredReplicas": 0}]},
                RULE | {"scaleUpBehavior": {"selectPolicy": "Best", "policies": []}},
                RULE | {"scaleUpBehavior": {"policies": [{"type": "Pods", "value": 0}]}},
                RULE | {"scaleUpBehavior": {"policies": [{"type": [], "value": 1}]}},
                RULE | {"scaleDownBehavior": {"policies": [{"type": {}, "value": 1}]}},
            ],
        },
    ),
    (
        DEPLOYMENTS,
        {
            "name": ["ab", "x" * 31, "1ab"],
            "cluster": ["x"],
            "cpu_request": ["x", []],
            "memory_limit": ["x"],
        },
    ),
]
ACROSS: list[tuple[dict[str, Any], str]] = [
    ({"min_pod_replicas": 3, "max_pod_replicas": 2, "autoscale_config": RULE}, "max_pod_replicas"),
    ({"min_pod_replicas": 0, "autoscale_config": RULE}, "min_pod_replicas"),
    (
        {
            "min_pod_replicas": 0,
            "autoscale_config": RULE | {"cronScaling": [WINDOW]},
            "scale_to_zero_enabled": True,
        },
        "scale_to_zero_enabled",
    ),
    ({"cpu_request": 2, "cpu_limit": 1}, "cpu_limit"),
    ({"memory_request": 2, "memory_limit": 1}, "memory_limit"),
    ({"memory_request": 0}, "non_field_errors"),
]
ALLOWED: list[dict[str, Any]] = [
    {"min_pod_replicas": 0, "autoscale_config": RULE | {"cronScaling": [WINDOW]}},
    {
        "max_pod_replicas": 2,
        "async_deployment_type": "ASYNC",
        "autoscale_config": {"targets": [TARGET | {"metric": "queue_length", "target": 1.5}]},
    },
    {"autoscale_config": {}, "sidecars": None, "anything": [1]},
    {"cpu_request": "0.5", "memory_request": 1.5},
]
UNKNOWN_REPO = {"model_repo": [f'Invalid pk "{UNKNOWN}" - object does not exist.']}


async def test_all_wrong_fields_are_told_together(door: Door) -> None:
    for path, sent, told in EXACT:
        answer = await door.http.post(path, json=sent)
        assert (answer.status_code, answer.json()) == (400, told), sent
    for path, wrong in CLEAR:
        right = RIGHT if path == PRIVATE else BYOC
        for name, values in wrong.items():
            for value in values:
                answer = await door.http.post(path, json=right | {name: value})
                assert (answer.status_code, list(answer.json())) == (400, [name]), value
    for given, name in ACROSS:
        answer = await door.http.post(PRIVATE, json=RIGHT | given)
        assert (answer.status_code, list(answer.json())) == (400, [name]), given
    for given in ALLOWED:
        # Only then is looked for what is referred to.
        answer = await door.http.post(PRIVATE, json=RIGHT | given)
        assert (answer.status_code, answer.json()) == (400, UNKNOWN_REPO), given
