import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline.errors import Conflict, Misconfigured
from pipeline.stack.processes.process import Owner
from pipeline.stack.state import PUBLISHED, Keys, Run, State, write_private


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state")
    state.create()
    return state


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_the_owner_may_look_into_the_folder(state: State) -> None:
    assert mode(state.folder) == 0o700


def test_a_private_file_is_never_readable_by_others_and_replaces_the_old_one(state: State) -> None:
    file = state.folder / "secret"
    write_private(file, "old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o600)
    assert [path.name for path in state.folder.iterdir()] == ["secret"]


def test_a_folder_is_used_by_one_stack_at_a_time(state: State) -> None:
    with state.held(), pytest.raises(Conflict, match="modelyard down"), state.held():
        pass
    with state.held():
        pass


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="MODELYARD_STATE"):
        State(tmp_path / "file" / "state").create()


def test_a_run_is_found_again_until_it_is_forgotten(state: State) -> None:
    assert state.run is None
    me = Owner.me()
    state.write_run(Run(pid=me.pid, started=me.started, installation="here"))
    assert state.run is not None
    assert state.run.supervisor == me
    state.env_file.touch()
    state.forget_run()
    state.forget_run()
    assert state.run is None
    assert not state.env_file.exists()


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert State(tmp_path / "a").key != State(tmp_path / "b").key
    assert State(tmp_path / "a").key == State(tmp_path / "a").key


def test_keys_are_made_once_and_differ_from_those_of_another_stack(tmp_path: Path) -> None:
    first = Keys.load(tmp_path / "a", org="default")
    assert Keys.load(tmp_path / "a", org="default") == first
    other = Keys.load(tmp_path / "b", org="default")
    shared = set(first.model_dump(exclude={"orgs", "token", "api_key"}).values()) & set(
        other.model_dump(exclude={"orgs", "token", "api_key"}).values()
    )
    assert not shared
    assert mode(tmp_path / "a") == 0o600


def test_an_org_that_comes_later_gets_a_password_and_the_others_keep_theirs(tmp_path: Path) -> None:
    before = Keys.load(tmp_path / "keys", org="default").orgs
    after = Keys.load(tmp_path / "keys", org="acme").orgs
    assert after["default"] == before["default"]
    assert set(after) == {"default", "acme"}


FACTS = {
    "MODELYARD_URL": "http://127.0.0.1:8000",
    "MODELYARD_TOKEN": "a.b-c_d",
    "MODELYARD_MONGO_URL": "mongodb://u:p@127.0.0.1:27017/admin?replicaSet=r",
    "MODELYARD_ADMIN_PASSWORD": "it's $HOME & `more`",
    "MODELYARD_ENGINE": "unix:///run/docker.sock",
    "OTHER": "not published",
}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    state = State(tmp_path)
    state.write_env(FACTS)
    return state.env_file


def test_a_shell_reads_back_what_was_written(env_file: Path) -> None:
    script = f'. {env_file}; printf "%s" "$MODELYARD_ADMIN_PASSWORD"'
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert read.stdout == FACTS["MODELYARD_ADMIN_PASSWORD"]


def test_addresses_need_no_quoting(env_file: Path) -> None:
    lines = env_file.read_text().splitlines()
    assert f"MODELYARD_MONGO_URL={FACTS['MODELYARD_MONGO_URL']}" in lines
    assert all(len(shlex.split(line)) == 1 for line in lines)


def test_only_the_published_variables_that_are_known_are_written(env_file: Path) -> None:
    names = [line.partition("=")[0] for line in env_file.read_text().splitlines()]
    assert names == [name for name in PUBLISHED if name in FACTS]
