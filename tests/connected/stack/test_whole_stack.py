"""`modelyard up` with everything: what `.modelyard/env` promises is true."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import nats
import pytest
from nats.aio.client import Client

from pipeline import topology
from pipeline.stack.pieces.nats import inbox_prefix, org_user
from pipeline.stack.state import PUBLISHED, Keys
from tests.support.systems.yard import Yard
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    yard = Yard(tmp_path_factory.mktemp("whole"), MODELYARD_SIMULATED_GPUS="2xH100-80GB")
    up = yard.run("up", "--detach", "--ports", "auto")
    assert up.returncode == 0, up.stderr
    yield yard
    yard.run("down")


@pytest.fixture
async def org_client(yard: Yard) -> AsyncIterator[Client]:
    env, keys = yard.env, Keys.model_validate_json(yard.state.keys_file.read_text())
    org = env["MODELYARD_ORG"]
    host = env["MODELYARD_NATS_URL"].rpartition("@")[2]
    client = await nats.connect(
        f"nats://{org_user(org)}:{keys.orgs[org]}@{host}", inbox_prefix=inbox_prefix(org).encode()
    )
    yield client
    await client.close()


def get(yard: Yard, path: str, authorization: str) -> httpx.Response:
    headers = {"Authorization": authorization}
    return httpx.get(yard.env["MODELYARD_URL"] + path, headers=headers, timeout=10)


def test_everything_that_is_published_is_known(yard: Yard) -> None:
    assert set(yard.env) == set(PUBLISHED)
    assert all(yard.env.values())


def test_the_token_and_the_key_open_the_door(yard: Yard) -> None:
    env = yard.env
    token, key = f"Bearer {env['MODELYARD_TOKEN']}", f"ApiKey {env['MODELYARD_API_KEY']}"
    assert get(yard, "/yard/v1/images", token).status_code == 200
    assert get(yard, "/yard/v1/images", key).status_code == 200
    assert get(yard, "/yard/v1/images", f"{token}x").status_code == 401


async def test_this_machine_reports_as_a_node_with_its_simulated_gpus(yard: Yard) -> None:
    token = f"Bearer {yard.env['MODELYARD_TOKEN']}"

    def two_gpus() -> bool:
        nodes = get(yard, "/yard/v1/nodes", token).json()["items"]
        return [len(node["inventory"]["gpus"]) for node in nodes] == [2]

    await eventually(two_gpus)


async def test_an_org_reads_its_own_events_on_the_broker(yard: Yard, org_client: Client) -> None:
    org = yard.env["MODELYARD_ORG"]
    reader = await org_client.jetstream().pull_subscribe_bind(
        topology.org_reader(org).durable,
        topology.EVENTS.name,
        inbox_prefix=f"{inbox_prefix(org)}.".encode(),
    )
    message, *_ = await reader.fetch(1, timeout=15)
    assert topology.parse_event(message.subject).org == org
    await message.ack_sync()


async def test_an_org_gives_a_command_without_http(yard: Yard, org_client: Client) -> None:
    org = yard.env["MODELYARD_ORG"]
    receipt = await org_client.jetstream().publish(
        topology.command(org, "image", "create"), b"not a command", headers={"Nats-Msg-Id": "x"}
    )
    assert receipt.stream == topology.asked(org).name


def test_the_doctor_finds_everything_well(yard: Yard) -> None:
    done = yard.run("doctor", "--json")
    names = {finding["name"] for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {"broker", "store", "registry", "api", "engine"} <= names


def test_the_command_line_finds_the_stack_by_itself(yard: Yard) -> None:
    done = yard.run("token", "list", "--json")
    assert done.returncode == 0, done.stderr
    assert [token["name"] for token in json.loads(done.stdout)] == ["local-stack"] * 2


async def test_a_stack_that_comes_back_keeps_its_token_and_leaves_nothing_when_it_goes(
    yard: Yard, tmp_path: Path
) -> None:
    before = yard.env
    down = yard.run("down")
    assert down.returncode == 0, down.stderr
    await eventually(lambda: yard.traces() == [])

    assert yard.run("up", "--detach", "--ports", "auto").returncode == 0
    for name in ("MODELYARD_TOKEN", "MODELYARD_API_KEY", "MODELYARD_ADMIN_PASSWORD"):
        assert yard.env[name] == before[name]
    assert get(yard, "/yard/v1/nodes", f"Bearer {before['MODELYARD_TOKEN']}").status_code == 200
