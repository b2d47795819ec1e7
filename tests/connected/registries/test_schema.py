"""Whatever body is sent: nothing becomes our fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.registries import wire
from pipeline.registries.entries import FIELDS
from tests.support.http.api_process import ApiProcess, api_process
from tests.support.processes import any_free
from tests.support.registries.registry_door import Door, assert_envelope

BOUNDED = settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

OPERATORS = [
    *("$eq", "$ne", "$gt", "$in", "$nin", "$all", "$size", "$not", "$exists", "$elemMatch"),
    *("$regex", "$options", "$and", "$or", "$nor", "$where", "$expr", "$", "$each"),
    *("$set", "$unset", "$push", "$pull", "$addToSet", "$inc", "$rename", "$setOnInsert"),
]
NAMES = [*wire.named(FIELDS), "_id", "created_at", "container_registry_health", "org", "a", "0", ""]
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

            @BOUNDED
            @given(objects)
            def call(body: Any) -> None:
                assert_envelope(http.request(method, path, json=body))

            call()

    await asyncio.to_thread(attack)
    document = await door.get("known")
    assert set(wire.named(FIELDS)) <= set(document)
