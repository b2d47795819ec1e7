"""What holds for every call under these paths, whatever is sent."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta

import pytest
from fastapi import FastAPI

from pipeline.access.service import Access
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.records.kernel import Records
from schemas.access import Role
from tests.support.registries.registry_door import (
    Door,
    P,
    anonymous,
    assert_envelope,
    client,
    entry,
)
from tests.support.tenants import Tenant, principal

CALLS = [
    ("POST", "/container_registry"),
    ("GET", "/container_registry/x"),
    ("PUT", "/container_registry/x"),
    ("DELETE", "/container_registry/x"),
    ("POST", "/container_registries"),
    ("GET", "/check_container_health/x"),
]
WITH_BODY = [call for call in CALLS if call[0] in ("POST", "PUT")]

NO_JSON = {
    "empty": b"",
    "blank": b"  ",
    "cut": b'{"a": ',
    "missing brace, as in the old sample": b'{"container_registry_tags": {"$in": ["ai"]}',
    "NaN": b'{"container_registry_metadata": {"a": NaN}}',
    "Infinity": b'{"container_registry_metadata": {"a": -Infinity}}',
    "half a surrogate pair": rb'{"container_registry_name": "\ud800"}',
    "half a pair in a key": rb'{"\udfff": 1}',
    "NUL": rb'{"container_registry_name": "a\u0000b"}',
    "NUL in a key": rb'{"container_registry_metadata": {"a\u0000": 1}}',
    "beyond 64 bits": b'{"container_registry_metadata": {"a": 9223372036854775808}}',
    "below 64 bits": b'{"container_registry_metadata": {"a": -9223372036854775809}}',
    "a number of ten thousand digits": b'{"container_registry_metadata": {"a": %b}}'
    % (b"1" * 10_000),
    "not UTF-8": b'{"container_registry_name": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nested too deep": b'{"container_registry_metadata": {"a": %b%b}}' % (b"[" * 200, b"]" * 200),
    "nested a hundred thousand deep": b"[" * 100_000,
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "a number": b"1",
}


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_without_a_token_it_is_401(app: FastAPI, method: str, path: str) -> None:
    async with anonymous(app) as http:
        answer = await http.request(method, path, content=b"x" * 2_000_000)
    assert_envelope(answer)
    assert answer.status_code == 401
    assert answer.json()["error"] == "Authentication credentials were not provided."
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer a.b.c", "ApiKey x"])
async def test_a_wrong_token_is_401(app: FastAPI, header: str) -> None:
    async with anonymous(app, Authorization=header) as http:
        answer = await http.get("/container_registry/x")
    assert_envelope(answer)
    assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token.")


async def test_a_token_that_was_revoked_or_ran_out_is_invalid(
    app: FastAPI, yard: Yard, org: str
) -> None:
    caller = principal(org)
    revoked = await yard.access.tokens.issue(caller, name="revoked", role=Role.ADMIN)
    await yard.access.tokens.revoke(caller, revoked.token.uuid)
    yesterday = Access(
        Records(
            yard.records.store,
            yard.records.outbox,
            lambda: yard.records.clock() - timedelta(days=1),
        ),
        yard.settings,
    )
    over = await Tenant(yesterday, org).key(kind="jwt", ttl_s=3600)
    for text in (revoked.text, over):
        async with anonymous(app, Authorization=f"Bearer {text}") as http:
            for method, path in CALLS:
                answer = await http.request(method, path, json={})
                assert_envelope(answer)
                assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token.")


async def test_a_viewer_reads_and_does_not_write(app: FastAPI, door: Door) -> None:
    id = await door.create()
    async with await client(app, door.org, Role.VIEWER) as http:
        statuses = {}
        for method, path in CALLS:
            answer = await http.request(method, path.replace("x", id, 0), json={"a": 1})
            assert_envelope(answer)
            statuses[method, path] = answer.status_code
    refused = {call for call, status in statuses.items() if status == 403}
    assert refused == {CALLS[0], CALLS[2], CALLS[3]}


async def test_a_node_has_no_business_here(app: FastAPI, door: Door) -> None:
    async with await client(app, door.org, Role.NODE) as http:
        for method, path in CALLS:
            answer = await http.request(method, path, content=b"{")
            assert_envelope(answer)
            assert answer.status_code == 403, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/container_registry", {"POST"}),
        ("PATCH", "/container_registry/x", {"GET", "HEAD", "PUT", "DELETE"}),
        ("GET", "/container_registries", {"POST"}),
        ("POST", "/check_container_health/x", {"GET", "HEAD"}),
        ("OPTIONS", "/container_registry", {"POST"}),
        ("DELETE", "/container_registries", {"POST"}),
        ("TRACE", "/container_registry/x", {"GET", "HEAD", "PUT", "DELETE"}),
        ("MADE-UP", "/check_container_health/x", {"GET", "HEAD"}),
    ],
)
async def test_other_methods_are_405(door: Door, method: str, path: str, allowed: set[str]) -> None:
    answer = await door.call(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/container_registry/",
        "/container_registries/",
        "/container_registry/x/",
        "/container_registry/x/y",
        "/check_container_health",
        "/check_container_health/x/",
    ],
)
async def test_paths_are_exact(door: Door, path: str) -> None:
    for method in ("GET", "POST"):
        assert (await door.call(method, path)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "id", ["%00", "%ff%fe", "..%2f", "a%20b", "%F0%9F%98%80", "x" * 5000, "{}", "$ne", "%7B%22"]
)
async def test_an_id_that_cannot_be_is_unknown(door: Door, method: str, id: str) -> None:
    answer = await door.call(method, f"/container_registry/{id}", json={f"{P}name": "x"})
    assert answer.status_code == 404


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
async def test_what_is_no_strict_json_is_400_and_leaves_nothing(
    door: Door, method: str, path: str, body: bytes
) -> None:
    answer = await door.call(method, path, content=body)
    assert answer.status_code == 400
    assert await door.found({}) == []


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_more_than_a_mebibyte_is_413(door: Door, method: str, path: str) -> None:
    body = b'{"container_registry_name": "%b"}' % (b"x" * 1024 * 1024)

    async def in_pieces() -> object:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, in_pieces()):
        answer = await door.call(method, path, content=content)
        assert answer.status_code == 413


async def test_a_document_of_just_a_mebibyte_is_kept(door: Door) -> None:
    body = entry(id="large", metadata={"text": ""})
    room = 1024 * 1024 - len(json.dumps(body))
    body[f"{P}metadata"]["text"] = "x" * room
    answer = await door.call("POST", "/container_registry", content=json.dumps(body))
    assert answer.status_code == 201
    assert len((await door.get("large"))[f"{P}metadata"]["text"]) == room


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "a/b;c"])
async def test_every_body_is_json_whatever_its_content_type(door: Door, kind: str) -> None:
    """`curl -d` says that it sends a form."""
    id = await door.create(name="first", tags=["a"])
    for method, path, body in (
        ("PUT", f"/container_registry/{id}", {f"{P}name": "second"}),
        ("POST", "/container_registries", {f"{P}tags": {"$in": ["a"]}}),
        ("POST", "/container_registry", entry()),
    ):
        headers = {"Content-Type": kind}
        answer = await door.call(method, path, content=json.dumps(body), headers=headers)
        assert answer.is_success, answer.text
    assert (await door.get(id))[f"{P}name"] == "second"


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_compressed_body_is_no_json(door: Door, method: str, path: str) -> None:
    body, headers = gzip.compress(b"{}"), {"Content-Encoding": "gzip"}
    answer = await door.call(method, path, content=body, headers=headers)
    assert answer.status_code == 400


async def test_every_answer_of_an_entrys_life_is_the_documented_one(door: Door) -> None:
    async def said(method: str, path: str, body: object = None) -> tuple[int, object]:
        answer = await door.call(method, path, content=b"" if body is None else json.dumps(body))
        return answer.status_code, answer.json().get("data", answer.json().get("error"))

    there, name = "/container_registry/there", {f"{P}name": "x"}
    made = {"message": "Container registry created", "id": "there"}
    assert await said("GET", there) == (404, "No document found")
    assert await said("PUT", there, name) == (404, "No document found to update")
    assert await said("DELETE", there) == (404, "No document found to delete")
    assert await said("GET", "/check_container_health/there") == (
        404,
        "Container registry not found",
    )
    assert await said("POST", "/container_registry", entry(id="there")) == (201, made)
    assert await said("POST", "/container_registry", entry(id="there")) == (
        409,
        "Container registry already exists",
    )
    assert await said("PUT", there, name) == (200, {"message": "Container registry updated"})
    status, document = await said("GET", there)
    assert (status, await said("POST", "/container_registries", {})) == (200, (200, [document]))
    assert await said("DELETE", there) == (200, {"message": "Container registry deleted"})


async def test_head_is_get_without_the_body(door: Door) -> None:
    id = await door.create()
    answer = await door.http.head(f"/container_registry/{id}")
    assert answer.status_code == 200


async def test_no_error_tells_of_the_inside(door: Door) -> None:
    answers = [
        await door.query({"$where": "sleep(1)"}),
        await door.query({"container_registry_tags": {"$in": "x"}}),
        await door.query({"a" * 70_000: 1}),
        await door.put("x", {"$bump": {"a": 1}}),
        await door.call("POST", "/container_registry", json=entry(public_url=7)),
        await door.call(
            "POST", "/container_registry", json=entry(public_url="http://me:hunter2@r.test")
        ),
        await door.call("POST", "/container_registry", json=entry(secret="hunter2")),
        await door.query({f"{P}name": "x"}, sort="$hunter2"),
        await door.query({f"{P}name": "x"}, limit="-1"),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        told = answer.json()["error"]
        assert "me:hunter2" not in told
        for word in ("Traceback", "mongo", "Mongo", "pymongo", "Error", "/work", ".py"):
            assert word not in told
        assert len(told) < 400
