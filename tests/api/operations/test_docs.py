from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api.app import create
from api.http.problem_details import MEDIA_TYPE
from api.operations.openapi import PLACE, describe, written
from pipeline.settings import Settings
from tests.support import client_code
from tests.support.http.front import Front, caller


@pytest.fixture
async def document(http: AsyncClient) -> dict[str, Any]:
    answer: dict[str, Any] = (await http.get("/openapi.json")).json()
    return answer


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_committed_document_is_what_the_routes_say() -> None:
    said = written(describe(create(Settings())))
    assert PLACE.read_text() == said, "run `make docs`"


def test_the_client_is_what_the_document_says() -> None:
    made = client_code.sources(json.loads(PLACE.read_text()))
    wrong = [path.name for path, text in made.items() if path.read_text() != text]
    assert not wrong, "run `make docs`"
    there = {path for folder in {path.parent for path in made} for path in folder.glob("*.py")}
    assert there == made.keys()


def test_the_document_names_this_server(document: dict[str, Any], settings: Settings) -> None:
    assert document["servers"] == [{"url": settings.url}]


def test_every_operation_is_described_and_tagged(document: dict[str, Any]) -> None:
    names = [tag["name"] for tag in document["tags"]]
    tags = set(names)
    assert len(names) == len(tags)
    for name, operation in operations(document):
        assert operation.get("description"), name
        assert set(operation["tags"]) <= tags, name
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_failure_of_our_own_door_is_documented_as_problem_details(
    document: dict[str, Any],
) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and " /yard/" in name:
                assert list(response["content"]) == [MEDIA_TYPE], (name, status)
    assert not {"HTTPValidationError", "ValidationError"} & document["components"]["schemas"].keys()


def statuses(document: dict[str, Any], method: str, path: str) -> set[str]:
    return set(document["paths"][path][method]["responses"])


def test_what_is_answered_is_documented(document: dict[str, Any]) -> None:
    assert "406" in statuses(document, "get", "/yard/v1/containers/{uuid}/logs")
    assert {"408", "460"} <= statuses(document, "patch", "/yard/v1/uploads/{id}")
    image = "/api/models/{identifier}/versions/{version}/container-image"
    assert {"201", "202", "400", "404", "413", "415"} <= statuses(document, "post", image)
    for name, operation in operations(document):
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert "408" in operation["responses"], name
        if " /api/models/{" in name:
            assert "404" in operation["responses"], name


def test_every_failure_of_the_models_door_is_documented_in_its_shape(
    document: dict[str, Any],
) -> None:
    for name, operation in operations(document):
        failures = {
            status: response
            for status, response in operation["responses"].items()
            if " /api/models" in name and status >= "400"
        }
        assert not failures or {"401", "403", "503"} <= failures.keys(), name
        for status, response in failures.items():
            [content] = response["content"].values()
            assert content["schema"]["$ref"].endswith("/ModelError"), (name, status)


def test_guarded_operations_ask_for_a_token(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for name, operation in operations(document):
        is_open = re.search(
            r"/(login|refresh|logout|healthz|readyz|metrics|obtain|verify)$|^get /token$|^options",
            name,
        )
        assert ("security" in operation) is not bool(is_open), name


BEARS_A_REPEAT = {
    "/yard/v1/login": "each login is a session of its own",
    "/yard/v1/refresh": "a repeat gets another access token of the same session",
    "/yard/v1/logout": "what has ended stays ended",
    "/yard/v1/containers/{uuid}/stop": "a repeat does nothing",
    "/yard/v1/containers/{uuid}/start": "a repeat does nothing",
    "/yard/v1/containers/{uuid}/restart": "If-Match tells a repeat from another restart",
    "/yard/v1/deployments/{uuid}/start": "a repeat does nothing",
    "/yard/v1/deployments/{uuid}/stop": "a repeat does nothing",
    "/yard/v1/deployments/{uuid}/scale": "the same number once more changes nothing",
    "/yard/v1/deployments/{uuid}/restart": "If-Match tells a repeat from another restart",
    "/yard/v1/deployments/{uuid}/rollback": "If-Match tells a repeat from another rollback",
    "/yard/v1/nodes/{uuid}/cordon": "a repeat does nothing",
    "/yard/v1/nodes/{uuid}/uncordon": "a repeat does nothing",
    "/yard/v1/nodes/{uuid}/drain": "a repeat does nothing",
    "/yard/v1/nodes/{uuid}/resume": "a repeat does nothing",
    "/yard/v1/containers/{uuid}/exec": "it runs as often as it is asked for, and is no record",
    "/yard/v1/containers/{uuid}/run": "what a model does is the model's affair",
    "/yard/v1/dead-letters/{id}/requeue": "the letter is gone after the first",
    "/yard/v1/secrets/rotate-key": "what is sealed with the newest key is skipped",
    "/yard/v1/webhooks/{webhook}/rotate-secret": "If-Match tells a repeat from another rotation",
    "/yard/v1/webhooks/{webhook}/deliveries/{delivery}/send": "one that waits is left alone",
    "/yard/v1/uploads": "an upload that nobody continues expires",
    "/yard/v1/uploads/present": "it only looks",
}


def test_whatever_makes_a_record_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    posts = {
        path: operation["post"]
        for path, operation in document["paths"].items()
        if path.startswith("/yard/") and "post" in operation
    }
    keyed = {
        path
        for path, operation in posts.items()
        if "Idempotency-Key" in {each["name"] for each in operation.get("parameters", [])}
    }
    assert keyed | set(BEARS_A_REPEAT) == set(posts)
    assert not keyed & set(BEARS_A_REPEAT)


def test_what_is_hidden_is_not_documented(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("Image", "Container", "Node", "Token"):
        hidden = {"outbox", "request_hash", "replayed", "secret_hash", "leases"}
        assert not hidden & schemas[name]["properties"].keys()
    assert "Message" not in schemas


def test_request_bodies_have_examples(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        kinds = operation.get("requestBody", {}).get("content", {}).values()
        assert not kinds or any({"example", "examples"} & kind.keys() for kind in kinds), name


async def test_the_address_of_the_messages_is_the_one_that_this_server_has(
    fake: Front, http: AsyncClient
) -> None:
    fake.settings.nats_url = "nats://system:secret@nats.test:4333,nats://other.test:4222"
    answer = await http.get("/asyncapi")
    assert answer.json()["servers"]["nats"]["host"] == "nats.test:4333"
    assert "secret@" not in answer.text


async def test_the_documentation_needs_no_token_and_nothing_from_elsewhere(app: FastAPI) -> None:
    async with caller(app, None) as http:
        page = await http.get("/docs")
        assert (await http.get("/openapi.json")).status_code == 200
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "$ref")
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(each)


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]


def test_no_parameter_is_null(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), name
