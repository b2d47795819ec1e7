"""What `up`, `down` and `doctor` say about an environment that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.console import FAILED
from cli.main import app
from tests.support.command_line import CliRunner


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MODELYARD_STATE", str(tmp_path / "[/state]"))
    return tmp_path


def test_what_people_wrote_in_brackets_is_repeated_as_it_is(state: Path) -> None:
    refused = CliRunner().invoke(app, ["up", "--only", "[/x]"])
    assert refused.exit_code == FAILED
    assert "[/x]" in refused.stderr
    stopped = CliRunner().invoke(app, ["down"])
    assert stopped.exit_code == 0
    assert stopped.stderr == f"Nothing runs from {state}/[/state].\n"


def test_the_doctor_repeats_an_address_with_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///tmp/[/x]")
    examined = CliRunner().invoke(app, ["doctor"])
    assert examined.exit_code == FAILED
    assert "FAIL engine: unix:///tmp/[/x]" in examined.stdout


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["down"], ["demo"]])
def test_a_bad_setting_is_named_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("MODELYARD_API_PORT", "abc")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == FAILED
    assert "MODELYARD_API_PORT is wrong: Input should be a valid integer" in done.stderr


def test_the_doctor_finds_every_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_API_PORT", "abc")
    monkeypatch.setenv("MODELYARD_DRAIN_S", "-1")
    examined = CliRunner().invoke(app, ["doctor"])
    assert examined.exit_code == FAILED
    assert "FAIL MODELYARD_API_PORT: Input should be a valid integer" in examined.stdout
    assert "FAIL MODELYARD_DRAIN_S: Input should be greater" in examined.stdout


def test_a_state_folder_that_is_a_file_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setenv("MODELYARD_STATE", str(path))
    done = CliRunner().invoke(app, ["down"])
    assert done.exit_code == FAILED
    assert f"The state folder {path} cannot be used (Not a directory)" in done.stderr
