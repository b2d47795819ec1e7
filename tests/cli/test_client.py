"""Whom the command line asks, in whose name, and what it makes of the answers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import Result

from cli.client import Client
from cli.console import DENIED, FAILED, MISSING, UNREACHABLE, USAGE, echo, out
from cli.credentials import find_server
from cli.main import app
from cli.server import Server
from tests.support.command_line import CliRunner
from tests.support.http.said_yard import Yard

TEXT = "value [/udp] of [bold]somebody[/] " + "that is longer than any line " * 12

Command = Callable[..., Result]


def test_what_others_wrote_is_neither_markup_nor_broken_into_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo(out, ("head", "red"), " ", TEXT)
    assert capsys.readouterr().out == f"head {TEXT}\n"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("a#b", "a%23b"),
        ("x?y", "x%3Fy"),
        ("[x]", "%5Bx%5D"),
        ("..", "%2E%2E"),
        ("a\nb", "a%0Ab"),
        ("%23", "%2523"),
    ],
)
def test_whatever_something_is_called_stays_one_piece_of_the_path(
    yard: Yard, command: Command, given: str, sent: str
) -> None:
    for noun in ("tokens", "dead-letters"):
        Client().call("DELETE", f"/{noun}", given)
    assert command("dead-letters", "requeue", given).exit_code == 0
    assert yard.asked == [
        f"DELETE /tokens/{sent}",
        f"DELETE /dead-letters/{sent}",
        f"POST /dead-letters/{sent}/requeue",
    ]


def test_an_empty_name_and_one_with_a_slash_are_nothing_to_ask_for(
    yard: Yard, command: Command
) -> None:
    assert command("token", "revoke", "").exit_code == USAGE
    assert command("token", "revoke", "a/../b").exit_code == MISSING
    assert yard.asked == []


def test_a_token_is_sent_without_the_blanks_around_it(yard: Yard, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("MODELYARD_TOKEN", " secret\r\n")
    Client().call("DELETE", "/tokens", "one")
    assert yard.requests[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("token", ["sec\nret", "sec ret", "sécret", "sec\udcffret"])
def test_a_token_that_is_none_is_refused_without_being_shown(
    yard: Yard, bare: pytest.MonkeyPatch, command: Command, token: str
) -> None:
    bare.setattr("os.environ", {"MODELYARD_TOKEN": token})
    done = command("nodes", "list")
    assert done.exit_code == USAGE
    assert "MODELYARD_TOKEN holds characters that no token has." in done.stderr
    assert "ret" not in done.stderr
    assert yard.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "localhost:8000",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://x:y",
        "http://a..b",
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_asked(
    yard: Yard, bare: pytest.MonkeyPatch, command: Command, url: str
) -> None:
    bare.setenv("MODELYARD_URL", url)
    done = command("nodes", "list")
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert "Set MODELYARD_URL to something like http://127.0.0.1:8000" in done.stderr


@pytest.mark.parametrize(
    ("content", "told"), [(b'A=1\nB="open\n', "Line 2 of"), (b"A=\xff\n", "no UTF-8 text")]
)
def test_a_broken_note_of_the_local_stack_is_named(
    yard: Yard,
    bare: pytest.MonkeyPatch,
    command: Command,
    tmp_path: Path,
    content: bytes,
    told: str,
) -> None:
    (tmp_path / "env").write_bytes(content)
    done = command("nodes", "list")
    assert done.exit_code == USAGE
    assert told in done.stderr
    bare.setenv("MODELYARD_URL", "http://yard")
    bare.setenv("MODELYARD_TOKEN", "one")
    assert find_server() == Server("http://yard", "one")


def test_no_proxy_and_no_certificate_is_between_us_and_this_machine(
    bare: pytest.MonkeyPatch,
) -> None:
    bare.setenv("ALL_PROXY", "socks5://proxy:1080")
    bare.setenv("SSL_CERT_FILE", "/no/such/file")
    for host in ("127.0.0.1", "localhost", "[::1]", "a.localhost"):
        server = Server(f"http://{host}:8000", "")
        server.connect().close()
        assert server.proxy == ""


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ALL_PROXY", "socks5://proxy:1080", "SOCKS proxies are not supported."),
        ("ALL_PROXY", "gopher://proxy", "The proxy of the environment cannot be used"),
        ("SSL_CERT_FILE", "/no/such/file", "The certificates of the environment cannot be read"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    bare: pytest.MonkeyPatch, command: Command, name: str, value: str, told: str
) -> None:
    bare.setenv("MODELYARD_URL", "http://192.0.2.1")
    bare.setenv(name, value)
    done = command("nodes", "list")
    assert done.exit_code == USAGE
    assert told in done.stderr


@pytest.mark.parametrize(
    ("url", "cause", "told"),
    [
        ("http://127.0.0.1:1", ConnectionRefusedError(), "Start it with: modelyard up"),
        ("http://192.0.2.1", ConnectionRefusedError(), "Look at MODELYARD_URL."),
        ("http://yard", socket.gaierror(-2, "unknown"), "There is no host yard"),
        ("https://yard", ssl.SSLError(1, "wrong version"), "https://yard does not speak TLS"),
        ("https://yard", ssl.SSLCertVerificationError(1, "self-signed"), "is not trusted"),
    ],
)
def test_each_kind_of_missing_connection_has_its_remedy(
    yard: Yard, bare: pytest.MonkeyPatch, command: Command, url: str, cause: OSError, told: str
) -> None:
    def fails(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request) from cause

    yard.replies["GET /nodes"] = fails
    bare.setenv("MODELYARD_URL", url)
    done = command("nodes", "list")
    assert done.exit_code == UNREACHABLE
    assert told in done.stderr


def test_a_proxy_in_between_is_named_without_its_password(
    yard: Yard, bare: pytest.MonkeyPatch, command: Command
) -> None:
    def fails(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request) from ConnectionRefusedError()

    yard.replies["GET /nodes"] = fails
    bare.setenv("MODELYARD_URL", "http://me:hidden@192.0.2.1")
    bare.setenv("http_proxy", "http://me:hidden@proxy:3128")
    done = command("nodes", "list")
    assert done.exit_code == UNREACHABLE
    assert "http://192.0.2.1 cannot be reached through the proxy http://proxy:3128" in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"<html>", "text/html", 200, FAILED),
        (b"{", "application/json", 200, FAILED),
        (b"[]", "application/json", 200, FAILED),
        (b'{"items": []}', "application/json", 200, FAILED),
        (b"", "application/json", 200, FAILED),
        (b"", "text/html", 301, FAILED),
        (b"<html>", "text/html", 404, FAILED),
        (b'{"errors": [{"code": "X"}]}', "application/json", 404, FAILED),
        (b"[1]", "application/json", 401, DENIED),
    ],
)
@pytest.mark.parametrize("asked", [["nodes", "list"], ["events"]])
def test_another_server_than_ours_is_recognised(
    yard: Yard,
    command: Command,
    asked: list[str],
    body: bytes,
    media_type: str,
    status: int,
    code: int,
) -> None:
    for path in ("GET /nodes", "GET /events"):
        yard.sends(path, body, media_type, status)
    done = command(*asked)
    assert done.exit_code == code
    assert "Look at MODELYARD_URL." in done.stderr
    assert len(yard.asked) == 1


def test_every_bad_field_is_told_once(yard: Yard, command: Command) -> None:
    fields = [{"field": f"f{number}", "message": "Field required"} for number in range(7)]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in fields[:5])
    problem = {"title": "Unprocessable", "detail": detail, "errors": fields}
    yard.says("GET /nodes", problem, 422)
    told = command("nodes", "list").stderr
    assert [told.count(f"f{number}: Field required") for number in range(7)] == [1] * 7
    alone = {
        "title": "Bad",
        "detail": "It is bad.",
        "errors": [{"field": "a", "message": "It is bad."}],
    }
    yard.says("GET /nodes", alone, 422)
    assert command("nodes", "list").stderr == "Bad: It is bad.\n"


@pytest.mark.parametrize("after", ["ü", "a\nb"])
def test_what_no_header_can_hold_is_not_sent(yard: Yard, command: Command, after: str) -> None:
    def strict(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError("Illegal header value", request=request)

    yard.replies["GET /events"] = strict
    done = command("events", "--after", after)
    assert done.exit_code == USAGE
    assert "A value for a header of the request cannot be sent" in done.stderr


def test_an_answer_that_may_have_no_body_is_still_one_of_ours(
    yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    yard.replies["HEAD /uploads/one"] = lambda _: httpx.Response(403)
    client = Client()
    with pytest.raises(typer.Exit) as ended:
        client.require(client.http.head("/yard/v1/uploads/one"))
    assert ended.value.exit_code == DENIED
    assert capsys.readouterr().err.strip() == "Forbidden:"


ONE = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a01"
TWO = "3d8a5c1e-64a5-4c6a-9d4f-0d7b6e6f7a02"


class Directory(httpx.BaseTransport):
    """Finds what is called as asked, and shows whatever has an ID."""

    def __init__(self) -> None:
        self.called: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        *_, kind, last = request.url.path.split("/")
        if last != "find":
            return httpx.Response(200, json={"uuid": last})
        uuids = self.called.get(request.url.params["called"], [])
        if len(uuids) == 1:
            return httpx.Response(200, json={"uuid": uuids[0]})
        status, title = (422, "Invalid Input") if uuids else (404, "Not Found")
        detail = f"{len(uuids)} {kind} are called {request.url.params['called']}."
        problem = {"title": title, "detail": detail}
        return httpx.Response(status, json=problem)


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
    asked, shown_as = f"/yard/v1/{kind}/find", f"/yard/v1/{kind}/{ONE}"
    assert directory.asked == [shown_as, shown_as, asked, shown_as]


@pytest.mark.parametrize("given", ["gone", "../tokens", "[/red]"])
def test_nothing_of_that_name_is_not_found(directory: Directory, given: str) -> None:
    shown = CliRunner().invoke(app, ["containers", "show", given])
    assert shown.exit_code == MISSING
    assert f"Not Found: 0 containers are called {given}." in shown.output
    assert directory.asked == ["/yard/v1/containers/find"]


def test_of_several_with_one_name_none_is_deleted(directory: Directory) -> None:
    directory.called["twice"] = [ONE, TWO]
    refused = CliRunner().invoke(app, ["images", "delete", "twice"])
    assert refused.exit_code == USAGE
    assert "2 images are called twice." in refused.output
    assert directory.asked == ["/yard/v1/images/find"]


def test_of_several_that_are_deleted_each_is_tried_and_told(directory: Directory) -> None:
    directory.called |= {"a": [ONE], "b": [TWO]}
    done = CliRunner().invoke(app, ["images", "delete", "a", "gone", "b"])
    assert done.exit_code == MISSING
    assert done.stderr.splitlines() == [
        "a: deleted",
        "Not Found: 0 images are called gone.",
        "gone: not done, see above",
        "b: deleted",
    ]


def test_an_empty_text_names_nothing(directory: Directory) -> None:
    directory.called[""] = [ONE]
    for kind in ("images", "containers"):
        assert CliRunner().invoke(app, [kind, "delete", ""]).exit_code == USAGE
    assert directory.asked == []
