"""`/accounts/secrets/`, `/accounts/secret/config/` and `/yard/v1/secrets`."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from schemas.access import Role
from tests.support.events import stored_events
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.registries.registry_door import Door, anonymous, client
from tests.support.tenants import principal
from tests.support.waiting import eventually

SECRETS = "/accounts/secrets/"
DATA = {"server": "registry.test:5000", "username": "ada", "password": "hunter2"}
BODY = {"secret_type": "registry", "name": "mine", "data": DATA}
CALLS = [
    ("POST", SECRETS),
    ("GET", SECRETS),
    ("GET", f"{SECRETS}4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d/"),
    ("DELETE", f"{SECRETS}4080f3b5-4d6e-4c36-a6eb-d6f0cd3b0e6d/"),
    ("GET", "/accounts/secret/config/"),
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def call(door: Door, method: str, path: str, **options: Any) -> httpx.Response:
    answer = await door.http.request(method, path, **options)
    assert answer.status_code < 500, answer.text
    assert isinstance(answer.json(), dict)
    return answer


async def test_a_secret_is_kept_read_and_deleted(door: Door) -> None:
    made = await call(door, "POST", SECRETS, json=BODY)
    assert made.status_code == 201
    secret = made.json()
    assert TIME.fullmatch(secret.pop("created_at"))
    assert TIME.fullmatch(secret.pop("updated_at"))
    id = secret.pop("uuid")
    assert secret == {
        "name": "mine",
        "secret_type": "registry",
        "org": await door.org_uuid(),
        "reference_count": 0,
        "is_simplismart_managed": False,
        "is_system_generated": False,
    }
    read = await call(door, "GET", f"{SECRETS}{id}/")
    assert read.json().keys() == made.json().keys()
    listed = await call(door, "GET", SECRETS)
    assert [each["uuid"] for each in listed.json()["data"]] == [id]
    gone = await call(door, "DELETE", f"{SECRETS}{id}/")
    assert (gone.status_code, gone.json()) == (200, {"detail": "Secret deleted successfully."})
    for method in ("GET", "DELETE"):
        answer = await call(door, method, f"{SECRETS}{id}/")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Secret not found."})
    assert (await call(door, "GET", SECRETS)).json() == {"data": []}
    assert (await call(door, "POST", SECRETS, json=BODY)).status_code == 201


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("docker_hub", {"username": "a", "token": "t"}),
        ("docker_hub", {"username": "a", "token": "t", "server": "mirror.test"}),
        ("depot", {"username": "a", "token": "t"}),
        ("nvidiadockersecret", {"server": "nvcr.io", "username": "$oauthtoken", "password": "p"}),
        ("registry", DATA),
    ],
)
async def test_every_kind_can_be_kept(door: Door, kind: str, data: dict[str, str]) -> None:
    body = {"secret_type": kind, "name": "x", "data": data, "org": door.org, "colour": "red"}
    answer = await call(door, "POST", SECRETS, json=body)
    assert (answer.status_code, answer.json()["secret_type"]) == (201, kind)


async def test_the_kinds_are_described(door: Door) -> None:
    answer = await call(door, "GET", "/accounts/secret/config/", content=b"")
    described = {each["secret_type"]: each["fields"] for each in answer.json()["data"]}
    assert set(described) == {"docker_hub", "depot", "nvidiadockersecret", "registry"}
    assert described["depot"] == [
        {"name": "username", "required": True, "sensitive": False},
        {"name": "token", "required": True, "sensitive": True},
        {"name": "server", "required": False, "sensitive": False},
    ]


WRONG: list[tuple[Any, Any]] = [
    ({}, {name: ["This field is required."] for name in ("name", "secret_type", "data")}),
    (
        {"name": None, "secret_type": None, "data": None},
        {name: ["This field may not be null."] for name in ("name", "secret_type", "data")},
    ),
    (BODY | {"name": "  "}, {"name": ["This field may not be blank."]}),
    (BODY | {"name": 7}, {"name": ["Not a valid string."]}),
    (BODY | {"name": "x" * 256}, {"name": ["Ensure this field has no more than 255 characters."]}),
    (BODY | {"secret_type": "vault"}, {"secret_type": ['"vault" is not a valid choice.']}),
    (BODY | {"data": {}}, {"data": [f"{n} is required." for n in DATA]}),
    (BODY | {"data": DATA | {"password": ""}}, {"data": ["password is required."]}),
    (BODY | {"secret_type": "depot", "data": {"username": "a"}}, {"data": ["token is required."]}),
    (
        {"name": "", "secret_type": "vault", "data": DATA},
        {
            "name": ["This field may not be blank."],
            "secret_type": ['"vault" is not a valid choice.'],
        },
    ),
]


@pytest.mark.parametrize(("body", "detail"), WRONG, ids=lambda each: str(each)[:50])
async def test_all_wrong_fields_are_told_together(door: Door, body: Any, detail: Any) -> None:
    answer = await call(door, "POST", SECRETS, json=body)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})
    assert (await call(door, "GET", SECRETS)).json() == {"data": []}


async def test_a_name_is_taken_within_the_organisation_only(door: Door, other: Door) -> None:
    await call(door, "POST", SECRETS, json=BODY)
    answer = await call(door, "POST", SECRETS, json=BODY)
    told = "Secret with this name already exists for this organization."
    assert (answer.status_code, answer.json()) == (400, {"detail": {"non_field_errors": [told]}})
    assert (await call(other, "POST", SECRETS, json=BODY)).status_code == 201


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"a": NaN}', rb'{"a": "\ud800"}', b"[" * 5000, b"1" * 5000]
)
async def test_what_is_no_json_is_said_so(door: Door, body: bytes) -> None:
    answer = await call(door, "POST", SECRETS, content=body)
    assert (answer.status_code, answer.json()) == (400, {"detail": "JSON parse error"})


async def test_a_body_that_is_no_object_is_said_so(door: Door) -> None:
    answer = await call(door, "POST", SECRETS, json=[BODY])
    told = {"non_field_errors": ["Invalid data. Expected an object."]}
    assert (answer.status_code, answer.json()) == (400, {"detail": told})


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_tokens_roles_and_organisations_are_looked_at_in_this_order(
    app: FastAPI, door: Door, method: str, path: str
) -> None:
    async with anonymous(app) as http:
        answer = await http.request(method, path, content=b"{")
        assert (answer.status_code, answer.json()) == (
            401,
            {"detail": "Authentication credentials were not provided."},
        )
        http.headers["Authorization"] = "Bearer nonsense"
        answer = await http.request(method, path)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token."})
    denied = {"detail": "You do not have permission to perform this action."}
    async with await client(app, door.org, Role.NODE) as http:
        answer = await http.request(method, path, content=b"{")
        assert (answer.status_code, answer.json()) == (403, denied)
    for name in ("org", "org_id"):
        foreign = await call(door, method, path, params={name: "other"}, json={})
        assert (foreign.status_code, foreign.json()) == (403, denied)
        own = await call(door, method, path, params={name: door.org}, json={})
        assert own.status_code != 403


async def test_another_organisation_in_the_body_comes_before_field_errors(door: Door) -> None:
    for org in ("other", 7):
        answer = await call(door, "POST", SECRETS, json={"org": org})
        assert answer.status_code == 403
    uuid = await door.org_uuid()
    for org in (door.org, uuid, uuid.upper(), "", None):
        answer = await call(door, "POST", SECRETS, json={"org": org})
        assert answer.status_code == 400


async def test_a_viewer_reads_and_does_not_write(app: FastAPI, door: Door) -> None:
    id = (await call(door, "POST", SECRETS, json=BODY)).json()["uuid"]
    async with await client(app, door.org, Role.VIEWER) as http:
        assert (await http.get(f"{SECRETS}{id}/")).status_code == 200
        assert (await http.post(SECRETS, json=BODY)).status_code == 403
        assert (await http.delete(f"{SECRETS}{id}/")).status_code == 403


async def test_ids_may_be_spelled_differently_and_are_no_names(door: Door, other: Door) -> None:
    id = (await call(door, "POST", SECRETS, json=BODY)).json()["uuid"]
    for spelled in (id.upper(), id.replace("-", ""), "{" + id + "}"):
        answer = await call(door, "GET", f"{SECRETS}{spelled}/")
        assert answer.json()["uuid"] == id
    named = str(uuid.uuid4())
    await call(door, "POST", SECRETS, json=BODY | {"name": named})
    for unknown in ("mine", named, "x", "%00", "%F0%9F%98%80"):
        for method in ("GET", "DELETE"):
            assert (await call(door, method, f"{SECRETS}{unknown}/")).status_code == 404
    assert (await call(other, "GET", f"{SECRETS}{id}/")).status_code == 404
    assert (await call(other, "DELETE", f"{SECRETS}{id}/")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/accounts/secrets", 404),
        ("GET", "/accounts/secret/", 404),
        ("PUT", SECRETS, 405),
        ("POST", "/accounts/secret/config/", 405),
    ],
)
async def test_other_paths_and_methods(door: Door, method: str, path: str, status: int) -> None:
    answer = await call(door, method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"detail"}


async def test_a_body_of_more_than_a_mebibyte_is_413(door: Door) -> None:
    answer = await call(door, "POST", SECRETS, content=b"x" * (1024 * 1024 + 1))
    assert (answer.status_code, set(answer.json())) == (413, {"detail"})


async def test_an_entry_of_the_directory_is_a_reference(door: Door) -> None:
    secret = await door.secret("registry.test:5000")
    id = await door.create(secret=secret)
    assert (await call(door, "GET", f"{SECRETS}{secret}/")).json()["reference_count"] == 1
    answer = await call(door, "DELETE", f"{SECRETS}{secret}/")
    told = {"detail": "Secret is in use and cannot be deleted."}
    assert (answer.status_code, answer.json()) == (400, told)
    await door.updated(id, {"container_registry_secret": None})
    assert (await call(door, "GET", f"{SECRETS}{secret}/")).json()["reference_count"] == 0
    await door.updated(id, {"container_registry_secret": secret})
    await door.call("DELETE", f"/container_registry/{id}")
    assert (await call(door, "DELETE", f"{SECRETS}{secret}/")).status_code == 200


async def test_an_entry_names_secrets_of_its_organisation_only(door: Door, other: Door) -> None:
    foreign = await other.secret("registry.test:5000")
    named = str(uuid.uuid4())
    await door.secret("registry.test:5000", named)
    id = await door.create()
    for unknown in (foreign, named, str(uuid.uuid4())):
        answer = await door.put(id, {"container_registry_secret": unknown})
        assert answer.status_code == 400
        assert "container_registry_secret" in answer.json()["error"]
    assert (await door.get(id))["container_registry_secret"] is None


async def login_of(door: Door, name: str) -> dict[str, Any]:
    """The finding of the first try, once there is one."""
    found: dict[str, Any] = {}

    async def is_tried() -> bool:
        nonlocal found
        found = (await call(door, "GET", f"/yard/v1/secrets/{name}")).json()["login"]
        return found is not None

    await eventually(is_tried)
    return found


async def test_new_credentials_are_tried_once_and_the_finding_is_noted(
    door: Door, locked_host: str, registry_host: str
) -> None:
    await door.secret(locked_host, "right", username=USER, password=PASSWORD)
    await door.secret(locked_host, "wrong", username=USER, password="no")
    await door.secret(registry_host, "needless")
    await door.secret("127.0.0.1:9", "away")
    found = {name: await login_of(door, name) for name in ("right", "wrong", "needless", "away")}
    assert {name: (each["code"], each["severity"]) for name, each in found.items()} == {
        "right": ("login_accepted", "info"),
        "wrong": ("login_refused", "warning"),
        "needless": ("login_not_needed", "info"),
        "away": ("login_untried", "warning"),
    }
    events = [
        event
        async for event in stored_events(door.services.bus, door.org)
        if ".secret." in event.subject and event.subject.endswith(".checked")
    ]
    assert len(events) == 4
    assert PASSWORD not in str([event.data for event in events]) + str(found)


async def test_our_own_door_keeps_and_deletes_by_name(door: Door) -> None:
    once = {"json": {"name": "mine", "data": DATA}, "headers": {"Idempotency-Key": "once"}}
    made = await call(door, "POST", "/yard/v1/secrets", **once)
    assert (made.status_code, made.json()["server"]) == (201, "registry.test:5000")
    again = await call(door, "POST", "/yard/v1/secrets", **once)
    assert (again.status_code, again.json()["uuid"]) == (201, made.json()["uuid"])
    assert again.headers["idempotency-replayed"] == "true"
    assert "hunter2" not in made.text
    listed = await call(door, "GET", "/yard/v1/secrets")
    assert [each["name"] for each in listed.json()["items"]] == ["mine"]
    wrong = await call(door, "POST", "/yard/v1/secrets", json={"name": "x", "data": {}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_input")
    more = {"name": "x", "data": {**DATA, "extra": "1"}}
    wrong = await call(door, "POST", "/yard/v1/secrets", json=more)
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "data")
    assert (await door.http.delete("/yard/v1/secrets/mine")).status_code == 204
    assert (await door.http.delete("/yard/v1/secrets/mine")).status_code == 404


async def test_a_name_with_a_slash_is_reached(door: Door) -> None:
    made = await call(door, "POST", "/yard/v1/secrets", json={"name": "a/b", "data": DATA})
    path = "/yard/v1/secrets/a%2Fb"
    assert (await call(door, "GET", path)).json()["uuid"] == made.json()["uuid"]
    assert (await door.http.delete(path)).status_code == 204


async def test_null_is_told_from_what_is_no_json(door: Door) -> None:
    answer = await door.http.post("/accounts/secrets/", content=b"null")
    assert answer.status_code == 400
    assert "Expected an object" in answer.text
    for method, path in (("POST", ""), ("PUT", "/x")):
        answer = await door.http.request(method, f"/container_registry{path}", content=b"null")
        assert (answer.status_code, "object" in answer.text) == (400, True), answer.text


async def test_only_the_installations_own_turn_the_key(app: FastAPI, door: Door) -> None:
    home = app.state.services.settings.org
    for org, role in ((door.org, Role.MEMBER), (home, Role.MEMBER), (home, Role.NODE)):
        async with await client(app, org, role) as http:
            assert (await http.post("/yard/v1/secrets/rotate-key")).status_code == 403
    async with await client(app, home, Role.ADMIN) as http:
        answer = await http.post("/yard/v1/secrets/rotate-key")
    assert (answer.status_code, answer.json()["unreadable"]) == (200, [])


async def test_a_secret_that_is_not_listed_is_unknown(door: Door) -> None:
    made = await door.services.secrets.service.create(principal(door.org), **BODY, is_listed=False)
    missing = {"detail": "Secret not found."}
    for method in ("GET", "DELETE"):
        answer = await door.http.request(method, f"{SECRETS}{made.uuid}/")
        assert (answer.status_code, answer.json()) == (404, missing)
        for wanted in (made.uuid, made.name):
            answer = await door.http.request(method, f"/yard/v1/secrets/{wanted}")
            assert answer.status_code == 404
    repo = {"name": "mine", "runtime_gpus": 0, "docker_tag": "1", "registry_path": "team/model"}
    answer = await door.http.post(
        "/models/client/model-repos/", json=repo | {"source_secret": made.uuid}
    )
    told = {"source_secret": [f'Invalid pk "{made.uuid}" - object does not exist.']}
    assert (answer.status_code, answer.json()) == (400, {"detail": told})
