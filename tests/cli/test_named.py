"""Records are called by their names, too."""

from __future__ import annotations

import httpx
import pytest
from typer.testing import CliRunner

from cli.client import MISSING, USAGE
from cli.main import app

ONE = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01"
TWO = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a02"


class Directory(httpx.BaseTransport):
    """Lists what is called as asked, and shows whatever has an ID."""

    def __init__(self) -> None:
        self.called: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path.count("/") > 3:
            return httpx.Response(200, json={"uuid": request.url.path.rpartition("/")[2]})
        uuids = self.called.get(request.url.params["name"], [])
        items = [{"uuid": uuid} for uuid in uuids]
        return httpx.Response(200, json={"items": items, "next": None})


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Directory:
    directory = Directory()
    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=directory, **options))
    return directory


@pytest.mark.parametrize("kind", ["images", "containers", "nodes"])
def test_a_name_is_as_good_as_an_id(directory: Directory, kind: str) -> None:
    directory.called["team/a:1"] = [ONE]
    for given in (ONE, ONE.upper(), "team/a:1"):
        shown = CliRunner().invoke(app, [kind, "show", given])
        assert (shown.exit_code, ONE in shown.output) == (0, True), shown.output
    listed, shown_as = f"/yard/v1/{kind}", f"/yard/v1/{kind}/{ONE}"
    assert directory.asked == [shown_as, shown_as, listed, shown_as]


@pytest.mark.parametrize("given", ["gone", "../tokens", "[/red]"])
def test_nothing_of_that_name_is_not_found(directory: Directory, given: str) -> None:
    shown = CliRunner().invoke(app, ["containers", "show", given])
    assert shown.exit_code == MISSING
    assert f"There is no container {given}." in shown.output
    assert directory.asked == ["/yard/v1/containers"]


def test_of_several_with_one_name_none_is_deleted(directory: Directory) -> None:
    directory.called["twice"] = [ONE, TWO]
    refused = CliRunner().invoke(app, ["images", "delete", "twice"])
    assert refused.exit_code == USAGE
    assert f"{ONE}, {TWO}" in refused.output
    assert directory.asked == ["/yard/v1/images"]


def test_an_empty_text_names_nothing(directory: Directory) -> None:
    directory.called[""] = [ONE]
    for kind in ("images", "containers"):
        assert CliRunner().invoke(app, [kind, "delete", ""]).exit_code == USAGE
    assert directory.asked == []
