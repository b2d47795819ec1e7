from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from httpx import AsyncClient

from api.http import problem_details
from pipeline import errors
from pipeline.errors import YardError, every_error
from tests.support.http.front import Front, caller

SUBMIT = {"reference": "127.0.0.1:5000/team/model:1"}


@pytest.mark.parametrize("kind", list(every_error()))
def test_every_error_has_a_status_of_its_own(kind: type[YardError]) -> None:
    if kind.__module__.startswith(errors.__name__):
        assert kind in problem_details.STATUS, "add it to the map in api/http/problem_details.py"
    assert 400 <= problem_details.status_of(kind) <= 599


def test_retryable_errors_are_not_blamed_on_the_request() -> None:
    blamed = {
        kind
        for kind in every_error()
        if kind.retryable and problem_details.STATUS[kind] in (400, 422)
    }
    assert not blamed


def test_an_unmapped_error_takes_the_status_of_its_ancestor() -> None:
    class Novel(errors.Conflict):
        code = "novel"

    try:
        assert problem_details.status_of(Novel) == 409
    finally:
        # `every_error` walks subclasses: this one must not outlive the test.
        del Novel
        gc.collect()


async def test_a_failure_is_problem_details(http: AsyncClient) -> None:
    answer = await http.get("/yard/v1/images/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no record nowhere.",
        "code": "not_found",
    }


@pytest.mark.parametrize(
    ("error", "status", "headers", "members"),
    [
        (errors.Unauthenticated("x"), 401, {"www-authenticate": "Bearer"}, {}),
        (errors.StoreUnavailable("x"), 503, {"retry-after": "1"}, {}),
        (
            errors.TooManyRequests("x", retry_after_s=12.4),
            429,
            {"retry-after": "12"},
            {"retry_after_s": 12.4},
        ),
        (errors.CannotPlace("x", nodes={"n": ["full"]}), 422, {}, {"nodes": {"n": ["full"]}}),
        (errors.AlreadyExists("x", index="images_name"), 409, {}, {}),
        (
            errors.InvalidInput("bad", field="name"),
            422,
            {},
            {"errors": [{"field": "name", "message": "bad"}]},
        ),
    ],
)
async def test_errors_carry_their_facts(
    fake: Front,
    http: AsyncClient,
    error: YardError,
    status: int,
    headers: dict[str, str],
    members: dict[str, Any],
) -> None:
    fake.images.failure = error
    answer = await http.get("/yard/v1/images/x")
    assert answer.status_code == status
    assert headers.items() <= answer.headers.items()
    body = answer.json()
    assert body["code"] == error.code
    known = {"type", "title", "status", "detail", "code"}
    assert {name: body[name] for name in body.keys() - known} == members


async def test_bad_fields_are_named_all_at_once(http: AsyncClient) -> None:
    answer = await http.post("/yard/v1/images", json={"reference": "", "nmae": "x"})
    assert answer.status_code == 422
    assert {one["field"] for one in answer.json()["errors"]} == {"reference", "nmae"}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_values_that_were_refused_are_not_repeated(http: AsyncClient) -> None:
    answer = await http.post("/yard/v1/login", json={"username": "a", "password": ["hunter2"]})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("body", ["{", "", "nope", '{"reference": "x",}'])
async def test_a_body_that_is_not_json_is_malformed(http: AsyncClient, body: str) -> None:
    answer = await http.post(
        "/yard/v1/images", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert body == "" or answer.json()["code"] == "malformed_json"


@pytest.mark.parametrize(
    "body", ["[" * 2000, '{"a":' * 600, '"\\ud800"', '{"reference": "\\ud800"}', "NaN"]
)
async def test_hostile_json_is_a_fault_of_the_caller(http: AsyncClient, body: str) -> None:
    answer = await http.post(
        "/yard/v1/images", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text


async def test_a_path_that_does_not_exist_is_404(http: AsyncClient) -> None:
    for path in ("/nowhere", "/yard/v1", "/yard/v1/images/", "/yard/v1/images/a/b"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/yard/v1/images", "GET, HEAD, POST"),
        ("PATCH", "/yard/v1/images/x", "DELETE, GET, HEAD"),
        ("GET", "/yard/v1/containers/x/stop", "POST"),
        ("OPTIONS", "/yard/v1/events", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_every_right_one(
    http: AsyncClient, method: str, path: str, allow: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_of_another_type_is_415(http: AsyncClient, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = await http.post("/yard/v1/images", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_what_nobody_foresaw_is_logged_under_the_incident_of_the_answer(
    fake: Front, http: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    fake.images.failure = ZeroDivisionError("secret innards")
    with caplog.at_level(logging.ERROR):
        answer = await http.get("/yard/v1/images/x")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "innards" not in answer.text
    incident = answer.json()["instance"].removeprefix("urn:uuid:")
    [entry] = [entry for entry in caplog.records if incident in entry.getMessage()]
    assert entry.exc_info is not None
    assert "secret innards" in str(entry.exc_info[1])


async def test_a_door_answers_in_its_own_shape(app: FastAPI, fake: Front) -> None:
    from starlette.responses import JSONResponse

    def render(failure: problem_details.Failure, path: str) -> JSONResponse:
        return JSONResponse({"error": failure.detail}, failure.status)

    router = APIRouter()

    @router.get("/door/boom")
    async def boom() -> None:
        raise ZeroDivisionError

    app.include_router(router)
    app.state.renderers.register("/door", render)
    async with caller(app) as http:
        assert (await http.get("/door/x")).json() == {"error": "There is nothing at this path."}
        assert (await http.post("/door/boom")).json()["error"].startswith("This path")
        assert "incident" in (await http.get("/door/boom")).json()["error"]
        assert (await http.get("/doors")).json()["code"] == "not_found"


async def test_a_wrong_method_is_noticed_before_a_missing_token(app: FastAPI) -> None:
    async with caller(app, None) as http:
        assert (await http.put("/yard/v1/images")).status_code == 405


async def test_a_path_that_is_spelt_out_is_for_no_record_of_that_name(http: AsyncClient) -> None:
    for path in ("/yard/v1/containers/find", "/yard/v1/uploads/present"):
        assert (await http.delete(path)).status_code == 405, path
    answer = await http.get("/yard/v1/secrets/rotate-key")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
