"""Whatever is sent, as the OpenAPI document describes it or not: nothing becomes our fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from pipeline.rules.registry_entries import FIELDS
from pipeline.services import Services as Yard
from pipeline.stack.ports import any_free
from tests.support.api_process import ApiProcess, api_process
from tests.support.registry_door import Door, assert_envelope

EXAMPLES = 12
DOOR = r"^/(container_registr|check_container_health)"
OURS = r"^/(accounts/secret|yard/v1/(registries|secrets))"
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

OPERATORS = [
    *("$eq", "$ne", "$gt", "$in", "$nin", "$all", "$size", "$not", "$exists", "$elemMatch"),
    *("$regex", "$options", "$and", "$or", "$nor", "$where", "$expr", "$", "$each"),
    *("$set", "$unset", "$push", "$pull", "$addToSet", "$inc", "$rename", "$setOnInsert"),
]
NAMES = [*FIELDS, "_id", "created_at", "container_registry_health", "org", "a", "0", ""]
paths = st.lists(st.sampled_from([*NAMES, "$", "$[]", "x" * 50]), min_size=1, max_size=3)
keys = st.sampled_from(OPERATORS) | paths.map(".".join)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["a", "(", "(a+)+", "^a", "http://127.0.0.1:9", "http://0x7f.1"])
)
hostile = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(keys, hostile, max_size=3)


@pytest.fixture(scope="module")
async def api(yard: Yard, worker: None) -> AsyncIterator[ApiProcess]:
    """A server over the services of the application, so that the worker works for it, too."""
    port = any_free(random.Random())
    async with api_process(yard.settings.model_copy(update={"api_port": port})) as api:
        yield api


@pytest.fixture
async def known(door: Door) -> str:
    """An entry that is there."""
    return await door.create(id="known", tags=["a"], metadata={"n": 1}, name="a")


@pytest.fixture
def headers(door: Door) -> dict[str, str]:
    return {"Authorization": door.http.headers["Authorization"]}


def calls(api: ApiProcess, headers: dict[str, str], document: dict[str, Any], include: str) -> None:
    """Blocks: schemathesis speaks synchronously."""
    # What the catalogue asks is somebody else's server, and theirs is a fault of its own.
    allowed = {502} if include == OURS else set()
    schema = schemathesis.openapi.from_dict(document).include(path_regex=include)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @BOUNDED
            @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
            def call(case: schemathesis.Case, is_known: bool) -> None:
                if is_known and "registry_id" in case.path_parameters:
                    case.path_parameters["registry_id"] = "known"
                answer = case.call(base_url=api.url, headers=headers)
                assert answer.status_code < 500 or answer.status_code in allowed, answer.text

            call()


@pytest.mark.parametrize("include", [DOOR, OURS])
async def test_no_call_of_the_document_fails_on_our_side(
    api: ApiProcess, headers: dict[str, str], known: str, include: str
) -> None:
    async with httpx.AsyncClient(base_url=api.url) as http:
        document = (await http.get("/openapi.json")).json()
    await asyncio.to_thread(calls, api, headers, document, include)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/container_registries"),
        ("PUT", "/container_registry/known"),
        ("POST", "/container_registry"),
    ],
)
async def test_no_body_fails_on_our_side(
    api: ApiProcess, headers: dict[str, str], known: str, method: str, path: str, door: Door
) -> None:
    def attack() -> None:
        with httpx.Client(base_url=api.url, headers=headers, timeout=30) as http:

            @settings(BOUNDED, max_examples=100)
            @given(objects)
            def call(body: Any) -> None:
                assert_envelope(http.request(method, path, json=body))

            call()

    await asyncio.to_thread(attack)
    document = await door.get("known")
    assert set(FIELDS) <= set(document)
