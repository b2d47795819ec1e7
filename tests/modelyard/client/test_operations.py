"""Every operation of `/yard/v1` can be asked for by either client, with all that it takes."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import httpx
import pytest

from api.operations.openapi import PLACE
from modelyard.client import AsyncClient, Client
from tests.support.client_code import LEFT_OUT
from tests.support.client_types import operations

ALL = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, method, operation in operations(json.loads(PLACE.read_text()))
}
ITEM = {"uuid": "one"}


class Recorder:
    """Answers whatever is asked as the document says, and remembers it."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        request.read()
        if request.headers.get("accept") == "application/x-ndjson":
            headers = {"content-type": "application/x-ndjson"}
            return httpx.Response(200, content=b'{"text": "a"}\n\n', headers=headers)
        if request.url.path.endswith("/events"):
            headers = {"content-type": "text/event-stream"}
            return httpx.Response(200, content=b"", headers=headers)
        return httpx.Response(200, json={"items": [ITEM], "next": None})


def arguments(operation: str) -> dict[str, Any]:
    """A value for everything that the method takes."""
    values: dict[str, Any] = {}
    for name, each in inspect.signature(getattr(Client, operation)).parameters.items():
        if name in ("self", "after"):
            continue
        kind = str(each.annotation)
        if name in ("body", "content"):
            values[name] = {"x": 1} if name == "body" else b"text"
        elif "int" in kind or "float" in kind:
            values[name] = 1
        elif "bool" in kind:
            values[name] = True
        else:
            values[name] = ["v"] if kind.startswith("list") else "v"
    if "body" in values and values.pop("content", None):
        values.pop("content_type")
    return values


def drained(found: Any) -> Any:
    if isinstance(found, AbstractContextManager):
        with found as answer:
            return answer.read()
    return next(found) if isinstance(found, Iterator) else found


async def awaited(found: Any) -> Any:
    if inspect.isawaitable(found):
        return await found
    if isinstance(found, AbstractAsyncContextManager):
        async with found as answer:
            return await answer.aread()
    assert isinstance(found, AsyncIterator)
    return await anext(found)


def require_asked(operation: str, request: httpx.Request) -> None:
    method, path, said = ALL[operation]
    pattern = re.sub(r"\{[^}]*\}", "[^/?]+", path)
    assert request.method == method
    assert re.fullmatch(pattern, request.url.path), request.url
    for each in said.get("parameters", []):
        if each["name"] in LEFT_OUT - {"Tus-Resumable"}:
            continue
        if each["in"] == "query":
            assert each["name"] in request.url.params, each["name"]
        elif each["in"] == "header":
            assert each["name"] in request.headers, each["name"]
    if "requestBody" in said:
        assert request.content in (b'{"x":1}', b"text")


def test_the_clients_have_exactly_the_operations_of_the_document() -> None:
    assert len(ALL) > 80
    for client in (Client, AsyncClient):
        methods = {
            name
            for kind in client.__mro__
            if "operations" in kind.__module__
            for name in vars(kind)
            if not name.startswith("_")
        }
        assert methods == ALL.keys()


@pytest.mark.parametrize("operation", ALL)
async def test_an_operation_is_asked_for_with_all_that_it_takes(operation: str) -> None:
    given = arguments(operation)
    recorder, other = Recorder(), Recorder()
    with Client("http://yard", "t", transport=httpx.MockTransport(recorder)) as client:
        found = drained(getattr(client, operation)(**given))
    async with AsyncClient("http://yard", "t", transport=httpx.MockTransport(other)) as client_:
        same = await awaited(getattr(client_, operation)(**given))
    for said in (recorder, other):
        assert said.requests[0].headers["authorization"] == "Bearer t"
        require_asked(operation, said.requests[0])
    assert type(found) is type(same)
    both = (inspect.signature(getattr(each, operation)) for each in (Client, AsyncClient))
    one, two = (list(each.parameters.values()) for each in both)
    assert one == two
