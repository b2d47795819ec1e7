"""Who may call the container service, from where, and how it says no."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from schemas.access import Role
from tests.support.http.api_process import PASSWORD
from tests.support.registries.registry_door import anonymous
from tests.support.systems.service_yard import Svc
from tests.support.tenants import Tenant

READS = [
    ("POST", "/containers"),
    ("GET", "/container/is-running?hash=a"),
    ("GET", "/daemon/info"),
    ("GET", "/host"),
    ("GET", "/image/a/pullable"),
    ("GET", "/operations/a"),
]
LOGS = [("GET", "/container/summary?name=a")]
RUNS = [("PUT", "/container"), ("POST", "/container"), ("PUT", "/container/restart")]
STOPS = [("PUT", "/container/stop"), ("PUT", "/container/remove")]
BUILDS = [("PUT", "/image"), ("PUT", "/image/context?name=a")]
ALL = [*READS, *LOGS, *RUNS, *STOPS, *BUILDS]


async def test_a_login_gives_a_token_with_exactly_these_keys(svc: Svc) -> None:
    tenant = Tenant(svc.yard.services.access, svc.yard.org)
    user = await tenant.user(Role.MEMBER, name=svc.name)
    body = {"appHost": svc.yard.org, "slug": svc.name, "password": PASSWORD, "totpCode": "x"}
    async with anonymous(svc.yard.app) as http:
        answer = await http.post("/user-svc/login", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"token"}
        token = answer.json()["token"]
        assert token.keys() == {
            *("id", "userId", "appId", "token", "device", "createdAt", "updatedAt", "expiresAt")
        }
        assert all(isinstance(value, str) for value in token.values())
        assert (token["userId"], token["appId"]) == (user.uuid, svc.yard.org)
        bearer = {"Authorization": f"Bearer {token['token']}"}
        assert (await http.get("/container-svc/host", headers=bearer)).status_code == 200
        named = {"appHost": "unnamed", "slug": f"{svc.name}@{svc.yard.org}", "password": PASSWORD}
        assert (await http.post("/user-svc/login", json=named)).status_code == 200
        wrong = await http.post("/user-svc/login", json=body | {"password": "wrong"})
        assert wrong.status_code == 401
        assert {"error", "code"} <= wrong.json().keys()
        assert wrong.headers["www-authenticate"] == "Bearer"
        assert (await http.post("/user-svc/login", json={"slug": "a"})).status_code == 400


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_nothing_is_told_without_a_token(svc: Svc, method: str, path: str) -> None:
    async with anonymous(svc.yard.app) as http:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = await http.request(
                method, f"/container-svc{path}", headers=headers, content=b"{not JSON"
            )
            assert answer.status_code == 401, path
            assert {"error", "code"} <= answer.json().keys()
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.MEMBER, ALL),
        (Role.VIEWER, [*READS, *LOGS]),
        (Role.SERVICE, [*READS, *LOGS, *RUNS, *STOPS]),
        (Role.NODE, READS),
    ],
)
async def test_roles_may_do_what_is_theirs(svc: Svc, role: Role, allowed: Any) -> None:
    async with await svc.as_role(role) as http:
        for method, path in ALL:
            answer = await http.request(method, f"/container-svc{path}", content=b"{not JSON")
            assert (answer.status_code != 401) == ((method, path) in allowed), (role, path)


async def test_scripts_of_every_origin_may_call(svc: Svc) -> None:
    async with anonymous(svc.yard.app) as http:
        for path in ("/container-svc/container", "/user-svc/login", "/container-svc/nowhere"):
            asked = await http.options(path, headers={"Origin": "https://a.example"})
            assert asked.status_code == 200
            require_open(asked, "https://a.example")
            require_open(await http.get(path, headers={"Origin": "null"}), "null")
            require_open(await http.get(path), "*")
    require_open(await svc.http.get("/container-svc/host"), "*")


def require_open(answer: httpx.Response, origin: str) -> None:
    assert answer.headers["access-control-allow-origin"] == origin
    allowed = answer.headers["access-control-allow-headers"]
    assert {"Authorization", "Content-Type"} <= set(allowed.split(", "))
    assert "access-control-allow-credentials" not in answer.headers


async def test_what_is_nowhere_is_404_and_a_wrong_method_405(svc: Svc) -> None:
    assert (await svc.call("GET", "/nowhere")).status_code == 404
    assert (await svc.call("DELETE", "/container")).status_code == 405
    assert (await svc.call("GET", "/containers")).status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null", b'"a"'])
async def test_what_is_no_object_of_json_is_400(svc: Svc, body: bytes) -> None:
    for method, path in (*RUNS, *STOPS, ("POST", "/containers")):
        assert (await svc.call(method, path, content=body)).status_code == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"image": ""},
        {"image": 1},
        {"image": "UPPER/case"},
        {"names": ["/slash"]},
        {"names": ["-a"]},
        {"ports": [{"internal": 0}]},
        {"ports": [{"internal": 70000}]},
        {"ports": [{"internal": "80"}]},
        {"ports": [{"internal": 80, "protocol": "sctp"}]},
        {"ports": [{"internal": 80}, {"internal": 80}]},
        {"labels": [{"key": "modelyard.a", "value": "b"}]},
        {"envs": [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]},
        {"keeps": [{"path": "/"}]},
        {"keeps": [{"path": "relative"}]},
        {"assets": [{"envVarKey": "A", "url": "ftp://a/b"}]},
        {"assets": [{"envVarKey": "A", "url": "http://a/b", "sha256": "x"}]},
        {"restartPolicy": "sometimes"},
        {"healthCheck": {"port": 80}},
        {"healthCheck": {"path": "/"}},
        {"resources": {"memoryMB": -1}},
        {"capabilities": {"gpuEnabled": "yes"}},
        {"registrySecret": "unknown"},
        {"image": "a/b:$cudaVersion"},
    ],
)
async def test_a_bad_field_is_400(svc: Svc, fields: dict[str, Any]) -> None:
    assert await svc.refused(400, **fields)
    assert await svc.listed() == []


@pytest.mark.parametrize("body", [{"limit": 0}, {"limit": 1001}, {"cursor": "x"}, {"status": "x"}])
async def test_a_bad_filter_is_400(svc: Svc, body: dict[str, Any]) -> None:
    assert (await svc.call("POST", "/containers", json=body)).status_code == 400


async def test_what_does_not_exist_is_404(svc: Svc) -> None:
    which = {"name": svc.name}
    for verb in ("stop", "remove", "restart"):
        assert (await svc.call("PUT", f"/container/{verb}", json=which)).status_code == 404
        assert (await svc.call("PUT", f"/container/{verb}", json={})).status_code == 400
    assert not await svc.is_running(name=svc.name)
    assert (await svc.call("GET", "/container/is-running")).status_code == 400
    assert (await svc.call("GET", "/container/summary")).status_code == 400
    query = {"name": svc.name}
    assert (await svc.call("GET", "/container/summary", params=query)).status_code == 404
    query = {"name": svc.name, "lines": "many"}
    assert (await svc.call("GET", "/container/summary", params=query)).status_code == 400
    assert (await svc.call("GET", "/operations/run-1")).status_code == 404
    for method, path in (("GET", "/host"), ("GET", "/daemon/info")):
        nowhere = await svc.call(method, path, params={"nodeId": "nowhere"})
        assert nowhere.status_code == 404
    assert await svc.refused(404, nodeId="nowhere")
