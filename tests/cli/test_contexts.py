"""Several servers by name: which one a command uses, and what is kept of each."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable

import pytest
from typer.testing import Result

from cli.console import MISSING
from cli.contexts import Context, Contexts, Kept, Login
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]


def keep(name: str, token: str = "") -> None:
    Contexts().keep(Context(name, f"https://{name}.example", Login(token or name, user="ada@x")))


@pytest.fixture(autouse=True)
def images(yard: Yard) -> None:
    yard.says("GET /images", {"items": [], "next": None})


def asked(yard: Yard) -> list[tuple[str, str]]:
    return [(each.url.host, each.headers["authorization"]) for each in yard.requests]


def test_a_command_goes_to_the_context_that_is_in_use_or_named(
    yard: Yard, command: Command
) -> None:
    keep("one")
    keep("two")
    command("images", "list")
    command("--context", "one", "images", "list")
    assert command("contexts", "use", "one").stderr == "one is in use.\n"
    command("images", "list")
    assert asked(yard) == [
        ("two.example", "Bearer two"),
        ("one.example", "Bearer one"),
        ("one.example", "Bearer one"),
    ]


def test_contexts_are_listed_without_their_tokens(yard: Yard, command: Command) -> None:
    keep("one", "hidden")
    keep("two", "hidden")
    listed = command("contexts", "list")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["one", "https://one.example", "ada@x"],
        ["*", "two", "https://two.example", "ada@x"],
    ]
    shown = command("contexts", "show", "one")
    assert json.loads(shown.stdout)["url"] == "https://one.example"
    assert "hidden" not in listed.stdout + shown.stdout


def test_what_counts_more_than_a_context_is_named(
    yard: Yard, command: Command, bare: pytest.MonkeyPatch
) -> None:
    keep("one")
    bare.setenv("MODELYARD_URL", "http://env.example")
    said = "MODELYARD_URL counts more: commands go to http://env.example.\n"
    assert command("contexts", "use", "one").stderr == said
    assert command("contexts", "list").stderr == said
    assert json.loads(command("contexts", "show").stdout)["said_by"] == "MODELYARD_URL"


def test_a_context_that_is_deleted_is_used_no_more(yard: Yard, command: Command) -> None:
    keep("one")
    keep("two")
    assert command("contexts", "delete", "two").exit_code == 0
    assert Contexts().read().current == ""
    assert "None is in use" in command("contexts", "list").stderr
    for line in (["contexts", "use", "two"], ["--context", "two", "images", "list"]):
        done = command(*line)
        assert (done.exit_code, "Known: one." in done.stderr) == (MISSING, True)
    assert yard.requests == []


def test_several_logins_at_one_server_are_told_apart_by_name(yard: Yard, command: Command) -> None:
    yard.says("GET /me", {"name": "ci", "org": "x"})
    for name, token in (("first", "1"), ("second", "2")):
        command("login", "https://a.example", "--token-stdin", "--name", name, given=token)
    assert list(Contexts().read().contexts) == ["first", "second"]
    # Without a name it is the one of this address that is in use.
    command("login", "https://a.example", "--token-stdin", given="3")
    kept = Contexts().read()
    assert [each.login.token for each in kept.contexts.values()] == ["1", "3"]
    assert command("logout", "first").exit_code == 0
    assert list(Contexts().read().contexts) == ["second"]


def test_what_is_written_is_what_is_read() -> None:
    kept = Kept("a", {"a": Context("a", "http://a", Login("t", "r", "2026-01-01", "u@o"))})
    assert Kept.read(kept.written()) == kept


def _add(number: int) -> None:
    keep(f"c{number}")


def test_processes_that_log_in_at_once_lose_nothing(bare: pytest.MonkeyPatch) -> None:
    forks = multiprocessing.get_context("fork")
    writers = [forks.Process(target=_add, args=(number,)) for number in range(8)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert sorted(Contexts().read().contexts) == [f"c{number}" for number in range(8)]
