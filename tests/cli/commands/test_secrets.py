"""What `modelyard secrets` and `token` send, and what they say about it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from cli.console import MISSING, USAGE
from tests.support.http.said_yard import Yard

Command = Callable[..., Result]

ADD = ("secrets", "add", "name", "--username", "ada", "--password-stdin")
LISTED = {"items": [{"name": "team/prod", "uuid": "1"}, {"name": "prodA", "uuid": "2"}]}


@pytest.mark.parametrize(
    ("given", "password"),
    [
        (b"pass\n", "pass"),
        (b"pass\r\n", "pass"),
        (b"pass", "pass"),
        (b"pass\n\n", "pass\n"),
        (b"pass\r", "pass\r"),
        (b" p\xc3\xa4ss \n", " päss "),
    ],
)
def test_one_end_of_line_is_no_part_of_a_password(
    yard: Yard, command: Command, given: bytes, password: str
) -> None:
    yard.says("POST /secrets", {"uuid": "1", "server": "x"}, 201)
    assert command(*ADD, given=given).exit_code == 0
    assert json.loads(yard.bodies[0])["data"]["password"] == password


def test_a_password_that_is_no_text_is_refused_without_being_shown(
    yard: Yard, command: Command
) -> None:
    done = command(*ADD, given=b"hidden\xff")
    assert (done.exit_code, yard.asked) == (USAGE, [])
    assert "hidden" not in done.output


def test_a_secret_is_deleted_by_its_whole_name_only(yard: Yard, command: Command) -> None:
    assert command("secrets", "delete", "prodA#old").exit_code == 0
    assert yard.asked == ["DELETE /secrets/prodA%23old"]


def test_a_secret_with_a_slash_in_its_name_is_deleted_by_its_id(
    yard: Yard, command: Command
) -> None:
    yard.says("GET /secrets", LISTED)
    assert command("secrets", "delete", "team/prod").exit_code == 0
    assert yard.asked == ["GET /secrets", "DELETE /secrets/1"]
    gone = command("secrets", "delete", "team/[/x]")
    assert gone.exit_code == MISSING
    assert gone.stderr == "Not Found: There is no secret team/[/x].\n"


def test_what_is_said_about_a_new_token_is_one_line(yard: Yard, command: Command) -> None:
    yard.says("POST /tokens", {"uuid": "u" * 80, "token": "text"}, 201)
    made = command("token", "create", "ci")
    assert made.stdout == "text\n"
    assert made.stderr == f"token {'u' * 80} (member); keep it, it is not shown again:\n"
