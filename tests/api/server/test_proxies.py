"""Whose word is taken for where a request comes from."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pipeline.settings import Settings
from tests.support.http.front import Front
from tests.support.http.serving import serving

FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=1.1.1.1",
}


async def who(request: Request) -> JSONResponse:
    assert request.client is not None
    return JSONResponse([request.client.host, request.url.scheme])


@pytest.mark.parametrize(
    ("trusted", "told"),
    [
        ("", ["127.0.0.1", "http"]),
        ("10.0.0.0/8, ::1", ["127.0.0.1", "http"]),
        ("127.0.0.1", ["203.0.113.9", "https"]),
        ("10.0.0.0/8,127.0.0.0/8", ["203.0.113.9", "https"]),
    ],
)
async def test_only_a_proxy_that_a_setting_names_is_believed(
    app: FastAPI, fake: Front, monkeypatch: pytest.MonkeyPatch, trusted: str, told: list[str]
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    app.router.routes.insert(0, Route("/who", who))
    settings = fake.settings.model_copy(update={"api_port": 0, "trusted_proxies": trusted})
    async with serving(app, settings) as (_, url), AsyncClient(base_url=url, timeout=30) as http:
        assert (await http.get("/who", headers=FORGED)).json() == told


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.1;10.0.0.2"])
def test_what_is_no_address_or_network_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies=wrong)
