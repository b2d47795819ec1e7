"""What `doctor` says of a server that is not the stack of this machine."""

from __future__ import annotations

from email.utils import format_datetime

import httpx
import pytest

from cli.commands.access.diagnosis import examine_server
from cli.contexts import Context, Contexts, Login
from pipeline.stack.diagnosis import now
from tests.support.http.said_yard import Yard


def test_without_another_server_nothing_is_asked(yard: Yard) -> None:
    assert examine_server() == []
    assert yard.requests == []


@pytest.mark.parametrize(("status", "failing"), [(200, []), (401, ["login of far"])])
def test_the_server_in_use_is_looked_at(yard: Yard, status: int, failing: list[str]) -> None:
    Contexts().keep(Context("far", "http://far.example", Login("t")))
    date = {"date": format_datetime(now())}
    yard.replies["GET /healthz"] = lambda _: httpx.Response(200, json={}, headers=date)
    yard.says("GET /readyz", {})
    yard.says("GET /me", {"title": "No"}, status)
    found = examine_server()
    assert [each.name for each in found] == ["clock of far", "dependencies of far", "login of far"]
    assert [each.name for each in found if not each.ok] == failing
    assert all(each.remedy for each in found if not each.ok)


def test_a_server_that_does_not_answer_is_found(yard: Yard) -> None:
    Contexts().keep(Context("far", "http://far.example", Login("t")))

    def fails(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    yard.replies["GET /healthz"] = fails
    (found,) = examine_server()
    assert (found.name, found.ok) == ("server far", False)
