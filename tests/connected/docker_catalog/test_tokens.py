"""Tokens of the catalogue's clients: `/v1/auth`, and what a missing or bad token is told."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from pipeline.access.sessions import LoginThrottle
from pipeline.catalog.fields import BLANK, NULL, REQUIRED
from pipeline.settings import Settings
from schemas.access import Role, User
from tests.support.registries.catalog_door import CatalogDoor
from tests.support.registries.registry_door import anonymous
from tests.support.tenants import PASSWORD, Tenant

CHALLENGE = 'Bearer realm="api"'


@pytest.fixture
async def login(door: CatalogDoor) -> dict[str, str]:
    user = await Tenant(door.services.access, door.org).user(Role.ADMIN, "ada")
    return {"username": f"{user.name}@{door.org}", "password": PASSWORD}


def message(answer: httpx.Response) -> str:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == CHALLENGE
    body = answer.json()
    [told] = body["messages"]
    assert set(told) == {"token_class", "token_type", "message"}
    return str(body["code"])


async def test_a_login_opens_the_catalogue_and_the_platform(
    app: FastAPI, door: CatalogDoor, login: dict[str, str]
) -> None:
    async with anonymous(app) as http:
        pair = (await http.post("/v1/auth/obtain/", data=login)).json()
        assert set(pair) == {"refresh", "access"}
        fresh = (await http.post("/v1/auth/refresh", json={"refresh": pair["refresh"]})).json()
        assert set(fresh) == {"access"}
        for token in (*pair.values(), fresh["access"]):
            answer = await http.post("/v1/auth/verify", json={"token": token})
            assert (answer.status_code, answer.json()) == (200, {})
        headers = {"Authorization": f"Bearer {fresh['access']}"}
        assert (await http.post("/v1/docker/list", headers=headers)).status_code == 200
        assert (await http.get("/yard/v1/me", headers=headers)).status_code == 200
        wrong_kind = {"Authorization": f"Bearer {pair['refresh']}"}
        assert message(await http.post("/v1/docker/list", headers=wrong_kind)) == "token_not_valid"
        swapped = await http.post("/v1/auth/refresh", json={"refresh": pair["access"]})
        assert message(swapped) == "token_not_valid"
        assert swapped.json()["messages"][0]["token_type"] == "refresh"


async def test_bad_tokens_and_fields_are_told_apart(
    app: FastAPI, door: CatalogDoor, login: dict[str, str]
) -> None:
    async with anonymous(app) as http:
        for path, field in (("refresh", "refresh"), ("verify", "token")):
            answer = await http.post(f"/v1/auth/{path}", json={field: "nonsense"})
            assert message(answer) == "token_not_valid"
        wrong = await http.post("/v1/auth/obtain", json=login | {"password": "wrong"})
        assert (wrong.status_code, list(wrong.json())) == (401, ["detail"])
        assert wrong.headers["www-authenticate"] == CHALLENGE
        told = {"username": [BLANK], "password": [NULL]}
        answer = await http.post("/v1/auth/obtain", json={"username": " ", "password": None})
        assert (answer.status_code, answer.json()) == (400, told)
        answer = await http.post("/v1/auth/verify")
        assert (answer.status_code, answer.json()) == (400, {"token": [REQUIRED]})
        for header in (None, "Basic YTpi", "ApiKey abc", "Bearer"):
            headers = {"Authorization": header} if header else {}
            answer = await http.post("/v1/docker/list", headers=headers)
            assert (answer.status_code, list(answer.json())) == (401, ["detail"]), header
            assert answer.headers["www-authenticate"] == CHALLENGE
        answer = await http.post("/v1/docker/list", headers={"Authorization": "Bearer x.y.z"})
        assert message(answer) == "token_not_valid"


async def test_a_disabled_account_is_told_so(
    app: FastAPI, door: CatalogDoor, login: dict[str, str]
) -> None:
    async with anonymous(app) as http:
        pair = (await http.post("/v1/auth/obtain", json=login)).json()
        off = await door.http.get("/yard/v1/users/ada")
        path = f"/yard/v1/users/{off.json()['uuid']}"
        assert (await door.http.patch(path, json={"active": False})).status_code == 200
        headers = {"Authorization": f"Bearer {pair['access']}"}
        assert message(await http.post("/v1/docker/list", headers=headers)) == "user_inactive"


async def test_a_user_who_is_gone_is_told_so(
    app: FastAPI, door: CatalogDoor, login: dict[str, str]
) -> None:
    async with anonymous(app) as http:
        pair = (await http.post("/v1/auth/obtain", json=login)).json()
        user = (await door.http.get("/yard/v1/users/ada")).json()["uuid"]
        await door.services.records.store.delete(User, user, org=door.org)
        answer = await http.post("/v1/auth/refresh", json={"refresh": pair["refresh"]})
        assert message(answer) == "user_not_found"


async def test_thirty_wrong_passwords_a_minute_are_answered_and_the_next_one_waits(
    app: FastAPI, door: CatalogDoor, login: dict[str, str]
) -> None:
    # Each wrong password costs a while of work: all but one are only counted.
    yard = door.services
    throttle = LoginThrottle(
        yard.access.sessions.windows,
        yard.records.clock,
        per_account=Settings().login_failures_per_minute,
        per_address=1000,
    )
    for _ in range(29):
        await throttle.take(door.org, "ada", "127.0.0.1")
    wrong = login | {"password": "wrong"}
    async with anonymous(app) as http:
        assert (await http.post("/v1/auth/obtain", json=wrong)).status_code == 401
        answer = await http.post("/v1/auth/obtain", json=wrong)
        assert (answer.status_code, list(answer.json())) == (429, ["detail"])
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (await door.call("POST", "/docker/list")).status_code == 200


async def test_tokens_live_five_minutes_and_eight_hours() -> None:
    defaults = Settings()
    assert (defaults.access_token_s, defaults.refresh_token_s) == (300, 8 * 3600)


async def test_pages_of_other_origins_may_call_it(app: FastAPI, door: CatalogDoor) -> None:
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    async with anonymous(app) as http:
        preflight = await http.options("/v1/docker/list", headers=ask)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
            200,
            "https://a.example",
        )
        answer = await http.post("/v1/docker/list", headers={"Origin": "https://a.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (
            401,
            "https://a.example",
        )
        assert answer.headers["vary"] == "Origin"
        assert "X-Total-Count" in answer.headers["access-control-expose-headers"]
        elsewhere = await http.options("/yard/v1/images", headers=ask)
        assert "access-control-allow-origin" not in elsewhere.headers
