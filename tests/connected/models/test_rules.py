"""§1: what holds for every route of the door."""

from __future__ import annotations

import pytest

from pipeline.stack.pieces.app import ApiPiece
from tests.support.models.models_door import Door
from tests.support.systems.system import System

PATHS = [
    ("GET", "/models"),
    ("POST", "/models"),
    ("GET", "/models/requirements/account"),
    ("PATCH", "/models/abcdefghij"),
    ("POST", "/models/abcdefghij/versions/1.0.0/container-image"),
    ("GET", "/models/abcdefghij/versions/1.0.0/container-image"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("header", [None, "ApiKey wrong", "Bearer wrong", "Basic YTpi", "ApiKey"])
async def test_without_a_good_key_it_is_401(
    door: Door, method: str, path: str, header: str | None
) -> None:
    door.http.headers.pop("Authorization")
    headers = {"Authorization": header} if header else {}
    answer = await door.call(method, path, headers=headers, content=b"{")
    assert answer.status_code == 401


async def test_a_key_may_be_sent_as_bearer_and_so_may_a_token(
    door: Door, models_system: System
) -> None:
    key = door.http.headers["Authorization"].partition(" ")[2]
    for header in (f"Bearer {key}", f"apikey {key}", models_system.http.headers["Authorization"]):
        answer = await door.call("GET", "/models", headers={"Authorization": header})
        assert answer.status_code == 200


async def test_a_viewer_may_look_and_not_touch(
    door: Door, models_system: System, api: ApiPiece
) -> None:
    issued = await models_system.call(
        api, "POST", "/tokens", json={"name": "looks", "role": "viewer"}
    )
    door.http.headers["Authorization"] = f"ApiKey {issued.json()['token']}"
    assert (await door.call("GET", "/models")).status_code == 200
    refused = await door.call("POST", "/models", json={"name": "m", "version": "1.0.0"})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    "path", ["", "/", "/nothing", "/models/a/b/c", "/models/a/versions/1.0.0/x"]
)
async def test_unknown_routes_answer_in_the_shape_of_the_door(door: Door, path: str) -> None:
    assert (await door.call("GET", path)).status_code == 404


async def test_a_method_that_a_route_does_not_know_is_named_so(door: Door) -> None:
    answer = await door.call("DELETE", "/models")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


async def test_models_at_the_root_are_not_found(door: Door) -> None:
    """The client tries it there first."""
    assert (await door.http.get("/models")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"name": NaN}', 400),
        (b"[]", 422),
        (b"7", 422),
        (b"{}", 422),
        (b"", 422),
        (b'{"name": 7, "version": "1.0.0"}', 422),
        (b'{"name": "m", "version": ' + b"9" * 6000 + b"}", 422),
        (b'{"name": "\\ud800", "version": "1.0.0"}', 422),
        (b'{"name": "a\\u0000", "version": "1.0.0"}', 422),
        (b'{"name": "' + b"n" * 2_000_000 + b'"}', 413),
    ],
)
async def test_bodies_that_cannot_be_used_are_told_apart(
    door: Door, body: bytes, status: int
) -> None:
    kind = {"Content-Type": "application/json"}
    answer = await door.call("POST", "/models", content=body, headers=kind)
    assert answer.status_code == status


async def test_a_body_of_another_kind_is_415(door: Door) -> None:
    answer = await door.call(
        "POST", "/models", content=b"a=b", headers={"Content-Type": "text/css"}
    )
    assert answer.status_code == 415


async def operations(door: Door, identifier: str = "abcdefghij") -> list[tuple[str, str]]:
    """Method and path of everything that is described below `/api/models`."""
    described = (await door.http.get("/openapi.json")).json()["paths"]
    values = {"{identifier}": identifier, "{version}": "1.0.0"}
    found = []
    for path, methods in described.items():
        if path.startswith("/api/models"):
            for name, value in values.items():
                path = path.replace(name, value)
            found += [(method.upper(), path) for method in methods]
    assert len(found) > 20
    return found


async def test_every_route_asks_for_a_key_and_for_the_right(
    door: Door, models_system: System, api: ApiPiece
) -> None:
    issued = await models_system.call(
        api, "POST", "/tokens", json={"name": "looks too", "role": "viewer"}
    )
    viewer = {"Authorization": f"ApiKey {issued.json()['token']}"}
    key = door.http.headers.pop("Authorization")
    described = await operations(door)
    for method, path in described:
        unknown = await door.call(method, path.removeprefix("/api"))
        assert unknown.status_code == 401, f"{method} {path}"
        looking = await door.call(method, path.removeprefix("/api"), headers=viewer)
        allowed = {200, 404} if method == "GET" else {403}
        assert looking.status_code in allowed, f"{method} {path}: {looking.text}"
    door.http.headers["Authorization"] = key


async def test_every_route_refuses_odd_input_in_the_shape_of_the_door(door: Door) -> None:
    """`Door.call` checks the shape of each answer, and that none is a 5xx."""
    odd = [
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"[1]", "headers": {"Content-Type": "application/json"}},
        {"content": b"\0" * 600, "headers": {"Content-Type": "application/x-tar"}},
        {"content": b"--b", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"params": {"name": "\U0001f600" * 300, "page": "-1", "platform": "%00"}},
    ]
    made = await door.create()
    for method, path in await operations(door, made.identifier):
        for options in odd:
            answer = await door.call(method, path.removeprefix("/api"), **options)
            assert answer.status_code < 500
