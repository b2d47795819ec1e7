from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Conflict, InvalidInput, Misconfigured, NotFound
from pipeline.stack.broker_login import broker_login
from pipeline.stack.pieces.nats import NatsPiece, accounts
from pipeline.stack.processes.process import Owner
from pipeline.stack.state import Keys, Run, State


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Of a stack whose broker is its own, run by this process."""
    state = State(tmp_path / "state")
    state.create()
    keys = Keys.load(state.keys_file, org="acme")
    me = Owner.me()
    state.write_run(Run(pid=me.pid, started=me.started))
    nats = NatsPiece(tmp_path, port=4333, password=keys.nats_password)
    state.write_addresses({"MODELYARD_NATS_URL": nats.url})
    return state


def test_a_login_is_the_user_that_the_broker_knows_with_its_permissions(state: State) -> None:
    login = broker_login(state, "acme")
    keys = Keys.model_validate_json(state.keys_file.read_text())
    (user,) = accounts(keys.nats_password, keys.orgs)["ORG_acme"]["users"]
    assert (user["user"], user["password"]) == (login.user, login.password)
    assert user["permissions"]["publish"]["allow"] == login.publish
    assert user["permissions"]["subscribe"]["allow"] == login.subscribe
    assert login.url == "nats://127.0.0.1:4333"
    assert f"{login.commands}.>" in login.publish
    assert {login.events, f"{login.inbox_prefix}.>"} == set(login.subscribe)


def test_the_system_password_is_in_no_login(state: State) -> None:
    keys = Keys.model_validate_json(state.keys_file.read_text())
    assert keys.nats_password not in broker_login(state, "acme").model_dump_json()


def test_an_organisation_without_a_user_is_not_found(state: State) -> None:
    with pytest.raises(NotFound, match="modelyard orgs list"):
        broker_login(state, "other")
    with pytest.raises(InvalidInput):
        broker_login(state, "acme.>")


def test_the_passwords_of_another_broker_are_not_ours_to_tell(state: State) -> None:
    state.write_addresses({"MODELYARD_NATS_URL": "nats://modelyard:theirs@broker:4222"})
    with pytest.raises(Misconfigured, match="not its own"):
        broker_login(state, "acme")


def test_a_stack_that_does_not_run_has_no_broker(state: State) -> None:
    state.forget_run()
    with pytest.raises(Conflict, match="modelyard up"):
        broker_login(state, "acme")
