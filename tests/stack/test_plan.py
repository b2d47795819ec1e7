from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from pipeline.settings import Settings
from pipeline.stack import PIECES
from pipeline.stack.plan import Plan, StartOptions, make_plan
from pipeline.stack.processes.probes import Claims
from pipeline.stack.state import Keys, State

BASE = frozenset({"nats", "mongod", "registry"})


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path)
    state.create()
    return state


async def planned(
    state: State, environ: dict[str, str], only: frozenset[str] = BASE, **settings: int
) -> Plan:
    keys = Keys(orgs={"default": "secret"})
    given = Settings(**settings)  # type: ignore[arg-type]
    with Claims() as claims:
        options = StartOptions(auto_ports=True, only=only)
        return await make_plan(given, environ, state, keys, claims, options)


def names(plan: Plan) -> list[str]:
    return [piece.name for piece in plan.base + plan.apps]


async def test_everything_is_started_here_unless_it_is_given(state: State) -> None:
    plan = await planned(state, {})
    assert names(plan) == ["nats", "mongod", "registry"]
    assert set(plan.addresses) == {
        "MODELYARD_NATS_URL",
        "MODELYARD_MONGO_URL",
        "MODELYARD_REGISTRY",
    }


async def test_a_piece_that_is_given_by_address_is_not_started(state: State) -> None:
    plan = await planned(state, {"MODELYARD_NATS_URL": "nats://cluster:4222"})
    assert names(plan) == ["mongod", "registry"]
    assert plan.addresses["MODELYARD_NATS_URL"] == "nats://cluster:4222"


async def test_an_address_that_the_last_start_put_into_the_shell_is_not_given(state: State) -> None:
    first = await planned(state, {})
    state.write_addresses(first.addresses)
    assert names(await planned(state, dict(first.addresses))) == names(first)


async def test_no_two_pieces_get_the_same_port(state: State) -> None:
    ports = dict.fromkeys(("nats_port", "mongo_port", "registry_port"), 21_000)
    plan = await planned(state, {}, **ports)
    assert len({piece.port for piece in plan.base}) == 3  # type: ignore[attr-defined]


async def test_two_stacks_on_one_engine_do_not_share_containers(
    state: State, tmp_path: Path
) -> None:
    other = await planned(State(tmp_path / "other"), {})
    assert (await planned(state, {})).installation != other.installation
    named = await planned(state, {"MODELYARD_INSTALLATION": "mine"})
    assert named.installation == "mine"


async def test_an_engine_that_is_given_but_silent_is_an_error(state: State) -> None:
    given = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    with pytest.raises(Misconfigured, match="unix:///nowhere"):
        await planned(state, given, only=frozenset({"dockerd"}))


async def test_the_processes_are_told_where_everything_is(state: State) -> None:
    plan = await planned(state, {"MODELYARD_URL": "https://yard.example"}, only=BASE | {"api"})
    told = plan.app_env
    assert told["MODELYARD_URL"] == "https://yard.example"
    assert told["MODELYARD_STATE"] == str(state.folder)
    assert told["MODELYARD_NATS_URL"] == plan.addresses["MODELYARD_NATS_URL"]
    assert told["MODELYARD_INSTALLATION"] == plan.installation
    assert len(told["MODELYARD_SIGNING_KEY"]) >= 32


async def test_what_the_user_set_wins_over_what_was_made_up(state: State) -> None:
    given = {
        "MODELYARD_SIGNING_KEY": "mine",
        "MODELYARD_ENCRYPTION_KEYS": "",
        "MODELYARD_ORG": "elsewhere",
        "HOME": "/root",
    }
    told = (await planned(state, given, only=frozenset({"api"}))).app_env
    assert told["MODELYARD_SIGNING_KEY"] == "mine"
    assert told["MODELYARD_ENCRYPTION_KEYS"].startswith("k1:")
    assert told["MODELYARD_ORG"] == Settings().org
    assert told["HOME"] == "/root"


async def test_addresses_of_this_start_win_over_those_in_the_shell(state: State) -> None:
    earlier = {"MODELYARD_NATS_URL": "nats://earlier"}
    state.write_addresses(earlier)
    plan = await planned(state, earlier, only=frozenset({"nats", "api"}))
    assert plan.app_env["MODELYARD_NATS_URL"] == plan.addresses["MODELYARD_NATS_URL"]
    assert plan.app_env["MODELYARD_NATS_URL"] != "nats://earlier"


async def test_a_piece_that_does_not_exist_is_named_with_those_that_do(state: State) -> None:
    with pytest.raises(Misconfigured, match=f"kafka.*{PIECES[0]}"):
        await planned(state, {}, only=frozenset({"kafka"}))


async def test_only_api_and_workers_get_the_keys_that_sign(state: State) -> None:
    apps = frozenset({"api", "workers", "agent"})
    plan = await planned(state, {}, only=BASE | apps)
    environments = {piece.name: piece.environment() or {} for piece in plan.apps}
    signing = {"MODELYARD_SIGNING_KEY", "MODELYARD_REGISTRY_KEYS", "MODELYARD_ADMIN_PASSWORD"}
    assert signing <= environments["api"].keys() & environments["workers"].keys()
    assert not signing & environments["agent"].keys()
    assert environments["agent"]["MODELYARD_ENCRYPTION_KEYS"]


async def test_a_registry_that_is_given_is_not_shown_a_key_that_was_made_up(state: State) -> None:
    given = {"MODELYARD_REGISTRY": "registry.example:5000"}
    plan = await planned(state, given, only=BASE | {"api"})
    assert plan.app_env["MODELYARD_REGISTRY_KEYS"] == ""
    plan = await planned(state, given | {"MODELYARD_REGISTRY_KEYS": "theirs"}, only=BASE | {"api"})
    assert plan.app_env["MODELYARD_REGISTRY_KEYS"] == "theirs"


@pytest.mark.parametrize(
    ("given", "slug"),
    [
        ({}, "default"),
        ({"MODELYARD_ORG_ID": "acme"}, "acme"),
        ({"MODELYARD_ORG_ID": "462b4081-2c22-57d0-bc52-1c87b5e1e9c5"}, "default"),
        ({"MODELYARD_ORG": "own", "MODELYARD_ORG_ID": "acme"}, "own"),
    ],
)
def test_the_slug_may_stand_where_an_earlier_version_read_it(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], slug: str
) -> None:
    for name in ("MODELYARD_ORG", "MODELYARD_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings().org == slug
