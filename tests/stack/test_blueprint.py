from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.settings import Settings
from pipeline.stack.blueprint import Blueprint, draw
from pipeline.stack.keys import Keys
from pipeline.stack.names import PIECES
from pipeline.stack.ports import Claims
from pipeline.stack.state import State

BASE = frozenset({"nats", "mongod", "registry"})


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path)
    state.create()
    return state


async def drawn(
    state: State, environ: dict[str, str], only: frozenset[str] = BASE, **settings: int
) -> Blueprint:
    keys = Keys(orgs={"default": "secret"})
    given = Settings(**settings)  # type: ignore[arg-type]
    with Claims() as claims:
        return await draw(given, environ, state, keys, claims, auto_ports=True, only=only)


def names(blueprint: Blueprint) -> list[str]:
    return [piece.name for piece in blueprint.base + blueprint.apps]


async def test_everything_is_started_here_unless_it_is_given(state: State) -> None:
    blueprint = await drawn(state, {})
    assert names(blueprint) == ["nats", "mongod", "registry"]
    assert set(blueprint.addresses) == {
        "MODELYARD_NATS_URL",
        "MODELYARD_MONGO_URL",
        "MODELYARD_REGISTRY",
    }


async def test_a_piece_that_is_given_by_address_is_not_started(state: State) -> None:
    blueprint = await drawn(state, {"MODELYARD_NATS_URL": "nats://cluster:4222"})
    assert names(blueprint) == ["mongod", "registry"]
    assert blueprint.addresses["MODELYARD_NATS_URL"] == "nats://cluster:4222"


async def test_an_address_that_the_last_start_put_into_the_shell_is_not_given(
    state: State,
) -> None:
    first = await drawn(state, {})
    state.write_addresses(first.addresses)
    assert names(await drawn(state, dict(first.addresses))) == names(first)


async def test_no_two_pieces_get_the_same_port(state: State) -> None:
    ports = dict.fromkeys(("nats_port", "mongo_port", "registry_port"), 21_000)
    blueprint = await drawn(state, {}, **ports)
    assert len({piece.port for piece in blueprint.base}) == 3  # type: ignore[attr-defined]


async def test_two_stacks_on_one_engine_do_not_share_containers(
    state: State, tmp_path: Path
) -> None:
    other = await drawn(State(tmp_path / "other"), {})
    assert (await drawn(state, {})).installation != other.installation
    named = await drawn(state, {"MODELYARD_INSTALLATION": "mine"})
    assert named.installation == "mine"


async def test_an_engine_that_is_given_but_silent_is_an_error(state: State) -> None:
    given = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    with pytest.raises(Misconfigured, match="unix:///nowhere"):
        await drawn(state, given, only=frozenset({"dockerd"}))


async def test_the_processes_are_told_where_everything_is(state: State) -> None:
    blueprint = await drawn(state, {"MODELYARD_URL": "https://yard.example"}, only=BASE | {"api"})
    told = blueprint.app_env
    assert told["MODELYARD_URL"] == "https://yard.example"
    assert told["MODELYARD_STATE"] == str(state.folder)
    assert told["MODELYARD_NATS_URL"] == blueprint.addresses["MODELYARD_NATS_URL"]
    assert told["MODELYARD_INSTALLATION"] == blueprint.installation
    assert len(told["MODELYARD_SIGNING_KEY"]) >= 32


async def test_a_piece_that_does_not_exist_is_named_with_those_that_do(state: State) -> None:
    with pytest.raises(Misconfigured, match=f"kafka.*{PIECES[0]}"):
        await drawn(state, {}, only=frozenset({"kafka"}))
