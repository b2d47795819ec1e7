"""Which pages of other origins may call."""

from __future__ import annotations

import pytest
from httpx import ASGITransport, AsyncClient
from pydantic import ValidationError

from pipeline.settings import Settings
from tests.support.http.front import application, front

PREFLIGHT = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,tus-resumable,upload-offset",
}


async def asked(
    settings: Settings, method: str, path: str = "/yard/v1/uploads", **headers: str
) -> dict[str, str]:
    async with (
        front(settings) as fake,
        application(fake) as app,
        AsyncClient(transport=ASGITransport(app), base_url="http://yard") as http,
    ):
        answer = await http.request(method, path, headers=headers)
    return dict(answer.headers)


async def test_pages_of_an_origin_that_a_setting_names_may_upload() -> None:
    settings = Settings(cors_origins="https://other.example, https://app.example")
    told = await asked(settings, "OPTIONS", **PREFLIGHT)
    assert told["access-control-allow-origin"] == "https://app.example"
    assert "PATCH" in told["access-control-allow-methods"]
    assert "upload-offset" in told["access-control-allow-headers"]
    told = await asked(settings, "POST", Origin="https://app.example")
    readable = {"Location", "Upload-Offset", "X-Total-Count"}
    assert readable <= set(told["access-control-expose-headers"].split(", "))
    assert "access-control-allow-credentials" not in told


async def test_others_may_not_and_by_default_nobody_may() -> None:
    named = Settings(cors_origins="https://other.example")
    for settings in (named, Settings()):
        told = await asked(settings, "OPTIONS", **PREFLIGHT)
        assert "access-control-allow-origin" not in told


async def test_the_catalogue_is_open_to_all_only_while_no_setting_names_some() -> None:
    named = Settings(cors_origins="https://other.example")
    for settings, is_open in ((named, False), (Settings(), True)):
        told = await asked(settings, "OPTIONS", "/v1/docker/list", **PREFLIGHT)
        assert ("access-control-allow-origin" in told) == is_open
        told = await asked(settings, "OPTIONS", "/container-svc/containers", **PREFLIGHT)
        assert told["access-control-allow-origin"] == PREFLIGHT["Origin"]


@pytest.mark.parametrize(
    "wrong",
    [
        *("app.example", "https://app.example/", "https://app.example/a", "HTTPS://app.example"),
        *("https://App.example", "https://app.example:443", "http://app.example:80", "https://"),
        *("https://app.example https://b.example", "https://u@app.example", "https://*.example"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"cors_origins(?s:.*)write scheme, host and port"):
        Settings(cors_origins=f"https://right.example,{wrong}")


@pytest.mark.parametrize(
    "right", ["", "*", "http://127.0.0.1:3000", "https://[::1]:8443, http://a_b.example:443"]
)
def test_what_a_browser_may_send_is_taken(right: str) -> None:
    assert Settings(cors_origins=right).cors_origins == right
