from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from api.dashboard.routes import MEDIA_TYPES
from api.http.problem_details import MEDIA_TYPE
from tests.support.http.front import caller
from tests.support.sources import ROOT

STATIC = ROOT / "api" / "dashboard" / "static"
FILES = sorted(path.name for path in STATIC.iterdir())
MAX_LINES = 200


@pytest.fixture
async def anybody(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """A caller without a token."""
    async with caller(app, None) as client:
        yield client


async def test_the_page_is_served_at_the_root_without_a_token(anybody: AsyncClient) -> None:
    page = await anybody.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Modelyard</title>" in page.text
    head = await anybody.head("/")
    assert (head.status_code, head.headers["etag"]) == (200, page.headers["etag"])


@pytest.mark.parametrize("name", FILES)
async def test_every_file_is_served_with_its_type(anybody: AsyncClient, name: str) -> None:
    answer = await anybody.get(f"/dashboard/{name}")
    assert answer.status_code == 200
    expected = MEDIA_TYPES[name.rpartition(".")[2]]
    assert answer.headers["content-type"].partition(";")[0] == expected
    assert answer.content == (STATIC / name).read_bytes()


@pytest.mark.parametrize("path", ["/", "/dashboard/main.js", "/dashboard/icon.svg"])
async def test_nothing_inline_and_nothing_from_elsewhere_is_allowed(
    anybody: AsyncClient, path: str
) -> None:
    headers = (await anybody.get(path)).headers
    policy = dict(
        part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_what_the_reader_has_already_is_not_sent_again(anybody: AsyncClient) -> None:
    for path in ("/", "/dashboard/style.css"):
        first = await anybody.get(path)
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for known in (tag, f'W/{tag}, "other"', "*"):
            again = await anybody.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
            assert "content-security-policy" in again.headers
        other = await anybody.get(path, headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/",
        "/dashboard/dashboard.py",
        "/dashboard/../app.py",
        "/dashboard/..%2fapp.py",
        "/dashboard/%2e%2e/app.py",
        "/dashboard/..%5capp.py",
        "/dashboard//etc/passwd",
        "/dashboard/main.js/",
        "/dashboard/main.js%00.html",
        "/index.html",
        "/nothing",
    ],
)
async def test_unknown_paths_stay_problem_details(anybody: AsyncClient, path: str) -> None:
    answer = await anybody.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["code"] == "not_found"


async def test_other_methods_are_told_what_is_allowed(anybody: AsyncClient) -> None:
    answer = await anybody.post("/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_typed_address_leads_to_the_page(anybody: AsyncClient) -> None:
    answer = await anybody.get("/dashboard", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/")


async def test_the_dashboard_is_no_part_of_the_documented_api(anybody: AsyncClient) -> None:
    paths = (await anybody.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/dashboard")]


def test_the_page_names_only_files_of_its_own() -> None:
    page = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {name.removeprefix("dashboard/") for name in named if name != "docs"} <= set(FILES)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)


def test_modules_import_only_each_other() -> None:
    for name in FILES:
        if name.endswith(".js"):
            text = (STATIC / name).read_text()
            imported = re.findall(r'\bfrom "([^"]+)"', text) + re.findall(r'import\("([^"]+)', text)
            assert {one.removeprefix("./") for one in imported} <= set(FILES), name


@pytest.mark.parametrize("name", FILES)
def test_files_stay_small_and_never_parse_markup(name: str) -> None:
    text = (STATIC / name).read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
