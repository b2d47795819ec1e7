"""Logins that are kept, and which server and token a command takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import Result

from cli.console import DENIED, MISSING, USAGE
from cli.contexts import Context, Contexts, Login
from cli.credentials import CHOSEN, find_server
from cli.server import Server
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]
AWAY = "https://yard.example"
PAGE = {"items": [], "next": None}


def session(access: str, *, minutes: float = 5) -> dict[str, str]:
    ends = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    facts = {"user": "ada", "org": "default", "role": "member", "token_type": "Bearer"}
    return facts | {"access": access, "refresh": "again", "expires_at": ends}


@pytest.fixture(autouse=True)
def images(yard: Yard) -> None:
    yard.says("GET /images", PAGE)


def keep(login: Login, url: str = AWAY, name: str = "away") -> None:
    Contexts().keep(Context(name, url, login))


def sent(yard: Yard) -> list[str]:
    return [request.headers.get("authorization", "") for request in yard.requests]


def test_a_login_is_kept_for_its_owner_alone_and_used_from_then_on(
    yard: Yard, command: Command, tmp_path: Path
) -> None:
    yard.says("POST /login", session("one"))
    done = command("login", f"{AWAY}/", "-u", "ada", "--password-stdin", given="pass word\n")
    assert done.exit_code == 0, done.output
    assert json.loads(yard.bodies[0]) == {"username": "ada", "password": "pass word"}
    assert done.stderr == f"Logged in to {AWAY} as ada@default, context yard.example.\n"
    kept = tmp_path / "config" / "modelyard" / "contexts.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert command("images", "list").exit_code == 0
    assert (yard.requests[-1].url.host, sent(yard)) == ("yard.example", ["", "Bearer one"])


def test_a_login_is_renewed_before_it_ends_and_as_often_as_needed(
    yard: Yard, command: Command
) -> None:
    keep(Login.of(session("old", minutes=0.1)))
    yard.says("POST /refresh", session("new"))
    for _ in range(2):
        assert command("images", "list").exit_code == 0
    assert yard.asked == ["POST /refresh", "GET /images?limit=50", "GET /images?limit=50"]
    assert sent(yard)[1:] == ["Bearer new", "Bearer new"]


def test_a_login_that_has_ended_says_what_to_do(yard: Yard, command: Command) -> None:
    keep(Login.of(session("old", minutes=-1)))
    yard.says("POST /refresh", {"title": "Unauthorized", "detail": "over"}, 401)
    done = command("images", "list")
    assert done.exit_code == DENIED
    assert "Log in again: modelyard login" in done.stderr


def test_a_token_that_somebody_has_is_tried_and_kept(yard: Yard, command: Command) -> None:
    yard.says("GET /me", {"name": "ci", "org": "default"})
    done = command("login", AWAY, "--token-stdin", given="key\n")
    assert (done.exit_code, done.stderr) == (
        0,
        f"Logged in to {AWAY} as ci@default, context yard.example.\n",
    )
    assert command("images", "list").exit_code == 0
    assert sent(yard) == ["Bearer key", "Bearer key"]
    yard.says("GET /me", {"title": "Unauthorized", "detail": "no"}, 401)
    done = command("login", AWAY, "--token-stdin", given="worse\n")
    assert done.exit_code == DENIED
    assert Contexts().read().get("yard.example").login.token == "key"


def test_whoever_asks_is_told_as_whom_he_speaks(yard: Yard, command: Command) -> None:
    yard.says("GET /me", {"name": "ada", "org": "default", "roles": ["admin"]})
    keep(Login("key"))
    assert command("whoami").stdout == f"ada@default (admin) at {AWAY}\n"


def test_a_logout_ends_the_session_and_forgets_it(yard: Yard, command: Command) -> None:
    keep(Login.of(session("one")))
    assert command("logout").exit_code == 0
    assert json.loads(yard.bodies[0]) == {"token": "again"}
    assert Contexts().read().contexts == {}
    assert command("logout", AWAY).exit_code == USAGE


def test_a_missing_token_is_named_with_both_ways_to_have_one(yard: Yard, command: Command) -> None:
    yard.says("GET /images", {"title": "Unauthorized", "detail": "no token"}, 401)
    done = command("images", "list")
    assert (done.exit_code, "MODELYARD_TOKEN" in done.stderr) == (DENIED, True)
    assert "modelyard login" in done.stderr


def test_what_is_said_on_the_line_counts_most_then_the_environment_the_stack_and_the_context_in_use(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_server() == Server("http://127.0.0.1:8000")
    for name in ("older", "newer"):
        keep(Login("kept"), f"http://{name}", name)
    assert find_server().url == "http://newer"
    (tmp_path / "env").write_text("MODELYARD_URL=http://local\nMODELYARD_TOKEN=own\n")
    assert find_server() == Server("http://local", "own")
    bare.setenv("MODELYARD_CONTEXT", "newer")
    assert (find_server().url, find_server().login is not None) == ("http://newer", True)
    bare.setenv("MODELYARD_URL", "http://older")
    assert (find_server().url, find_server().login is not None) == ("http://older", True)
    # The token of the local stack is nothing for another server.
    bare.setenv("MODELYARD_URL", "http://elsewhere")
    assert find_server() == Server("http://elsewhere")
    bare.setenv("MODELYARD_TOKEN", "given")
    assert find_server() == Server("http://elsewhere", "given")
    said = CHOSEN.set("newer")
    try:
        # Nor is that of the environment.
        assert (find_server().url, find_server().token) == ("http://newer", "")
    finally:
        CHOSEN.reset(said)


def test_a_broken_file_of_contexts_is_named(yard: Yard, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "modelyard"
    folder.mkdir(parents=True)
    (folder / "contexts.json").write_text('{"contexts": {"x": {"nonsense": 1}}}')
    done = command("images", "list")
    assert done.exit_code == USAGE
    assert "contexts.json is broken" in done.stderr


def test_a_model_and_a_registry_that_are_not_there_are_missing(
    yard: Yard, command: Command
) -> None:
    yard.says("GET /api/models", [])
    yard.says(
        "GET /api/models/none",
        {"statusCode": 404, "status": "Not Found", "message": "There is no model none."},
        404,
    )
    yard.says("GET /container_registry/none", {"success": False, "error": "No document"}, 404)
    for name, said in (("models", "There is no model none."), ("registries", "No document")):
        done = command(name, "show", "none")
        assert done.exit_code == MISSING
        assert done.stderr == f"Not Found: {said}\n"
