"""The broker's user of an organisation, as people, programs and shells read it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import Result

from cli.console import FAILED, USAGE
from cli.main import app
from pipeline.stack.processes.process import Owner
from pipeline.stack.state import Keys, Run, State
from tests.support.command_line import CliRunner


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Keys:
    """Of the running stack that commands find."""
    monkeypatch.setenv("MODELYARD_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MODELYARD_ORG", raising=False)
    state = State(tmp_path / "state")
    state.create()
    Keys.load(state.keys_file, org="default")
    keys = Keys.load(state.keys_file, org="acme")
    me = Owner.me()
    state.write_run(Run(pid=me.pid, started=me.started))
    url = f"nats://modelyard:{keys.nats_password}@127.0.0.1:4333"
    state.write_addresses({"MODELYARD_NATS_URL": url})
    return keys


def nats(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["token", "nats", *arguments])


def test_people_see_the_login_of_the_own_organisation_and_its_subjects(keys: Keys) -> None:
    said = nats()
    assert said.exit_code == 0, said.stderr
    assert keys.orgs["default"] in said.stdout
    assert "may publish:\n  yard.cmd.default.>\n" in said.stdout
    assert "may subscribe:\n  yard.evt.default.>\n" in said.stdout


def test_programs_get_one_document(keys: Keys) -> None:
    told = json.loads(nats("--json", "--org", "acme").stdout)
    assert (told["user"], told["password"]) == ("org-acme", keys.orgs["acme"])
    assert told["inbox_prefix"] == "_INBOX_acme"
    assert told["url"] == "nats://127.0.0.1:4333"


def test_a_shell_has_it_in_its_variables(keys: Keys) -> None:
    script = nats("--env").stdout + 'printf %s "$NATS_URL $NATS_USER $NATS_PASSWORD $YARD_EVENTS"'
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
    password = keys.orgs["default"]
    assert done.stdout == f"nats://127.0.0.1:4333 org-default {password} yard.evt.default.>"


def test_what_cannot_be_told_is_refused_with_what_to_do() -> None:
    refused = nats("--org", "nobody")
    assert (refused.exit_code, refused.stdout) == (FAILED, "")
    assert "modelyard orgs list" in refused.stderr
    assert nats("--json", "--env").exit_code == USAGE
