"""§2, rows 9, 12 and 14: test inputs, samples and pictures."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.models.models_door import Door

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


async def test_a_test_input_is_kept_under_a_declared_name(door: Door) -> None:
    made = await door.create()
    answer = await made.call(
        "POST", "testInput", params={"name": "input"}, files={"file": b'{"a": 1}'}
    )
    assert answer.status_code == 201
    assert answer.json() == {"name": "input", "size": 8}


@pytest.mark.parametrize(
    ("params", "options", "status"),
    [
        ({"name": "other"}, {"files": {"file": b"x"}}, 422),
        ({}, {"files": {"file": b"x"}}, 422),
        ({"name": "input"}, {"files": {"document": b"x"}}, 422),
        ({"name": "input"}, {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        (
            {"name": "input"},
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            400,
        ),
        (
            {"name": "input"},
            {
                "content": b"x",
                "headers": {"Content-Type": f"multipart/form-data; boundary={'b' * 300}"},
            },
            400,
        ),
        ({"name": "input"}, {"files": {"file": bytes(11 * 1024 * 1024)}}, 413),
    ],
)
async def test_a_test_input_that_cannot_be_kept_is_refused(
    door: Door, params: dict[str, str], options: dict[str, Any], status: int
) -> None:
    made = await door.create()
    answer = await made.call("POST", "testInput", params=params, **options)
    assert answer.status_code == status


@pytest.mark.parametrize("sample", [{"input": {"a": [1, None]}}, [], "text", 7, None, True])
@pytest.mark.parametrize("kind", ["sample-input", "sample-output"])
async def test_any_json_is_a_sample(door: Door, kind: str, sample: Any) -> None:
    made = await door.create()
    assert (await made.call("GET", kind)).status_code == 404
    body = {"content": json.dumps(sample), "headers": {"Content-Type": "application/json"}}
    assert (await made.call("PUT", kind, **body)).status_code == 200
    assert await made.get(kind) == sample
    whole = await made.get()
    assert isinstance(whole["sampleInput" if kind == "sample-input" else "sampleOutput"], str)


async def test_a_sample_that_is_no_json_is_refused(door: Door) -> None:
    made = await door.create()
    kind = {"Content-Type": "application/json"}
    answer = await made.call("PUT", "sample-input", content=b"{'a'}", headers=kind)
    assert answer.status_code == 400


async def test_a_model_has_a_picture(door: Door) -> None:
    made = await door.create()
    path = f"/models/{made.identifier}/image"
    assert (await door.call("GET", path)).status_code == 404
    answer = await door.call("POST", path, params={"description": "a cat"}, files={"file": PNG})
    assert answer.status_code == 201
    kept = (await door.call("GET", path)).json()
    assert base64.b64decode(kept["content"]) == PNG
    assert (kept["description"], kept["mediaType"]) == ("a cat", "image/png")
    model = await door.call("GET", f"/models/{made.identifier}")
    assert model.json()["image"] == {"description": "a cat"}


async def test_a_description_of_a_picture_is_text_that_can_be_kept(door: Door) -> None:
    made = await door.create()
    path = f"/models/{made.identifier}/image"
    answer = await door.call("POST", path, params={"description": "\0"}, files={"file": PNG})
    assert answer.status_code == 422


async def test_what_is_no_picture_is_refused(door: Door) -> None:
    made = await door.create()
    path = f"/models/{made.identifier}/image"
    answer = await door.call("POST", path, files={"file": b"<html>"})
    assert answer.status_code == 422
