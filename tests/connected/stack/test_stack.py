"""`modelyard up` and `down` with what the system stands on: broker, store, registry, engine."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from pymongo import MongoClient

from pipeline.stack.pieces import dockerd
from pipeline.stack.processes.process import Owner
from pipeline.stack.state import PUBLISHED
from tests.support.archives.image_delivery import load
from tests.support.archives.images import busybox_image
from tests.support.systems.yard import BASE, Yard
from tests.support.waiting import eventually

IMAGE = "stack-test:1"

MakeYard = Callable[[str], Yard]


@pytest.fixture
def make_yard(tmp_path: Path) -> Iterator[MakeYard]:
    made: list[Yard] = []

    def make(name: str) -> Yard:
        made.append(Yard(tmp_path / name))
        return made[-1]

    yield make
    for yard in made:
        yard.run("down")


@pytest.fixture
def yard(make_yard: MakeYard) -> Yard:
    return make_yard("yard")


def up(yard: Yard, only: str = BASE) -> None:
    done = yard.run("up", "--detach", "--only", only)
    assert done.returncode == 0, done.stderr


def run_container(docker_host: str, **labels: str) -> str:
    """Returns its id."""
    load(busybox_image(), docker_host, IMAGE)
    client = docker.DockerClient(base_url=docker_host, version="auto")
    try:
        return str(client.containers.run(IMAGE, detach=True, labels=labels).id)
    finally:
        client.close()


def container_ids(docker_host: str) -> set[str]:
    client = docker.APIClient(base_url=docker_host, version="auto")
    try:
        return {container["Id"] for container in client.containers(all=True)}
    finally:
        client.close()


async def test_up_tells_where_everything_is_and_down_leaves_nothing(yard: Yard) -> None:
    up(yard)
    assert yard.state.env_file.stat().st_mode & 0o777 == 0o600
    env = yard.env
    assert set(env) <= set(PUBLISHED)
    assert await dockerd.answers(env["MODELYARD_ENGINE"])
    run_container(env["MODELYARD_ENGINE"])
    assert len(yard.processes()) >= 4

    assert yard.run("down").returncode == 0
    await eventually(lambda: yard.traces() == [])
    assert not yard.state.env_file.exists()


def test_down_is_idempotent_and_harmless_where_nothing_was(yard: Yard) -> None:
    for _ in range(2):
        done = yard.run("down")
        assert (done.returncode, "Nothing runs" in done.stderr) == (0, True)
    assert not yard.state.folder.exists()


def test_a_second_up_finds_the_first(yard: Yard) -> None:
    up(yard, "registry")
    again = yard.run("up", "--detach", "--only", "registry")
    assert again.returncode == 0
    assert "Runs already" in again.stderr
    foreground = yard.run("up", "--only", "registry")
    assert foreground.returncode == 1
    assert "modelyard down" in foreground.stderr


def test_data_and_passwords_are_kept_even_when_the_store_gets_another_port(yard: Yard) -> None:
    up(yard, "mongod")
    with MongoClient[dict[str, str]](yard.env["MODELYARD_MONGO_URL"]) as client:
        client.kept.things.insert_one({"_id": "a"})
    yard.run("down")
    yard.set("MODELYARD_MONGO_PORT", str(Yard(yard.state.folder).first_port))
    up(yard, "mongod")
    with MongoClient[dict[str, str]](yard.env["MODELYARD_MONGO_URL"]) as client:
        assert client.kept.things.find_one() == {"_id": "a"}


async def test_two_stacks_run_side_by_side(make_yard: MakeYard) -> None:
    one, other = make_yard("one"), make_yard("other")
    up(one, "nats,dockerd")
    up(other, "nats,dockerd")
    containers = [run_container(yard.env["MODELYARD_ENGINE"]) for yard in (one, other)]
    one.run("down")
    await eventually(lambda: one.traces() == [])
    assert container_ids(other.env["MODELYARD_ENGINE"]) == {containers[1]}


async def test_stacks_that_want_the_same_ports_share_them_out_with_auto(
    make_yard: MakeYard,
) -> None:
    one, other = make_yard("one"), make_yard("other")
    other.set("MODELYARD_NATS_PORT", str(one.first_port + 1))
    up(one, "nats")
    refused = other.run("up", "--detach", "--only", "nats")
    assert refused.returncode == 1
    assert "MODELYARD_NATS_PORT" in refused.stderr
    assert other.run("up", "--detach", "--ports", "auto", "--only", "nats").returncode == 0
    assert one.env["MODELYARD_NATS_URL"] != other.env["MODELYARD_NATS_URL"]


def test_a_taken_port_names_the_setting_and_starts_nothing(yard: Yard) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", yard.first_port + 3))
        squatter.listen()
        refused = yard.run("up", "--detach", "--only", BASE)
    assert refused.returncode == 1
    assert f"Port {yard.first_port + 3} is taken" in refused.stderr
    assert "MODELYARD_REGISTRY_PORT" in refused.stderr
    assert yard.traces() == []


async def test_nothing_outlives_a_supervisor_that_was_killed(yard: Yard) -> None:
    up(yard)
    run_container(yard.env["MODELYARD_ENGINE"])
    run = yard.state.run
    assert run is not None
    os.kill(run.pid, signal.SIGKILL)
    await eventually(lambda: yard.processes() == [])

    assert yard.run("down").returncode == 0
    assert yard.traces() == []


async def test_a_stack_starts_again_over_the_traces_of_a_crash(yard: Yard) -> None:
    up(yard, "nats,dockerd")
    run = yard.state.run
    assert run is not None
    os.kill(run.pid, signal.SIGKILL)
    await eventually(lambda: yard.processes() == [])
    up(yard, "nats,dockerd")
    assert await dockerd.answers(yard.env["MODELYARD_ENGINE"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stack_in_the_foreground_ends_cleanly_on_a_signal(
    yard: Yard, number: signal.Signals
) -> None:
    with yard.start("up", "--only", "nats,dockerd") as stack:
        assert stack.stdout is not None
        for line in stack.stdout:
            if "All addresses" in line:
                break
        stack.send_signal(number)
    assert stack.returncode == 0
    assert yard.traces() == []


async def test_a_piece_that_dies_comes_back_at_the_same_place(yard: Yard) -> None:
    up(yard, "nats,registry")
    before = yard.env
    run = yard.state.run
    assert run is not None
    broker = next(child for child in children(run.pid) if "nats-server" in command(child))
    os.kill(broker, signal.SIGKILL)

    def came_back() -> bool:
        found = [child for child in children(run.pid) if "nats-server" in command(child)]
        return found not in ([], [broker])

    await eventually(came_back)
    await eventually(lambda: "ok   broker" in yard.run("doctor").stdout)
    assert yard.env == before
    assert "nats died" in yard.state.log("supervisor").read_text()


async def test_on_an_engine_that_was_there_only_our_containers_are_removed(
    yard: Yard, docker_host: str
) -> None:
    yard.set("DOCKER_HOST", docker_host)
    up(yard, "nats,dockerd")
    run = yard.state.run
    assert run is not None
    assert yard.env["MODELYARD_ENGINE"] == docker_host
    ours = run_container(docker_host, **{"modelyard.installation": run.installation})
    theirs = run_container(docker_host, **{"modelyard.installation": "another"})
    yard.run("down")
    left = container_ids(docker_host)
    assert ours not in left
    assert theirs in left
    assert await dockerd.answers(docker_host)


def test_the_doctor_knows_a_healthy_stack_from_a_taken_port(yard: Yard) -> None:
    refused = yard.run("collect")
    assert (refused.returncode, "No stack" in refused.stderr) == (1, True)
    up(yard, "nats,mongod,registry")
    collected = yard.run("collect")
    assert collected.stdout == "0.0 MiB given back.\n", collected.stderr
    healthy = yard.run("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(healthy.stdout)}
    assert healthy.returncode == 0, healthy.stdout
    assert all(findings[name]["ok"] for name in ("broker", "store", "registry"))
    assert findings["registry space"]["detail"] == "0 MiB used, 0 MiB of it can be given back"
    yard.run("down")

    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", yard.first_port))
        squatter.listen()
        ill = yard.run("doctor")
    assert ill.returncode == 1
    assert f"FAIL port {yard.first_port}: taken" in ill.stdout
    assert "MODELYARD_API_PORT" in ill.stdout


def children(pid: int) -> list[int]:
    """Of the main thread, from which the supervisor starts everything."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text() if Owner.of(pid).alive else ""
