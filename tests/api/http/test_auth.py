from __future__ import annotations

import re
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import AsyncClient

from api.http.auth import GuardedRoute, OpenRoute
from pipeline.access.roles import permissions
from schemas.access import Role
from tests.support.http.front import ORG, Front, bearer, caller

OPEN = {
    "/yard/v1/login",
    "/yard/v1/refresh",
    "/yard/v1/logout",
    "/user-svc/login",
    "/v1/auth/obtain",
    "/v1/auth/refresh",
    "/v1/auth/verify",
    "/healthz",
    "/readyz",
    "/token",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/asyncapi",
}


def routes(app: FastAPI) -> list[tuple[str, str, APIRoute]]:
    return [
        (method, str(context.path), context.original_route)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in sorted(context.methods or ())
    ]


async def test_every_route_is_guarded_but_the_open_ones(app: FastAPI) -> None:
    for method, path, route in routes(app):
        open_to_all = (
            path.rstrip("/") in OPEN
            or method == "OPTIONS"
            or path == "/"
            or path.startswith("/dashboard")
        )
        assert isinstance(route, GuardedRoute) is not open_to_all, path
        assert isinstance(route, OpenRoute)


async def test_no_guarded_route_answers_without_a_token(app: FastAPI) -> None:
    async with caller(app, None) as http:
        for method, path, route in routes(app):
            if isinstance(route, GuardedRoute):
                answer = await http.request(method, re.sub(r"{[^}]+}", "x", path))
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_token_is_looked_at_before_the_body(app: FastAPI) -> None:
    async with caller(app, None) as http:
        for body, headers in [
            (b"{", {"content-type": "application/json"}),
            (b"x", {"content-type": "text/plain"}),
            (b"x" * 100_000, {"content-type": "application/json"}),
        ]:
            answer = await http.post("/yard/v1/images", content=body, headers=headers)
            assert answer.status_code == 401


async def test_the_permission_is_looked_at_before_the_body(app: FastAPI) -> None:
    async with caller(app, "viewer") as http:
        for path in ("/yard/v1/images", "/yard/v1/containers", "/yard/v1/tokens"):
            answer = await http.post(
                path, content=b"{", headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("who", "method", "path", "allowed"),
    [
        ("viewer", "GET", "/yard/v1/images", True),
        ("viewer", "DELETE", "/yard/v1/images/x", False),
        ("viewer", "GET", "/yard/v1/containers", True),
        ("viewer", "POST", "/yard/v1/containers/x/stop", False),
        ("viewer", "DELETE", "/yard/v1/containers/x", False),
        ("viewer", "GET", "/yard/v1/dead-letters", True),
        ("member", "DELETE", "/yard/v1/dead-letters/1", False),
        ("member", "POST", "/yard/v1/dead-letters/1/requeue", False),
        ("admin", "DELETE", "/yard/v1/dead-letters/1", True),
        ("member", "GET", "/yard/v1/tokens", False),
        ("node", "GET", "/yard/v1/events", False),
        ("node", "GET", "/yard/v1/nodes", True),
        ("node", "POST", "/yard/v1/nodes/x/cordon", False),
        ("node", "POST", "/yard/v1/nodes/x/drain", False),
        ("member", "POST", "/yard/v1/nodes/x/resume", False),
        ("node", "DELETE", "/yard/v1/nodes/x", False),
        ("member", "POST", "/yard/v1/nodes/x/uncordon", False),
        ("viewer", "GET", "/metrics", True),
    ],
)
async def test_roles_may_do_what_their_permissions_say(
    app: FastAPI, who: str, method: str, path: str, allowed: bool
) -> None:
    async with caller(app, who) as http:
        answer = await http.request(method, path)
    assert (answer.status_code != 403) is allowed


@pytest.mark.parametrize("role", Role)
async def test_a_caller_may_ask_who_he_is_and_what_he_may_do(app: FastAPI, role: Role) -> None:
    async with caller(app, role) as http:
        me = (await http.get("/yard/v1/me")).json()
        may = {each.value for each in permissions([role], own=True)}
        assert (me["org"], me["roles"], set(me["permissions"])) == (ORG, [role], may)
    async with caller(app, None) as http:
        assert (await http.get("/yard/v1/me")).status_code == 401


async def test_a_guarded_route_without_a_permission_cannot_be_made() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(TypeError, match="declares no permission"):

        @router.get("/naked")
        async def naked(word: Annotated[str, "no needs"]) -> Any: ...


async def test_records_of_another_organisation_are_unknown(fake: Front, http: AsyncClient) -> None:
    made = await http.post("/yard/v1/images", json={"reference": "r.test/m:1"})
    path = made.headers["location"]
    stranger = bearer("admin@other")
    assert (await http.get(path)).status_code == 200
    assert (await http.get(path, headers=stranger)).status_code == 404
    assert (await http.delete(path, headers=stranger)).status_code == 404
    assert (await http.get("/yard/v1/images", headers=stranger)).json()["items"] == []
