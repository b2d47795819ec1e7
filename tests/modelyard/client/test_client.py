"""What the clients make of pages, refusals, lost connections and odd answers."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from modelyard.client import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    Denied,
    Invalid,
    NotFound,
    Refused,
    UnexpectedAnswer,
    calls,
)
from modelyard.client.errors import Unnamed

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> Client:
    return Client("http://yard", "", transport=httpx.MockTransport(answer))


def async_client(answer: Answer) -> AsyncClient:
    return AsyncClient("http://yard", "", transport=httpx.MockTransport(answer))


def pages(total: int) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("cursor", 0))
        last = min(total, first + int(request.url.params["limit"]))
        items = [{"name": str(number)} for number in range(first, last)]
        return httpx.Response(
            200, json={"items": items, "next": str(last) if last < total else None}
        )

    return answer


@pytest.mark.parametrize(("limit", "found"), [(None, 250), (0, 0), (5, 5), (150, 150), (900, 250)])
async def test_a_list_goes_over_all_pages_up_to_a_limit(limit: int | None, found: int) -> None:
    names = [str(number) for number in range(found)]
    assert [each["name"] for each in client(pages(250)).list_nodes(limit=limit)] == names
    async with async_client(pages(250)) as other:
        assert [each["name"] async for each in other.list_nodes(limit=limit)] == names


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, Invalid), (422, Invalid), (401, Denied), (403, Denied), (404, NotFound)),
        *((410, NotFound), (409, Conflict), (412, Conflict), (507, Refused)),
    ],
)
async def test_a_refusal_says_what_the_server_said(status: int, kind: type[Refused]) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        said = {"title": "No", "detail": "It is not so.", "code": "odd"}
        return httpx.Response(status, json=said)

    with pytest.raises(kind) as refused:
        client(answer).get_node("a")
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.code) == (status, "odd")
    assert str(refused.value) == f"{status} No: It is not so."
    async with async_client(answer) as other:
        with pytest.raises(kind):
            await other.get_node("a")


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}"])
def test_an_answer_of_something_else_is_told_apart(text: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        print(client(lambda _: httpx.Response(200, text=text)).get_node("a")["name"])


def test_a_refusal_of_something_else_has_no_problem() -> None:
    with pytest.raises(NotFound) as refused:
        client(lambda _: httpx.Response(404, text="<html>")).get_node("a")
    assert refused.value.problem is None


async def test_no_connection_is_an_error_of_its_own() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ConnectionFailed, match="refused"):
        next(client(answer).follow_events())
    async with async_client(answer) as other:
        with pytest.raises(ConnectionFailed):
            await other.show_caller()


def test_what_nothing_can_be_called_is_not_sent() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(204)

    for name in ("", "a/b"):
        with pytest.raises(Unnamed):
            client(answer).revoke_token(name)
    assert asked == []
    client(answer).revoke_token("..")
    assert asked[0].url.raw_path == b"/yard/v1/tokens/%2E%2E"


async def test_events_go_on_after_a_connection_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PAUSE_S", 0.001)
    after: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        after.append(request.headers.get("last-event-id"))
        if len(after) % 3 == 2:
            return httpx.Response(503, json={"title": "Away"})
        headers = {"content-type": "text/event-stream"}
        text = f': hello\n\nid: {len(after)}\nevent: image.ready\ndata: {{"a":\ndata: 1}}\n\n'
        return httpx.Response(200, text=text, headers=headers)

    found = client(answer).follow_events(resource=["image"])
    names = [next(found).event for _ in range(4)]
    assert names == ["open", "image.ready", "open", "image.ready"]
    assert after == [None, "1", "1"]
    after.clear()
    async with async_client(answer) as other:
        events = other.follow_events(resource=["image"])
        same = [(await anext(events)).event for _ in range(4)]
    assert same == names
    assert after == [None, "1", "1"]


def test_where_and_who_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_URL", "http://env")
    monkeypatch.setenv("MODELYARD_TOKEN", "secret")
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    for given in ((None, None), ("http://given", "other")):
        Client(*given, transport=httpx.MockTransport(answer)).show_caller()
    said = [(each.url.host, each.headers["authorization"]) for each in asked]
    assert said == [("env", "Bearer secret"), ("given", "Bearer other")]
